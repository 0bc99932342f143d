"""How the dissection study is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from interp.dissection import (
    ConceptData,
    Dissection,
    TopImages,
    broken_units,
    concept_data,
    dissect_layers,
    evidence,
    untold,
    usual_quantile,
)
from interp.draw.table import small
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt
from interp.probe import Probe
from interp.processes.share import go_on_alone
from plugins.base import Plugin, setting, spread_setting
from plugins.dissection.result import COUNTED, DissectionResult


class Sheet(NamedTuple):
    """The units of a layer that are shown, with the images in which they peak."""

    units: Tensor  # (S,) int64
    images: Tensor  # (S, n, C, H, W) uint8
    masks: Tensor  # (S, n, H, W) bool, where they fire


@dataclass(kw_only=True)
class DissectionPlugin(Plugin):
    """Which unit of which layer detects which concept (Bau et al. 2017; seed 003)."""

    shares: ClassVar[bool] = True

    layers: Sequence[str] = spread_setting(4)
    concepts: ConceptData | None = setting(
        None, "the data set's own (shapes), else its classes; or {_target_: interp.dissection.Broden, root: FOLDER}"
    )
    images: int | Literal["enough"] | None = setting(
        "enough",
        "of the concept data, evenly spread: 10 a concept of its largest category, 300 to 3,000; a number; null: all",
        least=1,
    )
    quantile: float | None = setting(
        None,
        "share of its positions in which a unit fires, before upsampling; null: 0.005, on vectors 1 / concepts",
    )
    minimum: float = setting(0.04, "IoU that a detector exceeds")
    shuffles: int = setting(1, "counts with the labels of images exchanged, which give the level of chance", least=0)
    shown: int = setting(4, "units of each layer in the picture", least=0)
    top: int = setting(6, "images for each of them", least=1)

    def analyze(self, net: nn.Module, probe: Probe) -> DissectionResult:
        data = concept_data(probe, self.concepts, self.images)
        layers = [Layer.named(net, probe.images, name) for name in self.layers] or spread_layers(net, probe.images[:8])
        self.layers = [layer.name for layer in layers]
        quantile = usual_quantile(layers, data.concepts) if self.quantile is None else self.quantile
        options = {name: getattr(self, name) for name in ("minimum", "shuffles", "seed", "batch_size")}
        options["quantile"] = quantile
        by_layer, tops = dissect_layers(net, data, layers, self.top, **options)
        go_on_alone()
        dissections = list(by_layer.values())
        left_out = broken_units(dissections) + untold(dissections[0])
        make = partial(self._sheet, net, data)
        sheets = [
            attempt(left_out, f"pictures of {layer.name}", partial(make, layer, by_layer[layer.name], tops[layer.name]))
            or self._no_sheet(data)
            for layer in layers
        ]
        peaks, peak = _peaks(data, [tops[layer.name] for layer in layers])
        return DissectionResult(
            layers=tuple(self.layers), quantile=quantile, count=len(data), **_of_all_units(dissections),
            **_of_shown_units(sheets, dissections), peaks=peaks, peak=peak, changes={}, concepts_lost=(),
            concepts_gained=(), left_out=tuple(left_out),
        )  # fmt: skip

    def _sheet(self, net: nn.Module, data: ConceptData, layer: Layer, dissection: Dissection, tops: TopImages) -> Sheet:
        units = dissection.leading(self.shown)
        images = tops.images[units]
        return Sheet(units, *evidence(net, data, layer, units, images, dissection.thresholds, self.batch_size))

    def _no_sheet(self, data: ConceptData) -> Sheet:
        channels, height, width = data.image(0).shape
        sizes = (0, min(self.top, len(data)))
        images = torch.zeros(*sizes, channels, height, width, dtype=torch.uint8)
        masks = torch.zeros(*sizes, height, width, dtype=torch.bool)
        return Sheet(torch.zeros(0, dtype=torch.int64), images, masks)


def _of_all_units(dissections: Sequence[Dissection]) -> dict[str, Any]:
    """Fields of the result: what was counted of each unit, the layers in a row."""
    units = Dissection.together(dissections)
    detectors = [[count for count, _ in dissection.by_category().values()] for dissection in dissections]
    return {name: getattr(units, name) for name in COUNTED} | {
        "sizes": tuple(len(dissection.thresholds) for dissection in dissections),
        "chance": torch.stack([dissection.chance for dissection in dissections]),
        "since": units.detectors.long() - 1,
        "history": torch.tensor(detectors)[None],
    }


def _of_shown_units(sheets: Sequence[Sheet], dissections: Sequence[Dissection]) -> dict[str, Any]:
    """Fields of the result: the pictures of the layers, with the numbers of their units among all."""
    sizes = [len(dissection.thresholds) for dissection in dissections]
    starts = [sum(sizes[:y]) for y in range(len(sizes))]
    return {
        "shown": torch.cat([sheet.units + start for sheet, start in zip(sheets, starts, strict=True)]),
        "images": torch.cat([sheet.images for sheet in sheets]),
        "masks": torch.cat([sheet.masks for sheet in sheets]),
    }


def _peaks(data: ConceptData, tops: Sequence[TopImages]) -> tuple[Tensor, Tensor]:
    """The images (M, C, h, w) uint8 in which units peak highest, each once and small, and the number (U,) of each's."""
    numbers, peak = torch.cat([top.images[:, 0] for top in tops]).unique(return_inverse=True)
    return torch.cat([small(data.image(number)[None]) for number in numbers.tolist()]), peak
