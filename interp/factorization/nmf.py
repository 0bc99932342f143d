"""NMF by hierarchical alternating least squares on Gram matrices (Cichocki & Phan 2009), on any device.

Within this file factors lie as W (G, K, N), spatial, and S (G, K, C), channel: G matrices at once, every group's row
contiguous, X ~ W'S. For W fixed, `gram` is WW' and `cross` is WX; for S fixed they are SS' and SX'.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import UserError
from interp.factorization.hals import hals, squared_error
from interp.factorization.matrix import Matrix
from interp.factorization.start import start_of
from interp.processes.share import before, summed

PLAIN = 2  # sweeps before extrapolation begins: earlier it can leave the valley that NNDSVD chose


@dataclass(frozen=True)
class Factors:
    """X ~ spatial @ channel, both non-negative; the rows of `channel` have length 1 (or 0 for a dead group)."""

    spatial: Tensor  # (N, K) or (G, N, K) float32
    channel: Tensor  # (K, C) or (G, K, C) float32
    relative_error: Tensor  # () or (G,) float64: ||X - spatial @ channel|| / ||X||, 0 for X = 0
    sweeps: int  # until the change of the squared error fell below the tolerance
    basis: Tensor | None = None  # what `Basis.factors` of it are, where they are not `channel`


@torch.no_grad()
def nmf(
    rows: Tensor,
    groups: int,
    *,
    start: Tensor | None = None,
    sweeps: int = 200,
    tolerance: float = 1e-4,
    sample: int = 4096,
    block: int = 4096,
    device: torch.device | str | None = None,
    shared: bool = False,
) -> Factors:
    """Factorise `rows` (N, C) >= 0, or G such matrices (G, N, C) at once, into `groups` K factors, deterministically.

    A sweep reads the rows once, `block` at a time (moved to `device` if it is given, so that the matrix may be larger
    than the device's memory), and updates both factors. It ends when the squared error changes by less than
    `tolerance` of itself, or after `sweeps`. The start is `start` (K, C) or (G, K, C), or that of `start_of`
    (NNDSVD, improved); of more than twice `sample` rows, a sample of them is factorised first. A row of NaN is missing:
    it counts for nothing and its spatial factors are 0. With `shared`, `rows` are one process's share
    (`interp.processes.share`), as are the spatial factors then: a sweep sends K x (K + C) numbers. Raises UserError for
    negative rows, no sweep or more groups than rows or channels, ValueError for infinite or partly missing rows.
    """
    batch = rows if rows.ndim == 3 else rows[None]
    count = int(summed(torch.tensor(batch.shape[1]))) if shared else batch.shape[1]
    check_fit(count, batch.shape[2], groups, sweeps)
    matrix = Matrix.read(batch, block, torch.device(device) if device else rows.device, shared, count)
    spatial, channel = _start(matrix, groups, start, sample)
    factors = _descend(matrix, spatial, channel, sweeps, tolerance)
    if rows.ndim == 3:
        return factors
    return Factors(factors.spatial[0], factors.channel[0], factors.relative_error[0], factors.sweeps)


def check_fit(count: int, channels: int, groups: int, sweeps: int) -> None:
    """Raise UserError where `count` rows of `channels` cannot be factorised into `groups` in `sweeps`."""
    if sweeps < 1:
        raise UserError(f"sweeps={sweeps}: must be at least 1")
    if not 1 <= groups <= min(count, channels):
        raise UserError(
            f"groups={groups} does not fit {count} positions x {channels} channels: choose 1 to {min(count, channels)}"
        )


def _start(matrix: Matrix, groups: int, start: Tensor | None, sample: int) -> tuple[Tensor, Tensor]:
    """Spatial (G, K, N) and channel factors (G, K, C) to begin with."""
    count, rows = matrix.rows.shape[:2]
    spatial = torch.zeros(count, groups, rows, device=matrix.device)
    most = -(-sample * rows // matrix.count)  # of this process's rows
    if start is not None:
        channel = start.to(spatial).expand(count, groups, -1).clone()
    elif matrix.count > 2 * sample:
        chosen = torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:most].sort().values
        channel = nmf(matrix.together(chosen), groups, sweeps=20, tolerance=1e-3).channel
    else:
        spatial, channel = start_of(matrix.together(slice(None)), groups)
        first = before(rows) if matrix.shared else 0
        spatial = spatial[..., first : first + rows].contiguous()
    return spatial, matrix.first(channel)


def _descend(matrix: Matrix, spatial: Tensor, channel: Tensor, sweeps: int, tolerance: float) -> Factors:
    """Sweep until the error stands still, each factor carried on beyond its update by a momentum.

    ahead_W <- max(0, W + (1 + momentum) (updated W - W)), with W the update before, and the same for S (Ang & Gillis
    2019): halves the sweeps. As long as the error falls, the momentum grows by 1.05 up to a limit and that by 1.01 up
    to 1. Where the error rose, the extrapolation is taken back, the limit becomes the momentum, the momentum shrinks
    by 1.5.
    """
    ahead_spatial, ahead_channel, error, done = spatial.clone(), channel, matrix.total, 0
    momentum, momentum_limit = (torch.full((len(error), 1, 1), value, device=matrix.device) for value in (0.5, 1.0))
    fresh = not spatial.any()
    for done in range(1, sweeps + 1):
        extrapolate = done > PLAIN
        gram, cross = _sweep(
            matrix, spatial, ahead_spatial, ahead_channel, momentum if extrapolate else None, fresh and done == 1
        )
        updated = hals(ahead_channel, gram, cross)
        previous, error = error, squared_error(matrix.total, gram, cross, updated)
        worse = (error > previous)[:, None, None]
        still = (previous - error).abs() <= tolerance * error.clamp_min(tolerance * matrix.total)
        if done == sweeps or (still & ~worse[:, 0, 0]).all():
            break
        step = torch.where(worse, 0, momentum) if extrapolate else 0 * momentum
        ahead_channel, channel = torch.lerp(channel, updated, 1 + step).clamp_min_(0), updated
        if (dead := _dead(matrix, gram, channel)).any():
            ahead_channel = channel = _revive(matrix, ahead_spatial, channel, dead)
        if worse.any():
            ahead_spatial = torch.where(worse, spatial, ahead_spatial)
        momentum_limit = torch.where(worse, momentum, (1.01 * momentum_limit).clamp_max(1))
        momentum = torch.where(worse, momentum / 1.5, torch.minimum(momentum_limit, 1.05 * momentum))
    return _normalised(matrix, ahead_spatial, updated, error, done)


def _sweep(
    matrix: Matrix, spatial: Tensor, ahead: Tensor, channel: Tensor, momentum: Tensor | None, fresh: bool
) -> tuple[Tensor, Tensor]:
    """Update `spatial` and `ahead` in place; Gram matrix (G, K, K) of `ahead`, its product (G, K, C) with the rows.

    For every block X of rows: W <- HALS(ahead W; S S', S X'), ahead W <- max(0, W + (1 + momentum) (new W - W)),
    gram += ahead W ahead W', cross += ahead W X. `fresh` spatial factors begin at the least-squares solution
    max(0, (S S')^-1 S X'), and the channel factors follow as rows come in.
    """
    gram_of_channel = channel @ channel.mT  # (G, K, K)
    gram = torch.zeros_like(gram_of_channel, dtype=torch.float64)
    cross = torch.zeros_like(channel, dtype=torch.float64)
    for number, (place, x) in enumerate(matrix.blocks(), start=1):
        product = channel @ x.mT  # (G, K, n)
        if fresh:
            ahead[..., place] = (torch.linalg.pinv(gram_of_channel, hermitian=True) @ product).clamp_min_(0)
        updated = hals(ahead[..., place], gram_of_channel, product)
        extrapolated = updated
        if momentum is not None:
            extrapolated = torch.lerp(spatial[..., place], updated, 1 + momentum).clamp_min_(0)
        spatial[..., place], ahead[..., place] = updated, extrapolated
        gram += extrapolated @ extrapolated.mT
        cross += extrapolated @ x
        if fresh and not matrix.shared and number & (number - 1) == 0:
            channel = hals(channel, gram.float(), cross.float())
            gram_of_channel = channel @ channel.mT
    sums = matrix.summed(torch.cat([gram, cross], dim=2)).float()
    return sums[..., : gram.shape[1]], sums[..., gram.shape[1] :]


def _normalised(matrix: Matrix, spatial: Tensor, channel: Tensor, error: Tensor, sweeps: int) -> Factors:
    """The same product with rows of S at length 1, their length in W, and its relative error."""
    length = channel.norm(dim=2, keepdim=True)
    spatial, channel = spatial * length, torch.where(length > 0, channel / length, 0)
    if (error < 1e-3 * matrix.total).any():  # too small a difference of large sums: take the residual itself
        error = torch.zeros_like(matrix.total)
        for place, x in matrix.blocks():
            error += (x - spatial[..., place].mT @ channel).square().flatten(1).sum(1).double()
        error = matrix.summed(error)
    relative = torch.where(matrix.total > 0, error / matrix.total, 0).sqrt()
    return Factors(spatial.mT, channel, relative, sweeps)


def _dead(matrix: Matrix, gram: Tensor, channel: Tensor) -> Tensor:
    """Which groups (G, K) are nowhere (their `gram` is 0) or nothing; none of a matrix of zeros."""
    nowhere = gram.diagonal(dim1=1, dim2=2) == 0
    return (nowhere | (channel.amax(dim=2) == 0)) & (matrix.total > 0)[:, None]


def _revive(matrix: Matrix, spatial: Tensor, channel: Tensor, dead: Tensor) -> Tensor:
    """Give each dead group the direction of a row that the others explain worst, of the first block."""
    if matrix.shared and not matrix.rows.shape[1]:
        return matrix.first(channel)  # the first process has rows
    place, x = next(matrix.blocks())
    residual = (x - spatial[..., place].mT @ channel).clamp_min(0)
    worst = residual.square().sum(dim=2).argsort(dim=1, descending=True, stable=True)[:, : dead.shape[1]]
    rank = (dead.cumsum(dim=1) - 1).clamp(0, worst.shape[1] - 1)
    chosen = worst.gather(1, rank)[..., None].expand(-1, -1, x.shape[2])
    return matrix.first(torch.where(dead[..., None], residual.gather(1, chosen), channel))
