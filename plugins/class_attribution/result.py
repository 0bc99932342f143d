"""What the class attribution study has found at one look: the factors of all classes' attributions at some layers."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

from torch import Tensor

from interp.factorization import match_groups
from interp.result import Result
from interp.vectors import directions, fraction
from plugins.class_attribution import view


@dataclass(frozen=True)
class ClassAttributionResult(Result):
    """The attributions of all classes at each of some layers, factorised image by image."""

    view: ClassVar[Any] = view

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names
    layers: tuple[str, ...]  # L names
    maps: Tensor  # (L, B, F, h, w) how much each factor pushes at each position, on the finest layer's grid
    weights: Tensor  # (L, B, F, J) how much each factor pushes each class in all, in logits
    relative_error: Tensor  # (L, B) of the factorisation, 0 to 1
    negative_share: Tensor  # (L, B) of the attributions' energy: it is left out
    class_names: tuple[str, ...]  # J names
    shown: int  # labels of each factor
    about: str  # what else to know before believing it

    def following(self, previous: "ClassAttributionResult") -> "ClassAttributionResult":
        if self.layers != previous.layers or self.weights.shape != previous.weights.shape:
            return self
        maps, weights = self.maps.clone(), self.weights.clone()
        for at in product(range(len(self.layers)), range(len(self.images))):
            order, _ = match_groups(self.weights[at], previous.weights[at])
            maps[at], weights[at] = maps[at][order], weights[at][order]
        return replace(self, maps=maps, weights=weights)

    def top(self) -> tuple[Tensor, Tensor]:
        """Weights and classes (L, B, F, n) of the strongest labels of each factor."""
        return self.weights.topk(min(self.shown, len(self.class_names)), dim=3)

    def scalars(self) -> dict[str, float]:
        """`concentration`: what the shown labels have of all weights; `_null`: if all factors pushed classes alike."""
        maps = directions(self.maps.flatten(3))  # a dead factor stays 0
        factors = maps.shape[2]
        overlap = (maps @ maps.mT).triu(diagonal=1).sum(dim=(2, 3)) / max(1, factors * (factors - 1) / 2)
        together = self.weights.sum(dim=2).topk(min(self.shown, len(self.class_names)), dim=2).values
        return {
            "relative_error": float(self.relative_error.mean()),
            "negative_share": float(self.negative_share.mean()),
            "separation": float((1 - overlap.mean()).clamp(0, 1)) if factors > 1 else 0.0,
            "concentration": float(fraction(self.top()[0].sum(), self.weights.sum())),
            "concentration_null": float(fraction(together.sum(), self.weights.sum())),
        }
