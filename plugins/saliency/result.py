"""What the saliency study has found at one look: gradients at image and blank, the methods' maps and their checks."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from interp.attribution.saliency import spearman
from interp.result import Result, longer_film
from interp.vectors import fraction
from plugins.saliency import view


@dataclass(frozen=True)
class SaliencyResult(Result):
    """The five panels of the interrogation document and the maps of M methods, for each probe image; E looks."""

    view: ClassVar[Any] = view

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names, of the target
    gradient: Tensor  # (B, C, H, W) of the target logit at the image, or (0,)
    baseline: Tensor  # (B, C, H, W) of the same logit at the blank image, or (0,)
    about: str  # target and blank image in words
    methods: tuple[str, ...]  # M names
    maps: Tensor  # (B, M, H, W) attributions, summed over channels
    layer: str  # of Grad-CAM and what to know of it, '' without it
    checks: dict[str, dict[str, float]]  # by method, by name (interp.attribution.trust); empty where none were made
    film: Tensor  # (E, B, H, W) maps of the first method at this look and earlier ones, or (E, B, 0, 0)
    looks: tuple[int, ...]  # E numbers of these looks, from 0

    def following(self, previous: "SaliencyResult") -> "SaliencyResult":
        if self.methods[:1] != previous.methods[:1] or self.film.shape[1:] != previous.film.shape[1:]:
            return self
        film, looks = longer_film(previous.film, previous.looks, self.film)
        return replace(self, film=film, looks=looks)

    def scalars(self) -> dict[str, float]:
        scalars_of_checks = {
            f"{method}/{check}": value for method, checks in self.checks.items() for check, value in checks.items()
        }
        if not len(self.gradient):
            return scalars_of_checks
        lengths = [gradient.flatten(1).norm(dim=1) for gradient in (self.baseline, self.gradient)]
        overlay = ((self.gradient - self.baseline) * self.images).abs()
        return {
            "baseline_share": float(fraction(*lengths).median()),
            "overlay_input_correlation": float(spearman(overlay.flatten(1), self.images.flatten(1)).mean()),
            **scalars_of_checks,
        }
