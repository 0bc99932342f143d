"""Are the axes of a layer special? Unique detectors in rotated bases (Bau et al. 2017, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from interp.dissection.concepts.data import ConceptData
from interp.dissection.stream import dissect
from interp.errors import UserError
from interp.network.layers import Layer
from interp.result import Result


def random_rotation(size: int, seed: int) -> Tensor:
    """A matrix (size, size) float64, uniform in SO(size).

    QR of a Gaussian matrix with the signs that make R's diagonal positive (Mezzadri 2007) is uniform in O(size);
    turning one axis around where the determinant is -1 keeps it so in SO(size).
    """
    gaussian = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()
    q[:, 0] *= torch.linalg.det(q).sign()
    return q


@dataclass(frozen=True)
class Rotation:
    """A rotation as turns in planes that are orthogonal to each other: its real Schur form, angles with their signs."""

    basis: Tensor  # (C, C) float64, orthonormal columns
    planes: Tensor  # (M, 2) int64, the columns that span each plane
    angles: Tensor  # (M,) float64 in [-pi, pi], from the second column of the plane to the first

    @classmethod
    def of(cls, matrix: Tensor) -> "Rotation":
        """Take `matrix` (C, C) apart; raises ValueError if it is no rotation (orthogonal, determinant +1)."""
        from scipy.linalg import schur

        matrix = matrix.detach().cpu().double()
        error = (matrix @ matrix.T - torch.eye(len(matrix), dtype=torch.float64)).abs().max()
        if not error < 1e-5 or torch.linalg.det(matrix) < 0:
            raise ValueError(f"not a rotation: Q Q' differs from I by {error:.1e}, or the determinant is -1")
        triangle, basis = schur(matrix.numpy(), output="real")
        first = np.flatnonzero(triangle.diagonal(-1))
        alone = np.setdiff1d(np.arange(len(triangle)), [*first, *(first + 1)])
        # the determinant is +1, so that the axes turned around come in pairs: half a turn each
        turned = alone[triangle[alone, alone] < 0].reshape(-1, 2)
        angles = np.arctan2(triangle[first, first + 1], triangle[first, first])
        planes = np.concatenate([np.stack([first, first + 1], 1), turned])
        angles = np.concatenate([angles, np.full(len(turned), np.pi)])
        return cls(torch.from_numpy(basis), torch.from_numpy(planes), torch.from_numpy(angles))

    def power(self, alpha: float) -> Tensor:
        """The share `alpha` of the rotation: (C, C) float64, the identity for 0, the whole of it for 1."""
        turn = torch.eye(len(self.basis), dtype=torch.float64)
        if alpha == 0:
            return turn  # without the rounding of the basis
        first, second = self.planes.T
        cos, sin = (alpha * self.angles).cos(), (alpha * self.angles).sin()
        turn[first, first], turn[second, second] = cos, cos
        turn[first, second], turn[second, first] = sin, -sin
        return self.basis @ turn @ self.basis.T


def permutation(size: int, seed: int) -> Tensor:
    """A permutation matrix (size, size) float64."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return torch.eye(size, dtype=torch.float64)[order]


def rotate_units(activations: Tensor, matrix: Tensor) -> Tensor:
    """`activations` (B, C, H, W) in another basis: new unit d is the sum over c of matrix[d, c] times unit c."""
    return torch.einsum("bchw,dc->bdhw", activations, matrix.to(activations))


@dataclass(frozen=True)
class AxisAlignment(Result):
    """Detectors and unique detectors of a layer in its own basis and in rotated ones, thresholds anew in each."""

    layer: str
    original: Tensor  # (2,) int64, detectors and unique detectors
    permuted: Tensor  # (2,) int64, the same under a permutation of the units: a control, must not differ
    alphas: Tensor  # (A,) float64 in (0, 1], how much of a rotation
    rotated: Tensor  # (A, R, 2) int64, by rotation

    def mean(self) -> Tensor:
        """(A, 2) float64 over the rotations."""
        return self.rotated.double().mean(dim=1)

    def deviation(self) -> Tensor:
        """(A, 2) float64, standard deviation over the rotations, 0 for a single one."""
        return self.rotated.double().std(dim=1, correction=min(1, self.rotated.shape[1] - 1))

    def scalars(self) -> dict[str, float]:
        values = {"unique_detectors": float(self.original[1])}
        for alpha, mean, spread in zip(self.alphas.tolist(), self.mean()[:, 1], self.deviation()[:, 1], strict=True):
            values[f"unique_detectors/rotated_{alpha:g}"] = float(mean)
            values[f"unique_detectors/rotated_{alpha:g}_deviation"] = float(spread)
        return values


def axis_alignment(
    net: nn.Module,
    data: ConceptData,
    layer: str,
    *,
    rotations: int = 10,
    alphas: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    seed: int = 0,
    at_once: int = 12,
    **options,
) -> AxisAlignment:
    """Dissect `layer` in its own basis, permuted, and rotated by the powers `alphas` of `rotations` random rotations.

    `at_once` bases share a forward pass, which bounds the memory; `options` go to `dissect`. Raises ValueError where a
    unit puts out NaN or infinity: mixed with it, all would.
    """
    if rotations < 1 or not alphas or not all(0 < alpha <= 1 for alpha in alphas):
        raise UserError(f"rotations={rotations}, alphas={tuple(alphas)}: at least one rotation, alphas in (0, 1]")
    first = data.image(0)[None].to(next(net.parameters(), torch.empty(0)).device)
    at = Layer.named(net, first, layer)
    units = at.activations(net, first).shape[1]
    turns = [Rotation.of(random_rotation(units, seed + number)) for number in range(rotations)]
    bases = [torch.eye(units, dtype=torch.float64), permutation(units, seed)]
    bases += [turn.power(alpha) for alpha in alphas for turn in turns]
    levels: list[tuple[int, int]] = []
    for start in range(0, len(bases), at_once):
        named = {str(start + place): basis for place, basis in enumerate(bases[start : start + at_once])}
        dissections = dissect(net, data, [layer], view=_in_bases(at, named), **options)
        if any(dissection.broken.any() for dissection in dissections.values()):
            raise ValueError(f"units of {layer} put out NaN or infinity: mixed with them, so does every rotated unit")
        levels += [dissections[name].level() for name in named]
    counts = torch.tensor(levels)
    rotated = counts[2:].view(len(alphas), rotations, 2)
    return AxisAlignment(layer, counts[0], counts[1], torch.tensor(alphas, dtype=torch.float64), rotated)


def _in_bases(layer: Layer, bases: dict[str, Tensor]):
    def view(activations: dict[str, Tensor]) -> dict[str, Tensor]:
        values = layer.layout.grid(activations[layer.name])
        return {name: rotate_units(values, basis) for name, basis in bases.items()}

    return view
