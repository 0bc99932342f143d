"""Studies of a network: one Lightning callback a file, each configured by conf/plugin/<name>.yaml.

`from plugins import NMF, Saliency` imports the studies that are named, and no other; NMF is `plugins.nmf.NMFPlugin`.
"""

from importlib import import_module
from typing import Any

STUDIES = {
    "AxisAlignment": "axis_alignment", "Caricature": "caricature", "ClassAttribution": "class_attribution",
    "Confusion": "confusion", "Dissection": "dissection", "FeatureVisualization": "feature_visualization",
    "NMF": "nmf", "Projection": "projection", "Robustness": "robustness", "Saliency": "saliency",
    "Similarity": "similarity",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in STUDIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; studies are {', '.join(STUDIES)}")
    return getattr(import_module(f"{__name__}.{STUDIES[name]}"), f"{name}Plugin")


def __dir__() -> list[str]:
    return sorted({*globals(), *STUDIES})
