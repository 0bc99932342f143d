"""Vectors of any size: their directions and cosines, their correlations, and which of two sets belong together.

Nothing is added to lengths, and these never overflow.
"""

import torch
from torch import Tensor


def directions(vectors: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """The vectors along `dim` at length 1, in float32 at least; zeros stay zeros.

    >>> directions(torch.tensor([[3e-30, 4e-30], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    largest = vectors.detach().abs().amax(dim, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1.0)  # else squares of small numbers would be lost
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / torch.where(length > 0, length, 1.0)


def cosine(first: Tensor, second: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """Cosine along `dim` of vectors, in [-1, 1] up to rounding; 0 where one is all zeros."""
    return (directions(first, dim) * directions(second, dim)).sum(dim)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Correlation (B,) in [-1, 1] of each row of two tensors (B, M), in their dtype; 0 where a row is constant."""
    first, second = (rows - rows.mean(dim=1, keepdim=True) for rows in (first, second))
    length = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(length > 0, (first * second).sum(dim=1) / length.clamp_min(1e-300), 0)


def fraction(part: Tensor, whole: Tensor) -> Tensor:
    """What `part` is of `whole`, however small both are; 0 where there is nothing of the whole."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)


def energy(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Sums of squares along `dim` in float64; squares of small numbers are not lost."""
    largest = values.abs().amax()
    unit = torch.where(largest > 0, largest, 1)
    return (values / unit).square().sum(dim=dim).double() * unit.double() ** 2


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Rank correlation (B,) float64 in [-1, 1] of each row of two tensors (B, M); ties share their mean rank.

    0 where a row is constant.

    >>> spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 4.0, 9.0]])).round(decimals=6).tolist()
    [1.0]
    """
    return pearson(_ranks(first.double()), _ranks(second.double()))


def _ranks(rows: Tensor) -> Tensor:
    """Mean rank of each value in its row, from 1: the mean of how many are no larger and of those smaller and one."""
    rows = rows.contiguous()
    ordered = rows.sort(dim=1).values
    smaller = torch.searchsorted(ordered, rows)
    no_larger = torch.searchsorted(ordered, rows, right=True)
    return (smaller + 1 + no_larger).double() / 2


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlations (K, K') of each row of `first` (K, M) with each of `second` (K', M); 0 of a constant."""
    first, second = (directions(rows - rows.mean(dim=1, keepdim=True)) for rows in (first, second))
    return first @ second.T


def matched(likeness: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs, one to one, with the largest sum of `likeness` (K, K'): rows and columns, both (min(K, K'),) int64.

    The Hungarian algorithm.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = map(torch.from_numpy, linear_sum_assignment(-likeness.cpu().numpy()))
    return rows, columns
