"""What the similarity study has found at one look: the likeness of layers, and what later looks compare with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.result import Result
from interp.similarity import cka, linear_cka, packed
from plugins.similarity import view


@dataclass(frozen=True)
class SimilarityResult(Result):
    """How L layers see N images, and what other looks and networks are compared with."""

    view: ClassVar[Any] = view

    layers: tuple[str, ...]  # L names, early to late
    count: int  # N
    alike: Tensor  # (L, L) float64 CKA; 0 in the row and column of a layer that puts out the same for all images
    grams: Tensor  # (L, N (N + 1) / 2) float32 packed Gram matrices; (0,) of more than 2,048 images, which have
    components: Tensor  # (N, R) float32 the features that are kept, layers side by side; else (0,)
    widths: tuple[int, ...]  # L numbers of columns in `components`, R in all; else ()
    error: float  # the largest difference that keeping components makes to the CKA of neighbouring layers
    kinship: Tensor  # (L,) CKA of each layer with itself at the look before, -1 undefined; (0,) at the first

    @classmethod
    def renewed(cls, values: dict[str, Any]) -> dict[str, Any]:
        grams = values["grams"]
        if grams.ndim != 3:
            return values
        alike = linear_cka(grams, grams)
        kinship = values["kinship"].masked_fill(alike.diagonal()[: len(values["kinship"])] == 0, -1)
        return values | {
            "count": grams.shape[1], "alike": alike, "grams": torch.stack([packed(gram).float() for gram in grams]),
            "components": torch.zeros(0), "widths": (), "error": 0.0, "kinship": kinship,
        }  # fmt: skip

    def following(self, previous: "SimilarityResult") -> "SimilarityResult":
        if (self.layers, self.count) != (previous.layers, previous.count):
            return self
        kinship = torch.tensor([cka(now, before) for now, before in zip(self.kept, previous.kept, strict=True)])
        undefined = (self.alike.diagonal() == 0) | (previous.alike.diagonal() == 0)
        return replace(self, kinship=kinship.double().masked_fill(undefined, -1))

    @property
    def kept(self) -> Sequence[Tensor]:
        """What `interp.similarity.cka` takes of each layer."""
        return self.components.split(self.widths, dim=1) if self.widths else self.grams.unbind()

    @property
    def constant(self) -> list[str]:
        """The layers that put out the same for all images."""
        return [name for name, itself in zip(self.layers, self.alike.diagonal(), strict=True) if itself == 0]

    def scalars(self) -> dict[str, float]:
        neighbours = [
            float(self.alike[first, second])
            for first, second in pairwise(range(len(self.layers)))
            if self.alike[first, first] and self.alike[second, second]
        ]
        moved = {name: float(1 - value) for name, value in zip(self.layers, self.kinship, strict=False) if value >= 0}
        drift = {"drift": sum(moved.values()) / len(moved)} if moved else {}
        return {
            "neighbours": math.nan if self.left_out else sum(neighbours) / len(neighbours) if neighbours else 1.0,
            "constant_layers": float(len(self.constant)),
            **drift,
            **{f"drift/{name}": value for name, value in moved.items()},
        }
