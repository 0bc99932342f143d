"""NMF by hierarchical alternating least squares on Gram matrices (Cichocki & Phan 2009), on the device of its input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import UserError
from interp.result import finite


@dataclass(frozen=True)
class Factors:
    """X ~ spatial @ channel, both non-negative; the rows of `channel` have length 1 (or 0 for a dead group)."""

    spatial: Tensor  # (N, K)
    channel: Tensor  # (K, C)
    relative_error: float  # ||X - spatial @ channel|| / ||X||, 0 for X = 0
    sweeps: int  # until the relative change of the error fell below the tolerance


@torch.no_grad()
def nmf(rows: Tensor, groups: int, *, sweeps: int = 200, tolerance: float = 1e-4) -> Factors:
    """Factorise `rows` (N, C) >= 0 into `groups` K non-negative factors, deterministically.

    The start is NNDSVD (Boutsidis & Gallopoulos 2008); a sweep updates every column of both factors; it ends when the
    squared error changes by less than `tolerance` of itself, or after `sweeps`. Raises UserError for negative rows or
    for more groups than rows or channels, ValueError for NaN or infinite rows.
    """
    _check(rows, groups)
    rows = rows.float()
    total = rows.double().square().sum()
    if total == 0:
        return Factors(rows.new_zeros(len(rows), groups), rows.new_zeros(groups, rows.shape[1]), 0.0, 0)
    spatial, channel = nndsvd(rows, groups)
    previous = total
    done = 0
    for done in range(1, sweeps + 1):  # noqa: B007 (used after the loop)
        spatial = hals(spatial, channel @ channel.T, rows @ channel.T)
        gram, cross = spatial.T @ spatial, spatial.T @ rows
        channel = hals(channel.T, gram, cross.T).T
        error = squared_error(total, gram, cross, channel)
        if previous - error < tolerance * error.clamp_min(tolerance * total):
            break
        previous = error
        channel = _revive(rows, spatial, channel)
    length = channel.norm(dim=1)
    channel = torch.where(length[:, None] > 0, channel / length[:, None], 0)
    return Factors(spatial * length, channel, relative_error(rows, spatial * length, channel), done)


def _check(rows: Tensor, groups: int) -> None:
    if finite(rows, "the activations").amin() < 0:
        share = float((rows < 0).float().mean())
        raise UserError(
            f"{share:.1%} of the activations are negative; NMF needs a layer without negative values, "
            "such as the output of a ReLU (leave `layer` unset to have one chosen)"
        )
    if not 1 <= groups <= min(rows.shape):
        raise UserError(
            f"groups={groups} does not fit {rows.shape[0]} positions x {rows.shape[1]} channels: "
            f"choose 1 to {min(rows.shape)}"
        )


def hals(factor: Tensor, gram: Tensor, cross: Tensor, inner: int = 2) -> Tensor:
    """One update of every column of `factor` (M, K) >= 0 towards min ||X - factor @ other||.

    `gram` (K, K) = other @ other.T, `cross` (M, K) = X @ other.T. The columns depend on each other, hence the loop
    over K; `inner` rounds reuse the same products. A column whose partner is zero stays as it is.
    """
    factor = factor.clone()
    for column in [k for k in range(len(gram)) if gram[k, k] > 0] * inner:
        step = (cross[:, column] - factor @ gram[:, column]) / gram[column, column]
        factor[:, column] = (factor[:, column] + step).clamp_min_(0)
    return factor


def squared_error(total: Tensor, gram: Tensor, cross: Tensor, channel: Tensor) -> Tensor:
    """||X - W S||^2 without the residual, in float64 because it cancels: total - 2<W'X, S> + <W'W, SS'>."""
    channel = channel.double()
    return total - 2 * (cross.double() * channel).sum() + (gram.double() * (channel @ channel.T)).sum()


def relative_error(rows: Tensor, spatial: Tensor, channel: Tensor, block: int = 65_536) -> float:
    """||rows - spatial @ channel|| / ||rows|| from the residual itself, block by block."""
    parts = zip(rows.split(block), spatial.split(block), strict=True)
    squared = sum((x - w @ channel).double().square().sum() for x, w in parts)
    return float((squared / rows.double().square().sum()).sqrt())


def nndsvd(rows: Tensor, groups: int, fill: float = 0.01) -> tuple[Tensor, Tensor]:
    """Non-negative start (N, K), (K, C) from the leading singular vectors, the stronger sign of each.

    Zeros become `fill` times the factor's mean, since an update can otherwise never leave them; this keeps the start
    equivariant to the scale of `rows`.
    """
    left, values, right = leading_svd(rows, groups)
    left, right = left * values.sqrt(), right * values.sqrt()
    left[:, 0], right[:, 0] = left[:, 0].abs(), right[:, 0].abs()
    positive = left.clamp_min(0).norm(dim=0) * right.clamp_min(0).norm(dim=0)
    negative = left.clamp_max(0).norm(dim=0) * right.clamp_max(0).norm(dim=0)
    sign = torch.where(positive >= negative, 1.0, -1.0)
    left, right = (left * sign).clamp_min(0), (right * sign).clamp_min(0)
    left = torch.where(left > 0, left, fill * left.mean(dim=0))
    right = torch.where(right > 0, right, fill * right.mean(dim=0))
    return left, right.T


def leading_svd(rows: Tensor, rank: int, power: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular vectors (N, rank), values (rank,), vectors (C, rank) by a randomised range finder.

    Halko, Martinsson & Tropp 2011; the random matrix has a generator of its own, so the result is deterministic.
    """
    width = min(rank + 8, *rows.shape)
    start = torch.randn(rows.shape[1], width, generator=torch.Generator().manual_seed(0)).to(rows)
    basis = torch.linalg.qr(rows @ start).Q
    for _ in range(power):
        basis = torch.linalg.qr(rows @ (rows.T @ basis)).Q
    left, values, right = torch.linalg.svd(basis.T @ rows, full_matrices=False)
    return (basis @ left)[:, :rank], values[:rank], right[:rank].T


def _revive(rows: Tensor, spatial: Tensor, channel: Tensor) -> Tensor:
    """Give each dead group the direction of the row that the others explain worst."""
    dead = ((spatial.norm(dim=0) == 0) | (channel.norm(dim=1) == 0)).nonzero().flatten()
    if not len(dead):
        return channel
    residual = (rows - spatial @ channel).clamp_min(0)
    channel = channel.clone()
    channel[dead] = residual[residual.square().sum(dim=1).topk(len(dead)).indices]
    return channel
