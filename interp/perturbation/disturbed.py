"""Disturbed images with their labels disturbed alike: noise, rotation, shuffled patches (network dissection, seed 003).

As an option the common corruptions of Hendrycks and Dietterich (2019).
Images are (..., H, W) in [0, 1], label maps (..., h, w) of integers over the same field at a resolution of their own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from interp.dissection.concepts.data import VOID, ConceptData, Concepts, Labels
from interp.errors import UserError, unknown


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


CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip


def corrupt(image: Tensor, kind: str, severity: int, seed: int) -> Tensor:
    """`image` (C, H, W) with one of the `CORRUPTIONS` at a severity of 1 to 5, by the package imagecorruptions.

    Raises UserError where it is not installed, and for images of less than 32 pixels or neither 1 nor 3 channels.
    """
    if len(image) not in (1, 3):
        raise UserError(
            f"{kind} needs images of 1 or 3 channels, these have {len(image)}: choose noise, rotation, patches"
        )
    try:
        import imagecorruptions
    except ImportError as error:
        message = f"{kind} needs a package, 435 MB with all that it needs: pip install imagecorruptions-imaug"
        raise UserError(message) from error
    if min(image.shape[1:]) < 32:
        raise UserError(f"{kind} needs images of at least 32 x 32 pixels, these have {tuple(image.shape[1:])}")
    picture = (image.movedim(0, -1).expand(-1, -1, 3).cpu().numpy() * 255).round().astype(np.uint8)
    # the others draw from NumPy's own stream
    seeded = {"seed": seed} if kind in ("impulse_noise", "glass_blur") else {}
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed % 2**32)  # noqa: NPY002
        corrupted = imagecorruptions.corrupt(picture, severity, kind, **seeded)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    result = torch.from_numpy(corrupted.copy()).movedim(-1, 0).to(image) / 255
    return result.mean(dim=0, keepdim=True) if len(image) == 1 else result


@dataclass(frozen=True)
class Disturbance:
    """What happens to an image and to its labels, given a seed."""

    family: str
    strength: str
    image: Callable[[Tensor, int], Tensor]
    labels: Callable[[Tensor, int], Tensor]

    @property
    def name(self) -> str:
        """Family and strength."""
        return f"{self.family} {self.strength}"


def _stay(maps: Tensor, seed: int) -> Tensor:
    return maps


def noise(strength: float) -> Disturbance:
    """Uniform noise; the labels stay."""
    return Disturbance("noise", f"{strength:g}", lambda image, seed: add_noise(image, strength, seed), _stay)


def rotation(degrees: float) -> Disturbance:
    """Rotation of images and labels."""
    return Disturbance(
        "rotation",
        f"{degrees:g}",
        lambda image, _: rotate_images(image, degrees),
        lambda maps, _: rotate_labels(maps, degrees),
    )


def patches(grid: int) -> Disturbance:
    """Shuffled patches of images and labels, `grid` x `grid` of them."""

    def shuffle(maps: Tensor, seed: int) -> Tensor:
        return shuffle_patches(maps, grid, seed)

    return Disturbance("patches", f"{grid} x {grid}", shuffle, shuffle)


def corruption(kind: str, severity: int) -> Disturbance:
    """One of the `CORRUPTIONS` at a severity of 1 to 5; the labels stay, also where a blur moves an edge."""
    return Disturbance(kind, str(severity), lambda image, seed: corrupt(image, kind, severity, seed), _stay)


STANDARD = (*map(noise, (1, 5, 10, 100)), *map(rotation, (10, 45, 90)), *map(patches, (4, 8)))
ATTACKS = {"fgsm": 1, "pgd": 10}  # steps


def disturbances(names: Iterable[str]) -> list[Disturbance]:
    """Those of STANDARD by family, or the `CORRUPTIONS` by name (`corruptions`: all) at five severities.

    Raises UserError for another name.
    """
    known = ("noise", "rotation", "patches", "corruptions", *CORRUPTIONS)
    disturbances: list[Disturbance] = []
    for name in names:
        if name not in known:
            raise unknown("disturbance", name, [*known, *ATTACKS])
        kinds = CORRUPTIONS if name == "corruptions" else [name] if name in CORRUPTIONS else []
        disturbances += [d for d in STANDARD if d.family == name]
        disturbances += [corruption(kind, severity) for kind in kinds for severity in range(1, 6)]
    return disturbances


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
