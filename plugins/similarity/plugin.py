"""How the similarity study is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from interp.network.layers import Layer, spread_layers
from interp.probe import Probe
from interp.similarity import similarity
from plugins.base import Plugin, setting
from plugins.similarity.result import SimilarityResult


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
        layers = named or spread_layers(net, sample, count=8)
        self.layers = [layer.name for layer in layers]
        images = (batch for batch, _ in probe.some(self.images).batches(self.batch_size))
        seen = similarity(net, images, layers)
        return SimilarityResult(
            layers=tuple(name for name in self.layers if name not in seen.broken), count=seen.count, alike=seen.alike,
            grams=seen.grams, components=seen.components, widths=seen.widths, error=seen.error,
            kinship=torch.zeros(0), left_out=tuple(f"{name} (NaN or infinite)" for name in seen.broken),
        )  # fmt: skip
