"""Neuron groups of a layer: activations factorised ("The Building Blocks of Interpretability", Olah et al. 2018)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from interp.errors import UserError
from interp.factorization.encode import Basis
from interp.factorization.reducers import factorise
from interp.factorization.trust import choose_groups
from interp.processes.share import gathered, summed
from interp.vectors import correlations, directions, energy, fraction, matched


@dataclass(frozen=True)
class NeuronGroups:
    """Groups of channels that fire together, and where."""

    spatial: Tensor  # (B, K, H, W) how strongly each group fires where, in units of activation
    channel: Tensor  # (K, C) which channels a group is made of, length 1; signed where negative activations were split
    relative_error: float  # norm of what these groups leave out over the norm of what was factorised, 0 to 1
    negative_share: float  # of the activations' energy (sum of squares), 0 to 1
    curve: Tensor  # (M,) relative errors of 1 to M groups where the count was chosen from them, else (0,)

    def ordered(self, order: Tensor) -> "NeuronGroups":
        """The same groups in another `order` (K,)."""
        return replace(self, spatial=self.spatial[:, order], channel=self.channel[order])


def neuron_groups(activations: Tensor, groups: int | str, **options) -> NeuronGroups:
    """The groups that `fitted_groups` finds with the same arguments, where no other images are to be encoded."""
    return fitted_groups(activations, groups, **options)[0]


def fitted_groups(
    activations: Tensor,
    groups: int | str,
    *,
    negative: str = "error",
    solver: str = "hals",
    shared: bool = False,
    **options,
) -> tuple[NeuronGroups, Basis]:
    """Factorise `activations` (B, C, H, W) of all images together into `groups` K, ordered by horizontal peak.

    Also what `encode` needs to find the same groups in other images. `groups` "auto" chooses K by `choose_groups`. Of
    negative activations, `negative` says what becomes: "rectify" drops them, "split" factorises both signs side by
    side, "error" raises. With `shared`, `activations` are one process's share (`interp.processes.share`) and the groups
    those of all images: NMF adds up Gram matrices, the other solvers and "auto" get all rows. `solver` and `options` go
    to `factorise`, whose errors are raised.
    """
    if shared and (solver != "hals" or groups == "auto"):
        activations, shared = gathered([activations]), False
    images, channels, height, width = activations.shape
    rows = activations.permute(0, 2, 3, 1).reshape(-1, channels).float()  # (B H W, C)
    negative_share = _negative_share(rows, shared)
    curve = torch.zeros(0, dtype=torch.float64)
    if groups == "auto":
        groups, curve = choose_groups(rows, solver=solver, negative=negative)
    if not isinstance(groups, int):
        raise UserError(f"groups={groups!r}: give a whole number, or auto")
    factors = factorise(rows, groups, solver, negative, signed=negative_share > 0, shared=shared, **options)
    maps = factors.spatial.reshape(images, height, width, groups).permute(0, 3, 1, 2)
    maps = gathered([maps]) if shared else maps
    order = horizontal_peak(maps).argsort(stable=True)
    result = NeuronGroups(maps, factors.channel, float(factors.relative_error), negative_share, curve)
    basis = Basis(factors.channel if factors.basis is None else factors.basis, solver, negative)
    return result.ordered(order), basis.ordered(order)


def _negative_share(rows: Tensor, shared: bool) -> float:
    """What negative values have of the rows' sum of squares, of all processes where they share the rows."""
    sums = torch.stack([energy(rows, (0, 1)), energy(rows.clamp_max(0), (0, 1))])
    whole, below = summed(sums) if shared else sums
    return float(fraction(below, whole))


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
    cosine = directions(previous) @ directions(channel).T
    order = matched(cosine)[1]
    return order, cosine.gather(1, order[:, None])[:, 0]


def match_maps(spatial: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Which group of `spatial` (B, K, h, w) fires where each of `reference` (B, K', h', w') does on the same images.

    Both of other networks: their grids may differ. Indices (K,) int64 into `spatial`, those of no partner last, and
    the correlations (min(K, K'),) float32 over images and positions, of the assignment with the largest sum.
    """
    size = min(spatial.shape[-2], reference.shape[-2]), min(spatial.shape[-1], reference.shape[-1])
    # (K', P) and (K, P), over all images and positions
    pooled = [adaptive_avg_pool2d(maps.float(), size).transpose(0, 1).flatten(1) for maps in (reference, spatial)]
    correlation = correlations(*pooled)
    rows, columns = matched(correlation)
    rest = torch.tensor([k for k in range(spatial.shape[1]) if k not in columns.tolist()], dtype=torch.int64)
    return torch.cat([columns, rest]), correlation[rows, columns]


def hoyer_sparsity(factors: Tensor) -> Tensor:
    """Sparsity in [0, 1] of each row of `factors` (K, M): 0 where all entries are equal, 1 where one is not zero.

    Hoyer 2004: (sqrt(M) - L1 / L2) / (sqrt(M) - 1); 1 for a row of zeros.

    >>> hoyer_sparsity(torch.tensor([[1.0, 1.0], [0.0, 3.0]])).round(decimals=3).tolist()
    [0.0, 1.0]
    """
    root = factors.shape[1] ** 0.5
    ratio = factors.abs().sum(dim=1) / factors.norm(dim=1)
    return ((root - ratio) / max(root - 1, 1e-12)).nan_to_num(1.0).clamp(0, 1)
