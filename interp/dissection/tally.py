"""Where units fire and what is there: intersections and areas of thresholded maps and label maps, in integers.

S = the activation map upsampled bilinearly to the labels' resolution (half-pixel centres, edge clamp: torch's
`align_corners=False`), the unit's mask M = S > T (strict; `interp.dissection.observed.firing_thresholds` says what T is
for units that saturate). Bau et al. 2017.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from interp.dissection.concepts.data import VOID, Concepts, LabelBatch

BLOCK = 2**22  # interpolated values held at once


@dataclass(frozen=True)
class Maps:
    """Activation maps of those (image, unit) pairs of a batch that may fire."""

    image: Tensor  # (n,) int64, place in the batch
    unit: Tensor  # (n,) int64
    values: Tensor  # (n, h, w) float32

    def where(self, chosen: Tensor) -> "Maps":
        """The pairs that `chosen` (bool or indices) says."""
        return Maps(self.image[chosen], self.unit[chosen], self.values[chosen])

    @classmethod
    def above(cls, activations: Tensor, bound: Tensor) -> "Maps":
        """The maps of `activations` (B, U, h, w) whose maximum exceeds the unit's `bound` (U,); NaN never does."""
        image, unit = (activations.amax(dim=(2, 3)) > bound).nonzero(as_tuple=True)
        return cls(image, unit, activations[image, unit])

    @classmethod
    def even(cls, images: int, units: Tensor, values: Tensor, grid: tuple[int, int]) -> "Maps":
        """The maps of `units` (n,) in all of so many `images`: one of the `values` (n,) everywhere on the grid."""
        image = torch.arange(images).repeat_interleave(len(units))
        return cls(image, units.repeat(images), values.repeat(images)[:, None, None].expand(-1, *grid))

    def __add__(self, other: "Maps") -> "Maps":
        """Both."""
        return Maps(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


@dataclass(frozen=True)
class Counts:
    """What adds up over images, batches and processes."""

    intersection: Tensor  # (U, L) int64 pixels where the unit fires on the concept
    area: Tensor  # (U, K) int64 pixels where the unit fires, in images labelled for the category
    support: Tensor  # (L,) int64 pixels of the concept

    @classmethod
    def zero(cls, units: int, concepts: Concepts, device: torch.device | str = "cpu") -> "Counts":
        """Of no image."""
        shapes = ((units, len(concepts)), (units, len(concepts.categories)), (len(concepts),))
        return cls(*(torch.zeros(shape, dtype=torch.int64, device=device) for shape in shapes))

    def __add__(self, other: "Counts") -> "Counts":
        """Of the images of both."""
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def iou(self, category: Tensor) -> Tensor:
        """IoU (U, L) float64 in [0, 1] for the concepts' `category` (L,); 0 where there is nothing."""
        union = self.area[:, category] + self.support - self.intersection
        return self.intersection.double() / union.clamp_min(1)


def masks(activations: Tensor, thresholds: Tensor, height: int, width: int) -> Tensor:
    """Where each unit fires, to look at: (B, U, height, width) bool from `activations` (B, U, h, w) of a few images."""
    down, across = (_weights(n, o, activations) for n, o in zip(activations.shape[2:], (height, width), strict=True))
    return down @ activations.to(down.dtype) @ across.T > thresholds.to(down)[:, None, None]


def count(maps: Maps, thresholds: Tensor, labels: LabelBatch, concepts: Concepts) -> Counts:
    """Counts of one batch: `maps` of its images, `thresholds` (U,), the labels of the same images."""
    units, images, width = len(thresholds), labels.maps.shape[1], len(concepts) + 1
    fires = torch.zeros(images * units, dtype=torch.int64, device=labels.maps.device)
    both = torch.zeros(units * width, dtype=torch.int64, device=labels.maps.device)
    flat = labels.maps.flatten(1)
    for image, unit, pixel in _hits(maps, thresholds, labels.maps.shape[2:]):
        if labels.void:
            inside = flat[0, pixel] != VOID
            image, unit, pixel = image[inside], unit[inside], pixel[inside]
        fires += torch.bincount(image * units + unit, minlength=len(fires))
        concept = flat[:, pixel]  # 0 stands for NONE in what follows
        both += torch.bincount((unit * width + 1 + concept).flatten(), minlength=len(both))
    # float64 holds these integers exactly, and unlike int64 has a matrix product on every device
    area = (fires.view(images, units).double().T @ labels.labelled.double()).long()
    return Counts(both.view(units, width)[:, 1:], area, labels.support)


def _hits(maps: Maps, thresholds: Tensor, size: torch.Size) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Image, unit and pixel (counted over the batch) of every pixel in which a unit fires.

    An interpolated value lies between its neighbours: maps, then rows, that nowhere exceed the threshold are dropped
    before the columns are interpolated.
    """
    height, width = size
    down, across = (_weights(n, o, maps.values) for n, o in zip(maps.values.shape[1:], size, strict=True))
    maps = maps.where(maps.values.amax(dim=(1, 2)) > thresholds[maps.unit]) if len(maps.unit) else maps
    for part in torch.arange(len(maps.unit), device=maps.unit.device).split(max(1, BLOCK // (height * width))):
        chosen = maps.where(part)
        limit = thresholds[chosen.unit].to(down.dtype)
        rows = chosen.values.to(down.dtype).transpose(1, 2) @ down.T  # (n, w, height)
        pair, y = (rows.amax(dim=1) > limit[:, None]).nonzero(as_tuple=True)
        row, x = (rows[pair, :, y] @ across.T > limit[pair, None]).nonzero(as_tuple=True)
        image, unit = chosen.image[pair], chosen.unit[pair]
        yield image[row], unit[row], ((image * height + y) * width)[row] + x


def _weights(size: int, out: int, like: Tensor) -> Tensor:
    """Matrix (out, size) that interpolates linearly, in float64 so that no rounding reaches a comparison."""
    place = ((torch.arange(out, dtype=torch.float64) + 0.5) * size / out - 0.5).clamp(0, size - 1)
    below = place.floor().long()
    weights = torch.zeros(out, size, dtype=torch.float64)
    share = place - below
    weights[torch.arange(out), below] = 1 - share
    weights[torch.arange(out), (below + 1).clamp_max(size - 1)] += share
    return weights.to(like.device)
