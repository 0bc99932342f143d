"""Neuron groups of a layer: NMF of its activations (Olah et al. 2018, "The Building Blocks of Interpretability")."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.factorization.nmf import nmf


@dataclass(frozen=True)
class NeuronGroups:
    """Groups of channels that fire together, and where."""

    spatial: Tensor  # (B, K, H, W) how strongly each group fires where, in units of activation
    channel: Tensor  # (K, C) which channels a group is made of, length 1
    relative_error: float  # share of the activations' norm that the groups leave out


def neuron_groups(activations: Tensor, groups: int, **options) -> NeuronGroups:
    """Factorise `activations` (B, C, H, W) >= 0 of all images together into `groups` K, ordered by horizontal peak.

    `options` go to `nmf`. Raises UserError for negative activations, ValueError for NaN.
    """
    images, channels, height, width = activations.shape
    factors = nmf(activations.permute(0, 2, 3, 1).reshape(-1, channels), groups, **options)
    spatial = factors.spatial.reshape(images, height, width, groups).permute(0, 3, 1, 2)
    order = horizontal_peak(spatial).argsort(stable=True)
    return NeuronGroups(spatial[:, order], factors.channel[order], factors.relative_error)


def horizontal_peak(spatial: Tensor) -> Tensor:
    """The column (K,) int64 in which each group's map is highest, for maps (B, K, H, W) averaged over the images.

    Lucid's order of the groups: argmax over x of the maximum over y.
    """
    return spatial.mean(dim=0).amax(dim=1).argmax(dim=1)


def match_groups(channel: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Which row of `channel` (K, C) continues each row of `previous` (K, C), and the cosine between the two.

    Both (K,): int64 indices into `channel`, one to one, and float32 cosines; the assignment with the largest sum of
    cosines (Hungarian algorithm). A dead group (a row of zeros) has cosine 0 to all.
    """
    from scipy.optimize import linear_sum_assignment

    cosine = torch.nn.functional.normalize(previous, dim=1) @ torch.nn.functional.normalize(channel, dim=1).T
    order = torch.from_numpy(linear_sum_assignment(-cosine.numpy())[1])
    return order, cosine.gather(1, order[:, None])[:, 0]


def hoyer_sparsity(factors: Tensor) -> Tensor:
    """Sparsity in [0, 1] of each row of `factors` (K, M): 0 where all entries are equal, 1 where one is not zero.

    Hoyer 2004: (sqrt(M) - L1 / L2) / (sqrt(M) - 1); 1 for a row of zeros.

    >>> hoyer_sparsity(torch.tensor([[1.0, 1.0], [0.0, 3.0]])).round(decimals=3).tolist()
    [0.0, 1.0]
    """
    root = factors.shape[1] ** 0.5
    ratio = factors.abs().sum(dim=1) / factors.norm(dim=1)
    return ((root - ratio) / max(root - 1, 1e-12)).nan_to_num(1.0).clamp(0, 1)
