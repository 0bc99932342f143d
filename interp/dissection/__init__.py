"""Which unit detects which concept (Bau et al. 2017, "Network Dissection")."""

from interp.dissection.broden import Broden
from interp.dissection.changes import Change, change
from interp.dissection.concepts import ConceptData, Concepts, Labels
from interp.dissection.result import Dissection
from interp.dissection.segmentation import Segmentation, segmentation_folder
from interp.dissection.stream import dissect, observe, tally

__all__ = [
    "Broden", "Change", "ConceptData", "Concepts", "Dissection", "Labels", "Segmentation", "change", "dissect",
    "observe", "segmentation_folder", "tally",
]  # fmt: skip
