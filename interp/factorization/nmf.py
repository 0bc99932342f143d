"""NMF by hierarchical alternating least squares on Gram matrices (Cichocki & Phan 2009), on any device.

Within this file factors lie as (G, K, N) and (G, K, C): G matrices at once, every column of a factor contiguous.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import UserError
from interp.factorization.hals import hals, squared_error
from interp.factorization.start import start_of

PLAIN = 2  # sweeps before extrapolation begins: earlier it can leave the valley that NNDSVD chose


@dataclass(frozen=True)
class Factors:
    """X ~ spatial @ channel, both non-negative; the rows of `channel` have length 1 (or 0 for a dead group)."""

    spatial: Tensor  # (N, K) or (G, N, K) float32
    channel: Tensor  # (K, C) or (G, K, C) float32
    relative_error: Tensor  # () or (G,) float64: ||X - spatial @ channel|| / ||X||, 0 for X = 0
    sweeps: int  # until the change of the squared error fell below the tolerance


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
) -> Factors:
    """Factorise `rows` (N, C) >= 0, or G such matrices (G, N, C) at once, into `groups` K factors, deterministically.

    A sweep reads the rows once, `block` at a time (moved to `device` if it is given, so that the matrix may be larger
    than the device's memory), and updates both factors. It ends when the squared error changes by less than
    `tolerance` of itself, or after `sweeps`. The start is `start` (K, C) or (G, K, C), or that of `start_of`
    (NNDSVD, improved); of more than twice `sample` rows, a sample of them is factorised first. A row of NaN is missing:
    it counts for nothing and its spatial factors are 0. Raises UserError for negative rows or for more groups than
    rows or channels, ValueError for infinite or partly missing rows.
    """
    batch = rows if rows.ndim == 3 else rows[None]
    if not 1 <= groups <= min(batch.shape[1:]):
        raise UserError(
            f"groups={groups} does not fit {batch.shape[1]} positions x {batch.shape[2]} channels: "
            f"choose 1 to {min(batch.shape[1:])}"
        )
    matrix = _Matrix.read(batch, block, torch.device(device) if device else rows.device)
    spatial, channel = _start(matrix, groups, start, sample)
    found = _descend(matrix, spatial, channel, sweeps, tolerance)
    if rows.ndim == 3:
        return found
    return Factors(found.spatial[0], found.channel[0], found.relative_error[0], found.sweeps)


@dataclass(frozen=True)
class _Matrix:
    """Rows that are read block by block."""

    rows: Tensor  # (G, N, C) anywhere
    block: int
    device: torch.device
    total: Tensor  # (G,) float64 squared norm
    holes: bool  # some rows are missing

    @classmethod
    def read(cls, rows: Tensor, block: int, device: torch.device) -> "_Matrix":
        total, holes = torch.zeros(len(rows), dtype=torch.float64, device=device), False
        for part in rows.split(block, dim=1):
            x = part.to(device).float()
            low, high = x.aminmax()
            if low.isnan():
                holes, missing = True, x.isnan().all(dim=2)
                x = x.masked_fill(missing[..., None], 0)
                low, high = x.aminmax()
            if not (low.isfinite() and high.isfinite()):
                raise ValueError(f"NMF: {int((~x.isfinite()).sum())} NaN or infinite values in a block of {x.numel()}")
            if low < 0:
                raise UserError(
                    f"{float((x < 0).float().mean()):.1%} of the activations are negative; NMF wants none: "
                    "set negative=rectify (drop them) or negative=split (factorise both signs), "
                    "or take the output of a ReLU (leave `layer` unset to have one chosen)"
                )
            total += x.flatten(1).norm(dim=1).double().square()
        return cls(rows, block, device, total, holes)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for first in range(0, self.rows.shape[1], self.block):
            place = slice(first, min(first + self.block, self.rows.shape[1]))
            yield place, self.take(place)

    def take(self, place: slice | Tensor) -> Tensor:
        x = self.rows[:, place].to(self.device).float()
        return x.masked_fill(x.isnan(), 0) if self.holes else x


def _start(matrix: _Matrix, groups: int, start: Tensor | None, sample: int) -> tuple[Tensor, Tensor]:
    """Spatial (G, K, N) and channel factors (G, K, C) to begin with."""
    count, rows = matrix.rows.shape[:2]
    spatial = torch.zeros(count, groups, rows, device=matrix.device)
    if start is not None:
        channel = start.to(spatial).expand(count, groups, -1).clone()
    elif rows > 2 * sample:
        chosen = torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:sample].sort().values
        channel = nmf(matrix.take(chosen), groups, sweeps=20, tolerance=1e-3).channel
    else:
        spatial, channel = start_of(matrix.take(slice(None)), groups)
    return spatial, channel


def _descend(matrix: "_Matrix", spatial: Tensor, channel: Tensor, sweeps: int, tolerance: float) -> Factors:
    """Sweep until the error stands still, each factor carried on a little beyond its update.

    The extrapolation halves the sweeps (Ang & Gillis 2019); where it raised the error it is taken back and shortened.
    """
    ahead_spatial, ahead_channel, error, done = spatial.clone(), channel, matrix.total, 0
    beyond, longest = (torch.full((len(error), 1, 1), value, device=matrix.device) for value in (0.5, 1.0))
    fresh = not spatial.any()
    for done in range(1, sweeps + 1):
        gram, cross = _sweep(
            matrix, spatial, ahead_spatial, ahead_channel, beyond if done > PLAIN else None, fresh and done == 1
        )
        updated = hals(ahead_channel, gram, cross)
        previous, error = error, squared_error(matrix.total, gram, cross, updated)
        worse = (error > previous)[:, None, None]
        still = (previous - error).abs() <= tolerance * error.clamp_min(tolerance * matrix.total)
        if done == sweeps or (still & ~worse[:, 0, 0]).all():
            break
        step = torch.where(worse, 0, beyond) if done > PLAIN else 0 * beyond
        ahead_channel, channel = torch.lerp(channel, updated, 1 + step).clamp_min_(0), updated
        if (dead := _dead(matrix, ahead_spatial, channel)).any():
            ahead_channel = channel = _revive(matrix, ahead_spatial, channel, dead)
        if worse.any():
            ahead_spatial = torch.where(worse, spatial, ahead_spatial)
        longest = torch.where(worse, beyond, (1.01 * longest).clamp_max(1))
        beyond = torch.where(worse, beyond / 1.5, torch.minimum(longest, 1.05 * beyond))
    return _normalised(matrix, ahead_spatial, updated, error, done)


def _sweep(
    matrix: _Matrix, spatial: Tensor, ahead: Tensor, channel: Tensor, beyond: Tensor | None, fresh: bool
) -> tuple[Tensor, Tensor]:
    """Update `spatial` and `ahead` in place; Gram matrix (G, K, K) of `ahead`, its product (G, K, C) with the rows.

    `fresh` spatial factors begin at the least-squares solution, and the channel factors follow as rows come in.
    """
    gram_of_channel = channel @ channel.mT
    gram = torch.zeros_like(gram_of_channel, dtype=torch.float64)
    cross = torch.zeros_like(channel, dtype=torch.float64)
    for number, (place, x) in enumerate(matrix.blocks(), start=1):
        product = channel @ x.mT
        if fresh:
            ahead[..., place] = (torch.linalg.pinv(gram_of_channel, hermitian=True) @ product).clamp_min_(0)
        updated = hals(ahead[..., place], gram_of_channel, product)
        part = torch.lerp(spatial[..., place], updated, 1 + beyond).clamp_min_(0) if beyond is not None else updated
        spatial[..., place], ahead[..., place] = updated, part
        gram += part @ part.mT
        cross += part @ x
        if fresh and number & (number - 1) == 0:
            channel = hals(channel, gram.float(), cross.float())
            gram_of_channel = channel @ channel.mT
    return gram.float(), cross.float()


def _normalised(matrix: _Matrix, spatial: Tensor, channel: Tensor, error: Tensor, sweeps: int) -> Factors:
    length = channel.norm(dim=2, keepdim=True)
    spatial, channel = spatial * length, torch.where(length > 0, channel / length, 0)
    if (error < 1e-3 * matrix.total).any():  # too small a difference of large sums: take the residual itself
        squares = [(x - spatial[..., at].mT @ channel).square().flatten(1).sum(1) for at, x in matrix.blocks()]
        error = torch.stack(squares).double().sum(dim=0)
    relative = torch.where(matrix.total > 0, error / matrix.total, 0).sqrt()
    return Factors(spatial.mT, channel, relative, sweeps)


def _dead(matrix: _Matrix, spatial: Tensor, channel: Tensor) -> Tensor:
    """Which groups (G, K) are nowhere or nothing; none of a matrix of zeros."""
    return ((spatial.amax(dim=2) == 0) | (channel.amax(dim=2) == 0)) & (matrix.total > 0)[:, None]


def _revive(matrix: _Matrix, spatial: Tensor, channel: Tensor, dead: Tensor) -> Tensor:
    """Give each dead group the direction of a row that the others explain worst, of the first block."""
    place, x = next(matrix.blocks())
    residual = (x - spatial[..., place].mT @ channel).clamp_min(0)
    worst = residual.square().sum(dim=2).argsort(dim=1, descending=True, stable=True)[:, : dead.shape[1]]
    rank = (dead.cumsum(dim=1) - 1).clamp(0, worst.shape[1] - 1)
    chosen = worst.gather(1, rank)[..., None].expand(-1, -1, x.shape[2])
    return torch.where(dead[..., None], residual.gather(1, chosen), channel)
