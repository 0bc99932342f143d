"""Concept data: images whose pixels carry labels of several categories, whatever the source.

Letters: P planes of labels (a pixel may carry several), L concepts, K categories.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from interp.errors import UserError

NONE = -1  # the pixel has no label in this plane
VOID = -2  # the pixel is not part of the picture (in all planes): it counts for no unit and no concept


@dataclass(frozen=True)
class Concepts:
    """What the labels are called."""

    names: tuple[str, ...]  # L
    categories: tuple[str, ...]  # K
    category: tuple[int, ...]  # L indices into categories: a concept belongs to one alone

    def __len__(self) -> int:
        return len(self.names)

    @property
    def largest(self) -> int:
        """How many concepts the largest category has."""
        return max((self.category.count(k) for k in range(len(self.categories))), default=0)


@dataclass(frozen=True)
class Labels:
    """The labels of one image, over the same field as the image but at a resolution of their own."""

    maps: Tensor  # (P, h, w) int32, concepts 0..L-1, NONE or VOID
    labelled: Tensor  # (K,) bool: whether anybody looked for this category here, as for each that `maps` show


class ConceptData(Protocol):
    """Images and labels, read separately: the images for the network, the labels for the count."""

    @property
    def concepts(self) -> Concepts:
        """What the labels are called."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """Image float32 (C, H, W) in [0, 1]."""
        ...

    def labels(self, index: int) -> Labels:
        """Labels of the same image."""
        ...


@dataclass(frozen=True)
class TensorConcepts:
    """Concept data in memory."""

    images: Tensor  # (N, C, H, W) uint8, or float32 in [0, 1]
    maps: Tensor  # (N, P, h, w), concepts 0..L-1, NONE or VOID
    labelled: Tensor  # (N, K) bool
    concepts: Concepts

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        image = self.images[index]
        return image.float() / 255 if image.dtype == torch.uint8 else image

    def labels(self, index: int) -> Labels:
        return Labels(self.maps[index].int(), self.labelled[index])


@dataclass(frozen=True)
class Chosen:
    """Some images of other concept data: one process's share, or a probe."""

    data: ConceptData
    indices: Sequence[int]  # of the images
    label_indices: Sequence[int] | None = None  # of the images whose labels are given instead of their own

    @property
    def concepts(self) -> Concepts:
        """The same as those of `data`."""
        return self.data.concepts

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> Tensor:
        return self.data.image(self.indices[index])

    def labels(self, index: int) -> Labels:
        return self.data.labels((self.label_indices or self.indices)[index])


def shuffled_labels(data: ConceptData, seed: int) -> Chosen:
    """`data` with the labels of the images exchanged at random: what a dissection finds in it is chance."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    return Chosen(data, range(len(data)), order)


@dataclass(frozen=True)
class LabelBatch:
    """Labels of several images at one resolution."""

    images: Tensor  # (B,) int64, places in the batch that they were taken from
    maps: Tensor  # (P, B, h, w) int32, no concept twice in a pixel
    labelled: Tensor  # (B, K) bool
    support: Tensor  # (L,) int64 pixels of each concept
    void: bool  # whether any pixel is VOID


def stack(labels: Iterable[Labels], concepts: Concepts, device: torch.device | str = "cpu") -> Iterator[LabelBatch]:
    """Group `labels` by resolution; a concept that several planes give to one pixel is kept once.

    Raises UserError for a label that is no concept.
    """
    groups: dict[tuple[int, ...], list[tuple[int, Labels]]] = {}
    for place, given in enumerate(labels):
        groups.setdefault(tuple(given.maps.shape[1:]), []).append((place, given))
    for members in groups.values():
        maps = _same_planes([given.maps for _, given in members]).to(device)
        least, most = (int(extreme) for extreme in maps.aminmax())
        if least < VOID or most >= len(concepts):
            wrong = least if least < VOID else most
            raise UserError(f"label {wrong} in the concept data: there are {len(concepts)} concepts, counted from 0")
        support = _areas(maps, len(concepts))
        if (support > 0).sum(dim=0).amax() > 1:
            support = _areas(_once_a_pixel(maps), len(concepts))
        labelled = torch.stack([given.labelled for _, given in members]).to(device)
        places = torch.tensor([place for place, _ in members], device=device)
        yield LabelBatch(places, maps, labelled, support.sum(dim=0), least == VOID)


def _same_planes(maps: list[Tensor]) -> Tensor:
    """Maps (P_i, h, w) stacked to (P, B, h, w) with the largest P (at least 1), filled with NONE (VOID where VOID)."""
    planes = max(1, *(len(m) for m in maps))
    stacked = torch.full((planes, len(maps), *maps[0].shape[1:]), NONE, dtype=torch.int32)
    for place, given in enumerate(maps):
        stacked[: len(given), place] = given
        if 0 < len(given) < planes:
            stacked[len(given) :, place].masked_fill_(given[0] == VOID, VOID)
    return stacked


def _areas(maps: Tensor, concepts: int) -> Tensor:
    """Pixels (P, L) int64 of each concept in each plane."""
    counts = [torch.bincount(plane.flatten().clamp_min(NONE) + 1, minlength=concepts + 1)[1:] for plane in maps]
    return torch.stack(counts)


def _once_a_pixel(maps: Tensor) -> Tensor:
    for plane in range(1, len(maps)):
        repeated = (maps[:plane] == maps[plane]).any(dim=0) & (maps[plane] >= 0)
        maps[plane].masked_fill_(repeated, NONE)
    return maps
