"""What the study of axis alignment has found at one look: detectors in rotated bases, and loadings of concepts."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from interp.dissection.rotation import AxisAlignment
from interp.result import Result
from plugins.axis_alignment import view


@dataclass(frozen=True)
class AxisAlignmentResult(Result):
    """Detectors of a layer of U units in A x R rotated bases, and the loadings of M concepts."""

    view: ClassVar[Any] = view

    layer: str
    original: Tensor  # (2,) int64, detectors and unique detectors
    permuted: Tensor  # (2,) int64, with the units in another order: must not differ
    alphas: Tensor  # (A,) float64, shares of a rotation
    rotated: Tensor  # (A, R, 2) int64
    concepts: tuple[str, ...]  # M names
    loadings: Tensor  # (M, U) float64, absolute, of the leading direction; squares sum to 1
    energy: Tensor  # (M,) share of the concept's sum of squares along it
    chance: Tensor  # (M,) the largest squared loading that 95% of as many random rows stay below
    verdicts: tuple[str, ...]  # M: one unit or a combination
    share: float  # that one unit must carry to count as the concept's
    count: int  # images

    @property
    def alignment(self) -> AxisAlignment:
        """The counts alone."""
        return AxisAlignment(self.layer, self.original, self.permuted, self.alphas, self.rotated)

    def scalars(self) -> dict[str, float]:
        mean, deviation = self.alignment.mean()[-1].tolist(), self.alignment.deviation()[-1].tolist()
        values = {"unique_detectors": float(self.original[1]), "rotated_unique_detectors": mean[1]}
        values |= {"rotated_unique_detectors_deviation": deviation[1], "rotated_detectors": mean[0]}
        values["permutation_difference"] = float((self.original - self.permuted).abs().sum())
        if self.verdicts:
            values["one_unit_concepts"] = self.verdicts.count("one unit") / len(self.verdicts)
            values["largest_squared_loading"] = float(self.loadings.square().amax(dim=1).mean())
        return values
