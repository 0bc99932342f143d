"""Random looks at the canvas: pad, jitter, scale and rotate as one affine resampling, drawn for each image.

Pictures that survive small moves show what a layer looks for, not a noise that fits it (Olah et al. 2017).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from interp.errors import UserError

FILL = 0.5  # grey outside of the canvas


@dataclass(frozen=True)
class Transforms:
    """How far looks may differ. `pad` and both jitters are shares of the shorter side, angles in degrees.

    As in Lucid, a jitter of j crops the frame by j pixels at a random place: it moves the picture by up to j/2.
    """

    pad: float = 0.0  # grey on each side
    jitter: float = 0.0
    scales: tuple[float, ...] = (1.0,)
    angles: tuple[float, ...] = (0.0,)
    last_jitter: float = 0.0  # after scaling and rotating
    crop: tuple[float, float] | None = None  # share of the side that is seen at the first and at the last step
    noise: float = 0.0  # standard deviation added to the pixels
    feed: tuple[int, int] | None = None  # H, W that the network gets; the frame's own size where None

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what the network gets for a canvas of `size`."""
        return self.feed or self._extent(size)

    def _extent(self, size: tuple[int, int]) -> tuple[int, int]:
        """The frame in pixels of the canvas; padding is even, so that without a move pixels fall on pixels."""
        pad, *jitters = self._pixels(size)
        margin = 2 * ((2 * pad - sum(jitters)) // 2) if pad else 0
        return size[0] + margin, size[1] + margin

    def _pixels(self, size: tuple[int, int]) -> tuple[int, int, int]:
        side = min(size)
        return round(self.pad * side), round(self.jitter * side), round(self.last_jitter * side)

    def draw(self, steps: int, count: int, size: tuple[int, int], seed: int) -> Tensor:
        """Affine maps (steps, count, 2, 3) from frame to canvas, both in [-1, 1], for a canvas of `size`.

        The first maps of each step are the same whatever `count` is. Raises UserError where the canvas is too small.
        """
        self._check(size)
        uniform = torch.rand(count, steps, 8, generator=torch.Generator().manual_seed(seed)).transpose(0, 1)
        turn = torch.deg2rad(_choose(uniform[..., 0], self.angles))
        shrink = 1 / _choose(uniform[..., 1], self.scales)
        _, first, last = self._pixels(size)
        before, after = _shift(uniform[..., 2:4], first), _shift(uniform[..., 4:6], last)
        if self.crop is not None:
            shrink = shrink * torch.linspace(*self.crop, steps)[:, None]
            before = before - 0.15 * 2**0.5 * torch.erfinv(2 * uniform[..., 6:8] - 1).clamp(-2, 2) * _sides(size)
        matrix = shrink[..., None, None] * _rotation(turn)
        offset = -before - (matrix @ after[..., None])[..., 0]
        matrix = matrix * _sides(self._extent(size)) / _sides(size)[:, None]
        return torch.cat([matrix, (2 * offset / _sides(size))[..., None]], dim=-1)

    def _check(self, size: tuple[int, int]) -> None:
        frame = self.frame(size)
        if min(frame) < 4 or min(size) < 4:
            raise UserError(f"{size[0]} x {size[1]} pixels are too few to be drawn: give a size of at least 4 x 4")

    def __call__(self, images: Tensor, maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The frames (B, C, h, w) that `maps` (B, 2, 3) show of `images` (B, C, H, W); `generator` is for the noise."""
        if self == NONE:
            return images
        frames = warp(images - FILL, maps, self.frame((images.shape[-2], images.shape[-1]))) + FILL
        if not self.noise or generator is None:
            return frames
        return frames + self.noise * torch.randn(frames.shape, generator=generator, device=frames.device)


def warp(images: Tensor, maps: Tensor, size: tuple[int, int]) -> Tensor:
    """`images` (B, C, H, W) seen through affine `maps` (B, 2, 3) at `size`, bilinearly, zero outside."""
    grid = affine_grid(maps.to(images), [len(images), images.shape[1], *size], align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _choose(uniform: Tensor, options: tuple[float, ...]) -> Tensor:
    return torch.tensor(options)[(uniform * len(options)).long().clamp_max(len(options) - 1)]


def _shift(uniform: Tensor, width: int) -> Tensor:
    """Whole pixels from -(width // 2) to width // 2, evenly."""
    reach = width // 2
    return (uniform * (2 * reach + 1)).floor().clamp_max(2 * reach) - reach


def _rotation(radians: Tensor) -> Tensor:
    cos, sin = radians.cos(), radians.sin()
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)


def _sides(size: tuple[int, int]) -> Tensor:
    """(2,) width, height: x comes first in affine maps."""
    return torch.tensor([size[1], size[0]], dtype=torch.float32)


NONE = Transforms()
LUCID = Transforms(  # as it is there for 128 pixels
    pad=12 / 128,
    jitter=8 / 128,
    scales=tuple(1 + step / 50 for step in range(-5, 6)),
    angles=(*map(float, range(-10, 11)), *[0.0] * 5),
    last_jitter=4 / 128,
)
STANDARD = replace(LUCID, pad=0.0)  # the grey margin costs a fifth more and ends in patterns along the edges
SMALL = Transforms(  # for 28 to 64 pixels
    jitter=0.08, scales=(0.95, 0.975, 1.0, 1.025, 1.05), angles=(*map(float, range(-5, 6)), *[0.0] * 5)
)
CROPS = Transforms(crop=(0.5, 0.05), noise=0.05)  # what Maco canvases want
NAMED = {"standard": STANDARD, "lucid": LUCID, "small": SMALL, "crops": CROPS, "none": NONE}


def for_size(size: tuple[int, int]) -> Transforms:
    """The named set that suits canvases of `size`: SMALL up to 64 pixels, else STANDARD."""
    return SMALL if min(size) <= 64 else STANDARD
