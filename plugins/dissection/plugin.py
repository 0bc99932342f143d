"""Which units detect which concepts, epoch by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from interp.dissection import (
    ConceptData,
    Dissection,
    TopImages,
    broken_units,
    change,
    concept_data,
    dissect_layers,
    evidence,
)
from interp.draw import grid
from interp.draw.detectors import emergence, histogram, iou_matrix, masked
from interp.draw.table import small, thumbnails
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt, drawn, omissions
from interp.probe import Probe
from interp.processes.share import go_on_alone
from interp.result import Cell, Result
from plugins.base import Plugin, setting

COUNTED = ("concepts", "categories", "category", "thresholds", "intersection", "area", "support", "minimum")


@dataclass(frozen=True)
class DissectionResult(Result):
    """Units of several layers against concepts: U units of all Y layers in a row, L concepts, K categories."""

    layers: tuple[str, ...]  # Y names, early to late
    sizes: tuple[int, ...]  # Y numbers of units, U in all
    concepts: tuple[str, ...]  # L names
    categories: tuple[str, ...]  # K names
    category: Tensor  # (L,) int64, index into categories
    thresholds: Tensor  # (U,) float32
    intersection: Tensor  # (U, L) int64 pixels
    area: Tensor  # (U, K) int64 pixels
    support: Tensor  # (L,) int64 pixels
    chance: Tensor  # (Y, R, 2) int64, detectors and unique detectors with the labels of images exchanged
    quantile: float
    minimum: float
    count: int  # images
    shown: Tensor  # (S,) int64, units with pictures
    images: Tensor  # (S, n, C, H, W) uint8, in which they peak highest
    masks: Tensor  # (S, n, H, W) bool, where they fire
    peaks: Tensor  # (M, C, h, w) uint8, images in which units peak highest, each once, at most 64 pixels wide and high
    peak: Tensor  # (U,) int64, index into peaks
    since: Tensor  # (U,) int64, look since which the unit has detected its concept, -1: no detector
    history: Tensor  # (E, Y, K) int64, detectors at each look, this one last
    changes: dict[str, float]  # detectors kept, lost and gained since the look before; empty at the first
    concepts_lost: tuple[str, ...]  # without a detector since the look before
    concepts_gained: tuple[str, ...]

    @property
    def units(self) -> Dissection:
        """All of them as one dissection."""
        counted = {name: getattr(self, name) for name in COUNTED}
        return Dissection(layer=", ".join(self.layers), chance=self.chance[0, :0], **counted)

    def following(self, previous: "DissectionResult") -> "DissectionResult":
        same = ("layers", "sizes", "concepts", "categories")
        if any(getattr(self, name) != getattr(previous, name) for name in same):
            return self
        found = change(previous.units, self.units)
        look = len(previous.history)
        since = torch.where(found.kept, previous.since, torch.where(self.units.detectors, look, -1))
        changes = {name: float(getattr(found, name).sum()) for name in ("kept", "lost", "gained")}
        return replace(
            self, since=since, history=torch.cat([previous.history, self.history]), changes=changes,
            concepts_lost=found.concepts_lost, concepts_gained=found.concepts_gained,
        )  # fmt: skip

    def scalars(self) -> dict[str, float]:
        values = self.units.scalars() | self.changes
        for layer, table in zip(self.layers, self.units.iou.split(self.sizes), strict=True):
            best, concept = table.max(dim=1)
            values[f"unique_detectors/{layer}"] = float(len(concept[best > self.minimum].unique()))
        if self.chance.shape[1]:
            values["detectors_by_chance"] = float(self.chance[..., 0].double().sum(dim=0).mean())
        return values

    @classmethod
    def compared(cls, results: dict[str, Self]) -> dict[str, tuple[Tensor, str]]:
        (base, first), *others = results.items()
        fitting = {name: each for name, each in results.items() if each.concepts == first.concepts}
        many = len(first.concepts)
        counts = {
            name: torch.where(each.units.detectors, each.units.best, many).bincount(minlength=many + 1)[:many]
            for name, each in fitting.items()
        }
        said = []
        for name, other in others:
            if name in fitting and (other.layers, other.sizes) == (first.layers, first.sizes):
                found = change(first.units, other.units)
                kept, lost, gained = (int(getattr(found, key).sum()) for key in ("kept", "lost", "gained"))
                said.append(f" {base} to {name}, unit by unit: {kept} detectors kept, {lost} lost, {gained} gained.")
        text = "Detectors of each concept in each network, of all layers together." + "".join(said)
        return {"compared": (histogram(counts, first.concepts, first.category, first.categories), text)}

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        units, layer, number = self.units, *self._places()
        best, iou, since = units.best.tolist(), units.best_iou.tolist(), self.since.tolist()
        peaks, peak = thumbnails(self.peaks).unbind(), self.peak.tolist()
        rows: list[list[Cell]] = [
            [self.layers[layer[u]], number[u], self.concepts[best[u]], self.categories[int(self.category[best[u]])],
             iou[u], "yes" if since[u] >= 0 else "no", str(since[u]) if since[u] >= 0 else "",
             peaks[peak[u]]]
            for u in units.best_iou.argsort(descending=True, stable=True).tolist()
        ]  # fmt: skip
        columns = ["layer", "unit", "best concept", "category", "IoU", "detector", "since look", "peaks in"]
        return {"units": (columns, rows)}

    def _places(self) -> tuple[list[int], list[int]]:
        """The layer of each unit, and its number there."""
        sizes = torch.tensor(self.sizes)
        layer = torch.arange(len(sizes)).repeat_interleave(sizes)
        return layer.tolist(), (torch.arange(len(layer)) - (sizes.cumsum(0) - sizes)[layer]).tolist()

    def _split(self, values: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.layers, values.split(self.sizes), strict=True))

    def pictures(self) -> dict[str, Tensor]:
        units, many = self.units, len(self.concepts)
        detected = torch.where(units.detectors, units.best, many)  # those of no concept come last and are cut off
        counts = {name: own.bincount(minlength=many + 1)[:many] for name, own in self._split(detected).items()}
        makers = {
            "detectors": lambda: histogram(counts, self.concepts, self.category, self.categories),
            "iou": lambda: iou_matrix(self._split(units.iou), self.concepts, self.category, self.minimum),
        }
        if len(self.shown):
            makers["units"] = self._sheet
        if len(self.history) > 1:
            makers["emergence"] = lambda: emergence(self.history, self._standing(), self.categories)
        return drawn("picture", makers)

    def _sheet(self) -> Tensor:
        units, layer, number = self.units, *self._places()
        names = [
            f"{self.layers[layer[u]]} {number[u]}: {self.concepts[units.best[u]]} {units.best_iou[u]:.2f}"
            for u in self.shown.tolist()
        ]
        return grid(masked(self.images, self.masks), names)

    def _standing(self) -> dict[str, Tensor]:
        """(E, K) detectors of each layer by the look since which they stand, and category."""
        looks, many = len(self.history), len(self.categories)
        place = self.since * many + self.category[self.units.best]
        return {
            name: own[own >= 0].bincount(minlength=looks * many).view(looks, many)
            for name, own in self._split(torch.where(self.since < 0, -1, place)).items()
        }

    def captions(self) -> dict[str, str]:
        units = self.units
        found, unique = units.level()
        far = units.out_of_reach()
        text = (
            f"Network dissection over {self.count} images: a unit fires where its activation exceeds the value that "
            f"{self.quantile:.1%} of its positions exceed, and detects a concept if their IoU (shared over joined "
            f"area) exceeds {self.minimum:g}. {found} of {len(self.since)} units are detectors, of {unique} concepts."
        )
        if self.chance.shape[1]:
            by_chance = self.chance[..., 0].double().sum(dim=0).mean()
            text += (
                f" With the labels of the images exchanged {by_chance:.3g} would be: trust no more than exceeds this."
            )
        if far:
            named = ", ".join(far[:8]) + (", ..." if len(far) > 8 else "")
            text += f" Out of reach, as units fire on far fewer or more pixels than these cover: {named}"
            text += " (a larger quantile would reach larger ones)."
        text += omissions(self.left_out)
        sheet = (
            "The best units of each layer, another concept each where there are so many: the images in which they "
            f"peak highest, lit where they fire; beside the name the IoU. At {self.minimum:g} or less it is no "
            "detector, and the name means little."
        )
        matrix = "IoU of all units (across) with the concepts (down); white dots mark detectors."
        return {
            "detectors": text, "iou": matrix, **({"units": sheet} if len(self.shown) else {}),
            **({"emergence": self._news()} if len(self.history) > 1 else {}),
        }  # fmt: skip

    def _news(self) -> str:
        lost, gained = (", ".join(names) or "none" for names in (self.concepts_lost, self.concepts_gained))
        kept, left, new = (int(self.changes[name]) for name in ("kept", "lost", "gained"))
        return (
            f"Detectors over the looks (0 is the first). Units are matched by their number: since the look before "
            f"{kept} kept their concept, {left} lost it, {new} gained one. Concepts without a detector now: {lost}; "
            f"with one now: {gained}."
        )


@dataclass(kw_only=True)
class DissectionPlugin(Plugin):
    """Which unit of which layer detects which concept (Bau et al. 2017; seed 003)."""

    shares: ClassVar[bool] = True

    layers: Sequence[str] = setting([], "none: up to 4, evenly spread over the computation (docs/layers.md)")
    concepts: ConceptData | None = setting(
        None, "the data set's own (shapes), else its classes; or {_target_: interp.dissection.Broden, root: FOLDER}"
    )
    images: int | None = setting(
        300, "of the concept data, evenly spread; null: all. Few images make chance detectors", least=1
    )
    quantile: float = setting(0.005, "share of its positions in which a unit fires, before upsampling")
    minimum: float = setting(0.04, "IoU that a detector exceeds")
    shuffles: int = setting(1, "counts with the labels of images exchanged, which give the level of chance", least=0)
    shown: int = setting(4, "units of each layer in the picture", least=0)
    top: int = setting(6, "images for each of them", least=1)

    def analyze(self, net: nn.Module, probe: Probe) -> DissectionResult:
        data = concept_data(probe, self.concepts, self.images)
        layers = [Layer.named(net, probe.images, name) for name in self.layers] or spread_layers(net, probe.images[:8])
        self.layers = [layer.name for layer in layers]
        options = {name: getattr(self, name) for name in ("quantile", "minimum", "shuffles", "seed", "batch_size")}
        found, tops = dissect_layers(net, data, layers, self.top, **options)
        go_on_alone()
        each = list(found.values())
        left_out = broken_units(each)
        sheets = [
            attempt(left_out, f"pictures of {layer.name}", partial(self._sheet, net, data, layer, found, tops))
            or self._no_sheet(data)
            for layer in layers
        ]
        sizes = [len(one.thresholds) for one in each]
        starts = [sum(sizes[:at]) for at in range(len(sizes))]
        shown = torch.cat([units + start for (units, *_), start in zip(sheets, starts, strict=True)])
        units = Dissection.together(each)
        numbers, peak = torch.cat([tops[layer.name].images[:, 0] for layer in layers]).unique(return_inverse=True)
        peaks = torch.cat([small(data.image(number)[None]) for number in numbers.tolist()])
        counts = torch.tensor([[every for every, _ in one.by_category().values()] for one in each])
        return DissectionResult(
            layers=tuple(self.layers), sizes=tuple(sizes), **{name: getattr(units, name) for name in COUNTED},
            chance=torch.stack([one.chance for one in each]), quantile=self.quantile, count=len(data), shown=shown,
            images=torch.cat([images for _, images, _ in sheets]), masks=torch.cat([fires for *_, fires in sheets]),
            peaks=peaks, peak=peak, since=units.detectors.long() - 1, history=counts[None], changes={},
            concepts_lost=(), concepts_gained=(), left_out=tuple(left_out),
        )  # fmt: skip

    def _sheet(
        self,
        net: nn.Module,
        data: ConceptData,
        layer: Layer,
        found: dict[str, Dissection],
        tops: dict[str, TopImages],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The units shown, the images in which they peak, and where they fire."""
        own = found[layer.name]
        units = own.leading(self.shown)
        peaks = tops[layer.name].images[units]
        return units, *evidence(net, data, layer, units, peaks, own.thresholds, self.batch_size)

    def _no_sheet(self, data: ConceptData) -> tuple[Tensor, Tensor, Tensor]:
        channels, height, width = data.image(0).shape
        sizes = (0, min(self.top, len(data)))
        images = torch.zeros(*sizes, channels, height, width, dtype=torch.uint8)
        return torch.zeros(0, dtype=torch.int64), images, torch.zeros(*sizes, height, width, dtype=torch.bool)
