"""What pushed a logit: gradients at the input, and attributions to every class at a layer."""

from interp.attribution.classes import (
    ablation_effects,
    all_classes,
    channel_attribution,
    choose_classes,
    group_effects,
)
from interp.attribution.saliency import Saliency, saliency
from interp.attribution.tail import Tail

__all__ = [
    "Saliency",
    "Tail",
    "ablation_effects",
    "all_classes",
    "channel_attribution",
    "choose_classes",
    "group_effects",
    "saliency",
]
