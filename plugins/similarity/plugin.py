"""How alike layers see the same images, epoch by epoch and from network to network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from interp.draw.charts import heat_map
from interp.network.layers import Layer, spread_layers
from interp.parts import omissions
from interp.probe import Probe
from interp.result import Result
from interp.similarity import COMPONENTS, SIDE, cka, linear_cka, packed, similarity
from plugins.base import Plugin, setting


@dataclass(frozen=True)
class SimilarityResult(Result):
    """How L layers see N images, and what other looks and networks are compared with."""

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

    def pictures(self) -> dict[str, Tensor]:
        return {"layers": heat_map({"CKA": self.alike}, self.layers, {"CKA": self.layers})}

    def captions(self) -> dict[str, str]:
        text = (
            f"How alike two layers see the same {self.count} images (linear CKA of activations, averaged to at most "
            f"{SIDE} x {SIDE} positions: 1 is the same up to rotation and scale, 0 unrelated). Neighbours that stay at "
            "1 add nothing to each other. Values of few images are too high: compare them with each other, not with 1."
        )
        if "drift" in (scalars := self.scalars()):
            text += f" Since the look before, layers moved by {scalars['drift']:.3f} (1 - CKA, mean).{self._kept()}"
        if self.constant:
            text += (
                f" The same for all images: {', '.join(self.constant)}; likeness to such a layer is undefined, drawn "
                "as 0 and left out of means and drift."
            )
        return {"layers": text + omissions(self.left_out)}

    def _kept(self) -> str:
        """How exact comparisons with other looks and networks are, where they are not."""
        if not self.error and self.widths != (COMPONENTS,):
            return ""
        text = f" That is of each layer's {COMPONENTS:,} largest principal components"
        more = f", which changes the CKA of neighbouring layers here by up to {self.error:.1g}" if self.error else ""
        return f"{text}{more}."

    @classmethod
    def compared(cls, results: dict[str, Self]) -> dict[str, tuple[Tensor, str]]:
        (base, first), *others = results.items()
        fitting = {f"{base} (down) and {name}": other for name, other in others if other.count == first.count}
        if not fitting:
            return {}
        tables = {
            name: torch.tensor([[cka(layer, theirs) for theirs in other.kept] for layer in first.kept])
            for name, other in fitting.items()
        }
        columns = {name: other.layers for name, other in fitting.items()}
        text = f"How alike layers of {base} and of the other networks see the same images (linear CKA).{first._kept()}"
        return {"similarity": (heat_map(tables, first.layers, columns), text)}


@dataclass(kw_only=True)
class SimilarityPlugin(Plugin):
    """Linear CKA between layers (METHODS: comparing networks)."""

    shares: ClassVar[bool] = True

    layers: Sequence[str] = setting([], "none: up to 8, evenly spread over the computation (docs/layers.md)")
    images: int = setting(
        300, "of the validation set, balanced over the classes", least=3, why="or every pair of layers is alike"
    )

    def analyze(self, net: nn.Module, probe: Probe) -> SimilarityResult:
        sample = probe.images[:2]
        named = [Layer.named(net, sample, name) for name in self.layers]
        chosen = named or spread_layers(net, sample, count=8)
        self.layers = [layer.name for layer in chosen]
        images = (batch for batch, _ in probe.some(self.images).batches(self.batch_size))
        found = {**vars(similarity(net, images, chosen))}
        broken = found.pop("broken")
        return SimilarityResult(
            tuple(layer.name for layer in chosen if layer.name not in broken), **found, kinship=torch.zeros(0),
            left_out=tuple(f"{name} (NaN or infinite)" for name in broken),
        )  # fmt: skip
