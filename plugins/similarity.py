"""How alike layers see the same images, epoch by epoch and from network to network."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from interp.draw.charts import heat_map
from interp.errors import UserError
from interp.layers import Layer, find_layer, spread_layers
from interp.probe import Probe
from interp.result import Result
from interp.similarity import grams, linear_cka
from plugins.base import Plugin


@dataclass(frozen=True)
class SimilarityResult(Result):
    """Centred Gram matrices of N images at L layers, from which the similarity of any two layers follows."""

    layers: tuple[str, ...]  # L names, early to late
    grams: Tensor  # (L, N, N) float64 of Frobenius norm 1
    kinship: Tensor  # (L,) CKA of each layer with itself at the look before, (0,) at the first

    def following(self, previous: "SimilarityResult") -> "SimilarityResult":
        if self.layers != previous.layers or self.grams.shape != previous.grams.shape:
            return self
        return replace(self, kinship=linear_cka(self.grams, previous.grams).diagonal())

    def scalars(self) -> dict[str, float]:
        alike = linear_cka(self.grams, self.grams)
        neighbours = [float(alike[first, second]) for first, second in pairwise(range(len(alike)))]
        drift = {"drift": float(1 - self.kinship.mean())} if len(self.kinship) else {}
        by_layer = {f"drift/{name}": float(1 - value) for name, value in zip(self.layers, self.kinship, strict=False)}
        return {"neighbours": sum(neighbours) / len(neighbours) if neighbours else 1.0, **drift, **by_layer}

    def pictures(self) -> dict[str, Tensor]:
        return {"layers": heat_map({"CKA": linear_cka(self.grams, self.grams)}, self.layers, {"CKA": self.layers})}

    def captions(self) -> dict[str, str]:
        text = (
            f"How alike two layers see the same {self.grams.shape[1]} images (linear CKA: 1 is the same up to rotation "
            "and scale, 0 unrelated). Neighbours that stay at 1 add nothing to each other. Values of few images are "
            "too high: compare them with each other, not with 1."
        )
        if len(self.kinship):
            text += f" Since the look before, layers moved by {1 - float(self.kinship.mean()):.3f} (1 - CKA, mean)."
        return {"layers": text}

    @classmethod
    def compared(cls, results: dict[str, Self]) -> dict[str, tuple[Tensor, str]]:
        (base, first), *others = results.items()
        fitting = {name: other for name, other in others if other.grams.shape[1] == first.grams.shape[1]}
        tables = {f"{base} (down) and {name}": linear_cka(first.grams, o.grams) for name, o in fitting.items()}
        columns = {f"{base} (down) and {name}": other.layers for name, other in fitting.items()}
        if not tables:
            return {}
        text = f"How alike layers of {base} and of the other networks see the same images (linear CKA)."
        return {"similarity": (heat_map(tables, first.layers, columns), text)}


@dataclass(kw_only=True)
class SimilarityPlugin(Plugin):
    """Linear CKA between layers (METHODS: comparing networks)."""

    shares: ClassVar[bool] = True

    layers: Sequence[str] = field(default_factory=list)
    images: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers = [self.layers] if isinstance(self.layers, str) else list(self.layers)
        if self.images < 3:
            raise UserError(f"plugin.{self.name}.images={self.images}: at least 3, or every pair of layers is alike")

    def check(self, net: nn.Module) -> None:
        for layer in self.layers:
            find_layer(net, layer)

    def analyze(self, net: nn.Module, probe: Probe) -> SimilarityResult:
        sample = probe.images[:2]
        named = [Layer.named(net, sample, name) for name in self.layers]
        chosen = named or spread_layers(net, sample, count=8)
        images = (batch for batch, _ in probe.some(self.images).batches(self.batch_size))
        return SimilarityResult(tuple(layer.name for layer in chosen), grams(net, images, chosen), torch.zeros(0))
