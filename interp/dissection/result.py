"""What a dissection found in one layer."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interp.dissection.concepts.data import Concepts
from interp.dissection.tally import Counts
from interp.result import Result


@dataclass(frozen=True)
class Dissection(Result):
    """The units of a layer against all concepts: U units, L concepts, K categories."""

    layer: str
    concepts: tuple[str, ...]  # L names
    categories: tuple[str, ...]  # K names
    category: Tensor  # (L,) int64, index into categories
    thresholds: Tensor  # (U,) float32, exceeded where the unit fires, NaN where it put out NaN or infinity
    intersection: Tensor  # (U, L) int64 pixels
    area: Tensor  # (U, K) int64 pixels in which the unit fires, in images labelled for the category
    support: Tensor  # (L,) int64 pixels of the concept, 0: no support, its IoU is 0
    chance: Tensor  # (R, 2) int64, detectors and unique detectors when the labels of images are exchanged
    minimum: float  # IoU that a detector exceeds
    # (U,) bool, the unit fires at its maximum alone; (0,) where a result of before does not tell
    saturated: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))

    @classmethod
    def of(
        cls,
        layer: str,
        concepts: Concepts,
        thresholds: Tensor,
        counts: Counts,
        minimum: float = 0.04,
        chance: Sequence[tuple[int, int]] = (),
        saturated: Tensor | None = None,
    ) -> "Dissection":
        """From the counts over all images and processes."""
        return cls(
            layer,
            concepts.names,
            concepts.categories,
            torch.tensor(concepts.category, dtype=torch.int64),
            thresholds,
            counts.intersection,
            counts.area,
            counts.support,
            torch.tensor(chance, dtype=torch.int64).view(-1, 2),
            minimum,
            torch.zeros(len(thresholds), dtype=torch.bool) if saturated is None else saturated,
        )

    @classmethod
    def together(cls, found: "Sequence[Dissection]") -> "Dissection":
        """The units of several layers in a row, dissected on the same data; the level of chance is left out."""
        first = found[0]
        of_units = ("thresholds", "intersection", "area", "saturated")
        joined = {n: torch.cat([getattr(f, n) for f in found]) for n in of_units}
        layer, chance = ", ".join(f.layer for f in found), first.chance[:0]
        return cls(**vars(first) | joined | {"layer": layer, "chance": chance})

    @property
    def iou(self) -> Tensor:
        """(U, L) float64 in [0, 1], over the data set."""
        return Counts(self.intersection, self.area, self.support).iou(self.category)

    @property
    def best(self) -> Tensor:
        """(U,) int64, the concept with the largest IoU, the first of equals."""
        return self.iou.argmax(dim=1)

    @property
    def best_iou(self) -> Tensor:
        """(U,) float64."""
        return self.iou.amax(dim=1)

    @property
    def detectors(self) -> Tensor:
        """(U,) bool: whether the unit detects its best concept."""
        return self.best_iou > self.minimum

    @property
    def dead(self) -> Tensor:
        """(U,) bool: the unit fires in no image with a label."""
        return (self.area == 0).all(dim=1)

    @property
    def unique(self) -> Tensor:
        """Concepts that have a detector, int64 ascending."""
        return self.best[self.detectors].unique()

    @property
    def broken(self) -> Tensor:
        """(U,) bool: the unit put out NaN or infinity, so that it never fires."""
        return self.thresholds.isnan()

    def leading(self, count: int) -> Tensor:
        """Up to `count` units (n,) int64 that fire on something: the best of each concept, then others by their IoU."""
        order = self.best_iou.argsort(descending=True, stable=True)
        order = order[self.best_iou[order] > 0]
        concept = self.best[order]
        repeats = (concept[:, None] == concept).tril(-1).any(dim=1)
        return order[repeats.long().argsort(stable=True)][:count]

    def level(self) -> tuple[int, int]:
        """The number of detectors and of unique detectors."""
        return int(self.detectors.sum()), len(self.unique)

    def by_category(self) -> dict[str, tuple[int, int]]:
        """The number of detectors and of unique detectors of each category."""
        every, unique = (self.category[c].bincount(minlength=len(self.categories)) for c in self._detected())
        return {name: (int(every[k]), int(unique[k])) for k, name in enumerate(self.categories)}

    def _detected(self) -> tuple[Tensor, Tensor]:
        return self.best[self.detectors], self.unique

    def scalars(self) -> dict[str, float]:
        detectors, unique = self.level()
        values: dict[str, float] = {"detectors": detectors, "unique_detectors": unique}
        values |= {"dead_units": int(self.dead.sum()), "saturated_units": int(self.saturated.sum())}
        values["mean_best_iou"] = float(self.best_iou.mean())
        for name, (every, distinct) in self.by_category().items():
            values |= {f"detectors/{name}": every, f"unique_detectors/{name}": distinct}
        if len(self.chance):
            by_chance = self.chance.double().mean(dim=0).tolist()
            values |= {"detectors_by_chance": by_chance[0], "unique_detectors_by_chance": by_chance[1]}
        return {name: float(value) for name, value in values.items()}

    def no_support(self) -> tuple[str, ...]:
        """The concepts without a pixel."""
        return tuple(name for name, pixels in zip(self.concepts, self.support.tolist(), strict=True) if not pixels)

    def out_of_reach(self) -> tuple[str, ...]:
        """Concepts so much larger or smaller than what any unit fires on that no overlap could make a detector."""
        fires = self.area.amax(dim=0)[self.category]
        best = torch.minimum(fires, self.support) / torch.maximum(fires, self.support).clamp_min(1)
        missed = (self.support > 0) & (best <= self.minimum)
        return tuple(self.concepts[c] for c in missed.nonzero()[:, 0].tolist())

    def warn(self) -> None:
        """Warn of what could not be measured."""
        if missing := self.no_support():
            named = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            warnings.warn(f"no support: {len(missing)} concepts have no pixel in these images: {named}", stacklevel=3)
        if broken := int(self.broken.sum()):
            warnings.warn(f"{broken} units of {self.layer} put out NaN or infinity: they are left out", stacklevel=3)


def warn_of_saturated(found: Iterable[Dissection]) -> None:
    """Warn of layers with units that fire by another rule than the rest (`interp.dissection.observed`)."""
    counts = {dissection.layer: dissection.saturated for dissection in found if dissection.saturated.any()}
    if counts:
        units = ", ".join(f"{int(flags.sum())} of {len(flags)} units of {layer}" for layer, flags in counts.items())
        warnings.warn(f"{units} saturate: they fire at their maximum, beyond the quantile's share", stacklevel=3)


def untold(found: Dissection) -> list[str]:
    """What to say of concepts without a pixel, as a part that is left out."""
    missing = len(found.no_support())
    return [f"{missing} of {len(found.concepts)} concepts (they have no pixel in these images)"] if missing else []


def broken_units(found: Iterable[Dissection]) -> list[str]:
    """What to say of units that put out NaN or infinity, layer by layer; raises ValueError where no other is left."""
    counts = {dissection.layer: (int(dissection.broken.sum()), len(dissection.broken)) for dissection in found}
    if counts and all(broken == units for broken, units in counts.values()):
        raise ValueError(f"every unit of {', '.join(counts)} puts out NaN or infinity")
    sentences = {layer: f"{broken} of {units} units of {layer}" for layer, (broken, units) in counts.items() if broken}
    return [f"{text} (they put out NaN or infinity)" for text in sentences.values()]
