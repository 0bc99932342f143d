"""Which unit detects which concept (Bau et al. 2017, "Network Dissection")."""

from interp.dissection.changes import Change, change
from interp.dissection.concepts.broden import Broden
from interp.dissection.concepts.data import ConceptData, Concepts, Labels
from interp.dissection.concepts.segmentation import Segmentation, segmentation_folder
from interp.dissection.concepts.source import concept_data, targets_of
from interp.dissection.result import Dissection, broken_units, untold
from interp.dissection.stream import dissect, observe, tally, usual_quantile
from interp.dissection.top import TopImages, dissect_layers, evidence

__all__ = [
    "Broden", "Change", "ConceptData", "Concepts", "Dissection", "Labels", "Segmentation", "TopImages", "broken_units",
    "change", "concept_data", "dissect", "dissect_layers", "evidence", "observe", "segmentation_folder", "tally",
    "targets_of", "untold", "usual_quantile",
]  # fmt: skip
