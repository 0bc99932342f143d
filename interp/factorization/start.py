"""Where a factorisation starts, and how low its error could be: the leading singular vectors."""

import torch
from torch import Tensor


def nndsvd(rows: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Non-negative start (G, K, N), (G, K, C) for G matrices (G, N, C), equivariant to their scale.

    Boutsidis & Gallopoulos 2008: of each pair of leading singular vectors the stronger sign; zeros stay zeros, which
    least-squares updates can leave.
    """
    left, values, right = leading_svd(rows, groups, power=1)
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
    """Leading singular vectors (G, N, rank), values (G, rank), vectors (G, C, rank) by a randomised range finder.

    Halko, Martinsson & Tropp 2011; the random matrix has a generator of its own, so the result is deterministic.
    """
    width = min(-(-(rank + 8) // 8) * 8, *rows.shape[1:])  # whole vectors of the processor
    start = torch.randn(width, rows.shape[2], generator=torch.Generator().manual_seed(0)).to(rows)
    basis = _orthonormal(start @ rows.mT)
    for _ in range(power):
        basis = _orthonormal((basis @ rows) @ rows.mT)
    small = basis @ rows
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
