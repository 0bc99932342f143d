"""Where a factorisation starts, and how low its error could be: the leading singular vectors."""

import torch
from torch import Tensor

from interp.factorization.hals import hals

SWEEPS = 8  # over the compressed rows: together they cost less than two over the rows, and spare four


def start_of(rows: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Non-negative start W (G, K, N), S (G, K, C) for G matrices (G, N, C): NNDSVD, improved on the compressed rows.

    Equivariant to the rows' scale. The rows' range is compressed to a few dimensions more than there are groups, where
    a sweep costs a fraction of one over the rows (Erichson et al. 2018, Randomized nonnegative matrix factorization):
    with `basis` Q and `small` QX, X ~ Q'QX, it is W <- HALS(W; SS', S (QX)' Q), S <- HALS(S; WW', W Q' QX).
    """
    basis, small = compressed(rows, groups, power=1)
    spatial, channel = nndsvd(*_svd(basis, small, groups))
    for _ in range(SWEEPS):
        spatial = hals(spatial, channel @ channel.mT, (channel @ small.mT) @ basis)
        channel = hals(channel, spatial @ spatial.mT, (spatial @ basis.mT) @ small)
    return spatial, channel


def nndsvd(left: Tensor, values: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Factors (G, K, N), (G, K, C) from the leading singular vectors (G, N, K), (G, C, K) and values (G, K).

    Boutsidis & Gallopoulos 2008: of each pair u, v of singular vectors with the value s the stronger sign, that with
    the larger ||u+|| ||v+||: W_k = sqrt(s ||u+|| ||v+||) u+ / ||u+||, S_k the same of v+. Zeros stay zeros, which
    least-squares updates can leave.
    """
    halves = [(left.clamp_min(0), right.clamp_min(0)), ((-left).clamp_min(0), (-right).clamp_min(0))]
    lengths = [[half.norm(dim=1, keepdim=True) for half in pair] for pair in halves]
    positive, negative = (first * second for first, second in lengths)
    chosen = positive >= negative
    scale = (values[:, None] * torch.maximum(positive, negative)).sqrt()
    spatial, channel = (
        torch.where(chosen, halves[0][i] / lengths[0][i], halves[1][i] / lengths[1][i]).nan_to_num(0.0) * scale
        for i in (0, 1)
    )
    return spatial.mT.contiguous(), channel.mT.contiguous()


def leading_svd(rows: Tensor, rank: int, power: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular vectors (G, N, rank), values (G, rank), vectors (G, C, rank) of matrices (G, N, C)."""
    return _svd(*compressed(rows, rank, power), rank)


def compressed(rows: Tensor, rank: int, power: int) -> tuple[Tensor, Tensor]:
    """Basis (G, Q, N) with orthonormal rows and small (G, Q, C), Q >= rank, with basis' @ small ~ the rows (G, N, C).

    Halko, Martinsson & Tropp 2011; the random matrix has a generator of its own, so the result is deterministic.
    """
    width = min(-(-(rank + 8) // 8) * 8, *rows.shape[1:])  # whole vectors of the processor
    start = torch.randn(width, rows.shape[2], generator=torch.Generator().manual_seed(0)).to(rows)
    basis = _orthonormal(start @ rows.mT)
    for _ in range(power):
        basis = _orthonormal((basis @ rows) @ rows.mT)
    return basis, basis @ rows


def _svd(basis: Tensor, small: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    axes, squares = _axes(small)
    axes, values = axes.flip(2)[..., :rank], squares.flip(1)[:, :rank].sqrt()
    right = torch.where(values > 0, 1 / values, 0)[:, :, None] * (axes.mT @ small)
    return (axes.mT @ basis).mT, values, right.mT


def _orthonormal(wide: Tensor) -> Tensor:
    """An orthonormal basis of the rows of `wide` (G, Q, M), with zeros where they depend on each other.

    Through the small Gram matrix: many times faster than QR decompositions of many matrices.
    """
    axes, squares = _axes(wide)
    return torch.where(squares > 0, squares.rsqrt(), 0)[:, :, None] * (axes.mT @ wide)


def _axes(wide: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors (G, Q, Q) and eigenvalues (G, Q), rising, of the rows' Gram matrix; what is only rounding is 0."""
    squares, axes = torch.linalg.eigh((wide @ wide.mT).double())
    squares = torch.where(squares > 1e-7 * squares[:, -1:], squares, 0)
    return axes.to(wide), squares.to(wide)


def svd_floor(rows: Tensor, rank: int) -> Tensor:
    """The relative error (G,) of the best factorisation of `rows` (G, N, C) into `rank` factors of any sign.

    Eckart & Young 1936: no NMF is better.
    """
    total = rows.double().square().sum(dim=(1, 2))
    kept = leading_svd(rows, rank)[1].double().square().sum(dim=1)
    return torch.where(total > 0, 1 - kept / total, 0).clamp_min(0).sqrt()
