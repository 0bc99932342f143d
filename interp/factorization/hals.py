"""The update of hierarchical alternating least squares (Cichocki & Phan 2009), and the error that it lowers."""

import torch
from torch import Tensor

ROUNDS = 3  # over the columns of a factor in each sweep: on the same Gram matrices they cost little


def hals(factor: Tensor, gram: Tensor, cross: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Update the K rows of `factor` (G, K, M) >= 0 in turn towards min ||X - other' factor||, `rounds` times.

    `gram` (G, K, K) = other @ other', `cross` (G, K, M) = other @ X. With all other rows as they are, row k has its
    best value in closed form:

        factor[k] <- max(0, (cross[k] - sum over l != k of gram[k, l] factor[l]) / gram[k, k])

    The rows depend on each other, hence the loop over K. One whose partner is zero (gram[k, k] = 0) becomes zero.
    """
    energy = gram.diagonal(dim1=-2, dim2=-1)[..., None]  # (G, K, 1)
    alive = energy > 1e-14 * energy.amax(dim=1, keepdim=True)
    inverse = torch.where(alive, 1 / energy, 0)
    others, target = gram * inverse, cross * inverse
    others.diagonal(dim1=-2, dim2=-1).zero_()
    factor = factor.clone(memory_format=torch.contiguous_format)
    for k in [*range(factor.shape[1])] * rounds:
        row = slice(k, k + 1)
        factor[:, row] = torch.baddbmm(target[:, row], others[:, row], factor, alpha=-1).clamp_min_(0)
    return factor


def squared_error(total: Tensor, gram: Tensor, cross: Tensor, channel: Tensor) -> Tensor:
    """||X - W'S||^2 (G,) without the residual: total - 2 <cross, S> + <gram, SS'>, in float64 because it cancels.

    `total` (G,) = ||X||^2, `gram` (G, K, K) = WW', `cross` (G, K, C) = WX, S = `channel` (G, K, C).
    """
    channel = channel.double()
    product = (cross.double() * channel).sum(dim=(1, 2))
    return (total - 2 * product + (gram.double() * (channel @ channel.mT)).sum(dim=(1, 2))).clamp_min(0)
