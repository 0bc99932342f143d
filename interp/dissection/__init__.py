"""Which unit detects which concept (Bau et al. 2017, "Network Dissection")."""

from interp.dissection.broden import Broden
from interp.dissection.change import Change, change
from interp.dissection.concepts import ConceptData, Concepts, Labels
from interp.dissection.dissect import dissect, observe, tally
from interp.dissection.result import Dissection
from interp.dissection.segmentation import Segmentation, segmentation_folder

__all__ = [
    "Broden", "Change", "ConceptData", "Concepts", "Dissection", "Labels", "Segmentation", "change", "dissect",
    "observe", "segmentation_folder", "tally",
]  # fmt: skip
