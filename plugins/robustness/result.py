"""What the robustness study has found at one look: what disturbances leave of answers, detectors and activations."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

from torch import Tensor

from interp.dissection.robustness import SURVIVAL
from interp.result import Result
from plugins.robustness import view


@dataclass(frozen=True)
class RobustnessResult(Result):
    """Y layers under D disturbances; number 0 of D + 1 is the undisturbed data."""

    view: ClassVar[Any] = view

    layers: tuple[str, ...]  # Y names, early to late
    families: tuple[str, ...]  # D + 1 names, "" first
    strengths: tuple[str, ...]  # D + 1, "0" first
    right: str  # what a right answer is: accuracy (the image's class) or agreement (the undisturbed answer)
    answers: Tensor  # (D + 1,) float64, share of right ones
    survival: Tensor  # (D + 1, Y, 7) float64, the columns of interp.dissection.robustness.SURVIVAL
    count: int  # images
    rows: tuple[str, ...]  # S: unit, concept and IoU of each pictured image
    images: Tensor  # (S, D + 1, C, H, W) uint8
    masks: Tensor  # (S, D + 1, H, W) bool, where the unit fires

    @property
    def names(self) -> tuple[str, ...]:
        """D + 1 names of the disturbances: family and strength."""
        disturbed = zip(self.families[1:], self.strengths[1:], strict=True)
        return ("original", *(f"{family} {strength}" for family, strength in disturbed))

    @property
    def by_family(self) -> dict[str, list[int]]:
        """The numbers of each family's disturbances, weakest first."""
        numbers = groupby(range(1, len(self.families)), self.families.__getitem__)
        return {family: list(of_family) for family, of_family in numbers}

    def survived(self, column: str) -> Tensor:
        """A column of `survival`: (D + 1, Y) float64."""
        return self.survival[..., SURVIVAL.index(column)]

    def scalars(self) -> dict[str, float]:
        had = self.survived("detectors")[0]
        values = {self.right: float(self.answers[0])}
        for family, numbers in self.by_family.items():
            mean = dict(zip(SURVIVAL, self.survival[numbers].mean(dim=0).T, strict=True))  # over strengths: (Y,) each
            values[f"{self.right}/{family}"] = float(self.answers[numbers].mean())
            values[f"rank_correlation/{family}"] = float(mean["rank correlation"].mean())
            if had.any():
                values[f"detectors_kept/{family}"] = float(mean["kept"].sum() / had.sum())
                values[f"iou_kept/{family}"] = float((mean["IoU kept"] * had).sum() / had.sum())
        return values
