"""What neuron groups do to the logits of some classes: to first order, and by taking a group away."""

import torch
from torch import Tensor

from interp.attribution import Tail, ablation_effects, group_effects
from interp.factorization import NeuronGroups
from interp.result import finite


@torch.no_grad()
def linear_effects(tails: list[Tail], groups: NeuronGroups, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Effects (B, K, T) to first order of the groups on the `classes` (B, T), and (B, T) of what they leave out.

    The `tails` take the B images batch by batch. Raises ValueError where effects are not finite.
    """
    pairs = [group_effects(tail, spatial, groups.channel) for tail, spatial in _by_batch(tails, groups)]
    effects, residual = (torch.cat(column) for column in zip(*pairs, strict=True))
    return _at(effects, classes), finite(residual.gather(1, classes), "they")


@torch.no_grad()
def exact_effects(tails: list[Tail], groups: NeuronGroups, classes: Tensor) -> Tensor:
    """Effects (B, K, T) on the `classes` (B, T) of taking each group's activations away.

    The `tails` take the B images batch by batch. Raises ValueError where effects are not finite.
    """
    effects = [ablation_effects(tail, spatial, groups.channel) for tail, spatial in _by_batch(tails, groups)]
    return _at(torch.cat(effects), classes)


def _by_batch(tails: list[Tail], groups: NeuronGroups) -> list[tuple[Tail, Tensor]]:
    return list(zip(tails, groups.spatial.split([len(tail.images) for tail in tails]), strict=True))


def _at(effects: Tensor, classes: Tensor) -> Tensor:
    """Effects (B, K, J) on the `classes` (B, T): (B, K, T)."""
    return finite(effects.gather(2, classes[:, None].expand(-1, effects.shape[1], -1)), "they")
