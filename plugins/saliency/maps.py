"""The gradients and maps of the saliency study, refused where they would mislead."""

import torch
from torch import Tensor, nn

from interp.attribution import saliency
from interp.attribution.methods import Task, attribute, falls_short, unfit
from interp.attribution.saliency import Saliency
from interp.result import finite


def gradients(net: nn.Module, task: Task) -> Saliency:
    """The gradients of the five panels; raises ValueError where they are not finite."""
    panels = saliency(net, task.images, task.targets, task.blank, task.batch_size)
    finite(torch.cat([panels.gradient, panels.baseline]), "the gradients")
    return panels


def maps_of(net: nn.Module, method: str, task: Task) -> Tensor:
    """(B, H, W) summed over channels; raises ValueError where they would not mean what the name says."""
    if why := unfit(net, method, task.images, task.layer):
        raise ValueError(why)
    maps = attribute(net, method, task)
    if why := falls_short(net, method, task, maps):
        raise ValueError(why)
    return maps.sum(dim=1)
