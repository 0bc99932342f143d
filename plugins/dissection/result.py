"""What the dissection study has found at one look: units of several layers against concepts."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.dissection import Dissection, change
from interp.result import Result
from plugins.dissection import view

COUNTED = ("concepts", "categories", "category", "thresholds", "intersection", "area", "support", "minimum",
           "saturated")  # fmt: skip


@dataclass(frozen=True)
class DissectionResult(Result):
    """Units of several layers against concepts: U units of all Y layers in a row, L concepts, K categories."""

    view: ClassVar[Any] = view

    layers: tuple[str, ...]  # Y names, early to late
    sizes: tuple[int, ...]  # Y numbers of units, U in all
    concepts: tuple[str, ...]  # L names
    categories: tuple[str, ...]  # K names
    category: Tensor  # (L,) int64, index into categories
    thresholds: Tensor  # (U,) float32, exceeded where the unit fires
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
    # (U,) bool, the unit fires at its maximum alone; (0,) where a result of before does not tell
    saturated: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))

    @property
    def units(self) -> Dissection:
        """All of them as one dissection."""
        counted = {name: getattr(self, name) for name in COUNTED}
        return Dissection(layer=", ".join(self.layers), chance=self.chance[0, :0], **counted)

    def by_layer(self, values: Tensor) -> dict[str, Tensor]:
        """Those of all units (U, ...) as those of each layer, by its name."""
        return dict(zip(self.layers, values.split(self.sizes), strict=True))

    def following(self, previous: "DissectionResult") -> "DissectionResult":
        same = ("layers", "sizes", "concepts", "categories")
        if any(getattr(self, name) != getattr(previous, name) for name in same):
            return self
        changed = change(previous.units, self.units)
        look = len(previous.history)
        since = torch.where(changed.kept, previous.since, torch.where(self.units.detectors, look, -1))
        changes = {name: float(getattr(changed, name).sum()) for name in ("kept", "lost", "gained")}
        return replace(
            self, since=since, history=torch.cat([previous.history, self.history]), changes=changes,
            concepts_lost=changed.concepts_lost, concepts_gained=changed.concepts_gained,
        )  # fmt: skip

    def scalars(self) -> dict[str, float]:
        values = self.units.scalars() | self.changes
        for layer, iou in self.by_layer(self.units.iou).items():
            best, concept = iou.max(dim=1)
            values[f"unique_detectors/{layer}"] = float(len(concept[best > self.minimum].unique()))
        if self.chance.shape[1]:
            values["detectors_by_chance"] = float(self.chance[..., 0].double().sum(dim=0).mean())
        return values
