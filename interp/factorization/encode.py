"""Factorisations applied to images that they were not made of: how strongly each group fires where in those.

Letters: B images of C channels and h x w positions, N rows, K groups, G matrices at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.factorization.hals import hals
from interp.factorization.matrix import Matrix
from interp.factorization.reducers import prepared
from interp.result import finite

BLOCK = 4096  # rows that are solved at once
TOLERANCE = 1e-9  # change of an update, relative to the largest factor, at which factors stand still
SWEEPS = 20_000  # at most; a hundred are enough unless groups are nearly the same


@dataclass(frozen=True)
class Basis:
    """What is left of a factorisation without its rows: all that encoding others takes."""

    factors: Tensor  # (K, C), or (K, 2 C) where both signs lie side by side; centres of kmeans, else of length 1
    solver: str = "hals"  # one of `interp.factorization.reducers.SOLVERS`
    negative: str = "error"  # as `factorise` was told

    def ordered(self, order: Tensor) -> "Basis":
        """The same groups in another `order` (K,)."""
        return Basis(self.factors[order], self.solver, self.negative)


def encode(activations: Tensor, basis: Basis) -> Tensor:
    """The spatial factors (B, K, h, w) of `activations` (B, C, h, w) under the groups of `basis`, by `encode_rows`.

    They are in units of activation, as those of the images that were factorised.

    >>> from interp.factorization import fitted_groups
    >>> activations = torch.rand(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> groups, basis = fitted_groups(activations[:2], 2)
    >>> encode(activations[2:], basis).shape
    torch.Size([1, 2, 4, 4])
    """
    rows = encode_rows(activations.permute(0, 2, 3, 1).flatten(0, 2), basis)
    return rows.unflatten(0, (len(activations), *activations.shape[2:])).permute(0, 3, 1, 2)


def encode_rows(rows: Tensor, basis: Basis) -> Tensor:
    """The spatial factors (N, K) float32 of `rows` (N, C), with their negatives treated as those that were factorised.

    NMF (hals, sklearn): `least_squares`. pca: the projection on each component, which may be negative. kmeans: each
    row belongs to the nearest centre, with its projection on that. As of the rows that were factorised, those of both
    signs side by side count in units of the signed channel factors. Raises UserError as `prepared` and, of NMF, for
    negatives that are to be an error, ValueError for rows that are not finite.
    """
    channels, width = rows.shape[1], basis.factors.shape[1]
    rows, factors = rows.float(), basis.factors.to(rows.device)
    if basis.solver == "pca":
        return finite(rows, "the rows") @ factors.T
    if width == channels and basis.negative == "split":
        rows = rows.clamp_min(0)  # no group is made of negatives
    rows = prepared(rows, basis.negative, signed=width > channels)
    spatial = _assigned(finite(rows, "the rows"), factors) if basis.solver == "kmeans" else least_squares(rows, factors)
    if width == channels:
        return spatial
    directions = _unit(factors)
    return spatial * (directions[:, :channels] - directions[:, channels:]).norm(dim=1)


@torch.no_grad()
def least_squares(rows: Tensor, channel: Tensor) -> Tensor:
    """W = argmin ||X - W S|| with W >= 0: (N, K) for X (N, C), S (K, C), or (G, N, K) for (G, N, C) and (G, K, C).

    X are the `rows`, not negative, and S the factors `channel`, which stay as they are. By the updates of NMF, half of
    each sweep, in float64, until none changes W. Rows of NaN have factors of 0. Raises UserError and ValueError as
    `nmf` for rows that it refuses.
    """
    if rows.ndim == 2:
        return least_squares(rows[None], channel[None])[0]
    matrix = Matrix.read(rows, BLOCK, rows.device, shared=False, count=rows.shape[1])
    channel = channel.to(rows.device).double()
    gram = channel @ channel.mT  # (G, K, K)
    spatial = torch.zeros(*rows.shape[:2], channel.shape[1], device=rows.device)
    for place, x in matrix.blocks():
        spatial[:, place] = _solved(gram, channel @ x.double().mT).mT.float()
    return spatial


def _solved(gram: Tensor, cross: Tensor) -> Tensor:
    """Factors (G, K, n) that no update changes, for `gram` SS' and `cross` SX' (G, K, n)."""
    factor = (torch.linalg.pinv(gram, hermitian=True) @ cross).clamp_min_(0)
    for _ in range(SWEEPS):
        previous, factor = factor, hals(factor, gram, cross)
        if (factor - previous).abs().amax() <= TOLERANCE * factor.amax():
            break
    return factor


def _assigned(rows: Tensor, centres: Tensor) -> Tensor:
    """The projection (N, K) of each row on the direction of the nearest of the centres (K, C), 0 on all others."""
    nearest = (centres.square().sum(dim=1) - 2 * rows @ centres.T).argmin(dim=1)
    return torch.nn.functional.one_hot(nearest, len(centres)) * (rows @ _unit(centres).T)


def _unit(factors: Tensor) -> Tensor:
    """The rows at length 1; zeros stay zeros."""
    length = factors.norm(dim=1, keepdim=True)
    return torch.where(length > 0, factors / length, 0)
