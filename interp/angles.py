"""Directions and cosines of vectors of any size: nothing is added to their lengths, and these never overflow."""

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
