"""Disturbed images with their labels disturbed alike: noise, rotation, shuffled patches (network dissection, seed 003).

Images are (..., H, W) in [0, 1], label maps (..., h, w) of integers over the same field at a resolution of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from interp.dissection.concepts import VOID, ConceptData, Concepts, Labels


def add_noise(images: Tensor, strength: float, seed: int) -> Tensor:
    """`images` + `strength` * Unif[0, 1] in the scale 0..255, clipped; the noise also brightens, by half of it."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + noise.to(images) * (strength / 255)).clamp(0, 1)


def rotate_images(images: Tensor, degrees: float) -> Tensor:
    """`images` (..., C, H, W) turned counter-clockwise about their centre, bilinear; the empty corners are black."""
    return transforms.rotate(images, degrees, InterpolationMode.BILINEAR, fill=0)


def rotate_labels(maps: Tensor, degrees: float) -> Tensor:
    """Label maps (..., P, h, w) turned as `rotate_images` does, nearest; the empty corners are VOID."""
    inside = maps - VOID  # 0 outside: torchvision clamps integers that it fills with
    return transforms.rotate(inside.float(), degrees, InterpolationMode.NEAREST, fill=0).to(maps.dtype) + VOID


def shuffle_patches(maps: Tensor, grid: int, seed: int) -> Tensor:
    """`maps` (..., H, W) cut into `grid` x `grid` patches that change places, alike for any resolution.

    Where the sides are no multiples of `grid`, the nearest pixel is taken.
    """
    source = torch.randperm(grid * grid, generator=torch.Generator().manual_seed(seed)).view(grid, grid)
    (cell_y, within_y), (cell_x, within_x) = (_cells(side, grid) for side in maps.shape[-2:])
    moved = source[cell_y][:, cell_x]
    y = ((moved // grid + within_y[:, None]) * maps.shape[-2] / grid).floor().long()
    x = ((moved % grid + within_x) * maps.shape[-1] / grid).floor().long()
    return maps[..., y.to(maps.device), x.to(maps.device)]


def _cells(side: int, grid: int) -> tuple[Tensor, Tensor]:
    """The patch that each pixel's centre lies in, int64 (side,), and how far in it, in [0, 1)."""
    place = (torch.arange(side, dtype=torch.float64) + 0.5) * grid / side
    return place.floor().long(), place - place.floor()


@dataclass(frozen=True)
class Disturbance:
    """What happens to an image and to its labels, given a seed."""

    name: str
    image: Callable[[Tensor, int], Tensor]
    labels: Callable[[Tensor, int], Tensor]


def noise(strength: float) -> Disturbance:
    """Uniform noise; the labels stay."""
    return Disturbance(
        f"noise {strength:g}", lambda image, seed: add_noise(image, strength, seed), lambda maps, _: maps
    )


def rotation(degrees: float) -> Disturbance:
    """Rotation of images and labels."""
    return Disturbance(
        f"rotation {degrees:g}",
        lambda image, _: rotate_images(image, degrees),
        lambda maps, _: rotate_labels(maps, degrees),
    )


def patches(grid: int) -> Disturbance:
    """Shuffled patches of images and labels, `grid` x `grid` of them."""

    def shuffle(maps: Tensor, seed: int) -> Tensor:
        return shuffle_patches(maps, grid, seed)

    return Disturbance(f"patches {grid} x {grid}", shuffle, shuffle)


STANDARD = (*map(noise, (1, 5, 10, 100)), *map(rotation, (10, 45, 90)), *map(patches, (4, 8)))


@dataclass(frozen=True)
class Disturbed:
    """Concept data under a disturbance; image i is disturbed in the same way each time it is read."""

    data: ConceptData
    disturbance: Disturbance
    seed: int = 0

    @property
    def concepts(self) -> Concepts:
        """Those of `data`."""
        return self.data.concepts

    def __len__(self) -> int:
        return len(self.data)

    def image(self, index: int) -> Tensor:
        return self.disturbance.image(self.data.image(index), self._seed(index))

    def labels(self, index: int) -> Labels:
        given = self.data.labels(index)
        return Labels(self.disturbance.labels(given.maps, self._seed(index)), given.labelled)

    def _seed(self, index: int) -> int:
        return self.seed * 1_000_003 + index
