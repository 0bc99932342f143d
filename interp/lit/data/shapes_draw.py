"""The pen of `shapes`: scenes, outlines and textures, anti-aliased, for a batch of images at once.

Lengths are in canvas units, 64 to a side whatever the size in pixels; x grows to the right, y downwards. Work on pixels
uses correctly rounded arithmetic alone (no sine, no matrix product), so that the bits depend on neither the batch nor
the number of threads. Of shapes and textures positions are (n, H, W), radius and period (n, 1, 1), signed distances
(n, H, W), negative inside.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SIDE = 64  # canvas units
RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Where the pixel centres are, in canvas units."""

    x: Tensor  # (1, 1, W) float32
    y: Tensor  # (1, H, 1) float32
    scale: float  # pixels in a unit

    @classmethod
    def of(cls, size: int) -> "Grid":
        """The pixel centres of an image of `size` x `size`."""
        centres = (torch.arange(size, dtype=torch.float32) + 0.5) * (SIDE / size)
        return cls(centres[None, None, :], centres[None, :, None], size / SIDE)

    def cover(self, distance: Tensor) -> Tensor:
        """The share of each pixel that is inside, from the signed distance (n, H, W) to the edge, negative inside."""
        return (0.5 - distance * self.scale).clamp_(0, 1)


def frac(value: Tensor) -> Tensor:
    """The part of `value` after the point, in [0, 1)."""
    return value - value.floor()


def wave(turns: Tensor) -> Tensor:
    """A smooth wave of period 1 in [-1, 1], two parabolas: a sine to the eye."""
    t = frac(turns) - 0.5
    return 8 * t * (1 - 2 * t.abs())


def blend(canvas: Tensor, color: Tensor | RGB, alpha: Tensor) -> None:
    """Lay `color`, (3,) or (n, 3), over `canvas` (n, 3, H, W) in place with opacity `alpha` (n, H, W)."""
    paint = torch.as_tensor(color, dtype=torch.float32)[..., None, None]
    canvas += (paint - canvas) * alpha.unsqueeze(1)


def pick(dice: Tensor, cell: Tensor) -> Tensor:
    """The number of `dice` that belongs to the integer `cell` (n, H, W) a pixel is in; repeats after 199 cells."""
    index = cell.long().remainder(199).expand(len(dice), *cell.shape[1:]) + dice.shape[1] - 199
    return dice.flatten(1).gather(1, index.flatten(1)).view_as(index)


# Scenes: `dice` holds uniform numbers of each image, (n, D, 1, 1); the colours are duller than those of objects.


def sky(grid: Grid, dice: Tensor, top: RGB, bottom: RGB) -> Tensor:
    """A vertical gradient from `top` to `bottom` over the upper 40 units, (n, 3, H, W)."""
    size = grid.x.shape[-1]
    canvas = torch.tensor(top)[None, :, None, None].expand(len(dice), 3, size, size).clone()
    blend(canvas, bottom, (grid.y / 40).clamp(0, 1).expand(len(dice), size, size))
    return canvas


def meadow(grid: Grid, dice: Tensor) -> Tensor:
    """Hills with rows of grass and daisies under a pale sky, (n, 3, H, W)."""
    canvas = sky(grid, dice, (0.60, 0.76, 0.88), (0.87, 0.93, 0.94))
    depth = grid.y - (22 + 12 * dice[:, 0] + 4 * wave(grid.x / 52 + dice[:, 1]))
    ground = grid.cover(-depth)
    blend(canvas, (0.33, 0.47, 0.24), ground)
    row = (depth / 5).floor()
    blade = (frac(grid.x / 3.4 + row * 0.37) - 0.5).abs() * 2 - frac(depth / 5)
    blend(canvas, (0.47, 0.61, 0.33), ground * grid.cover(blade * 2))
    u, v = grid.x / 9, depth / 8
    daisy = ((frac(u) - 0.5).square() * 81 + (frac(v) - 0.5).square() * 64).sqrt() - 1.1
    grows = pick(dice, u.floor() * 13 + v.floor()) < 0.3
    blend(canvas, (0.96, 0.96, 0.90), grid.cover(daisy) * grows * (depth > 3))
    return canvas


def sea(grid: Grid, dice: Tensor) -> Tensor:
    """Rows of waves with foam, wider towards the viewer, (n, 3, H, W)."""
    canvas = sky(grid, dice, (0.72, 0.77, 0.84), (0.93, 0.90, 0.88))
    depth = grid.y - (20 + 14 * dice[:, 0])
    water = grid.cover(-depth)
    blend(canvas, (0.20, 0.40, 0.50), water)
    near = depth.clamp_min(0)
    row = near.sqrt() * 1.25
    swell = 0.3 * wave(grid.x / 17 + dice[:, 1] + 0.23 * row) + 0.12 * wave(grid.x / 7 - 0.31 * row)
    crest = frac(row + swell)
    blend(canvas, (0.42, 0.62, 0.69), water * crest)
    foam = 0.5 + 0.6 * wave(grid.x / 29 + dice[:, 2] + 0.37 * row)
    blend(canvas, (0.90, 0.95, 0.96), water * ((crest - 0.8) * 9).clamp(0, 1) * foam.clamp(0, 1))
    return canvas


def desert(grid: Grid, dice: Tensor) -> Tensor:
    """Two rippled dunes and a low sun, (n, 3, H, W)."""
    canvas = sky(grid, dice, (0.86, 0.72, 0.62), (0.97, 0.90, 0.78))
    sun = ((grid.x - 8 - 48 * dice[:, 2]).square() + (grid.y - 7 - 8 * dice[:, 3]).square()).sqrt() - 5
    blend(canvas, (1.0, 0.97, 0.88), grid.cover(sun))
    for base, color, number in ((24, (0.84, 0.71, 0.51), 4), (40, (0.80, 0.65, 0.44), 6)):
        turns = grid.x / 58 + dice[:, number]
        crest = base + 8 * dice[:, number + 1] + 6 * wave(turns)
        dune = grid.cover(crest - grid.y)
        blend(canvas, color, dune)
        ripple = wave((grid.y - 0.8 * crest) / 3.6 + 0.4 * wave(grid.x / 17))
        blend(canvas, (0.62, 0.47, 0.31), dune * (0.42 * ripple).clamp_min(0))
        blend(canvas, (0.55, 0.42, 0.30), dune * (0.35 * wave(turns + 0.25)).clamp_min(0))
    return canvas


def city(grid: Grid, dice: Tensor) -> Tensor:
    """A skyline with lit windows along a street, (n, 3, H, W)."""
    canvas = sky(grid, dice, (0.52, 0.52, 0.60), (0.80, 0.74, 0.76))
    across = (grid.x + 9 * dice[:, 0]) / 9
    height = pick(dice, across.floor())
    top = 4 + 30 * height
    down = grid.y - top
    blend(canvas, (0.36, 0.38, 0.43), grid.cover(top - grid.y))
    blend(canvas, (0.24, 0.25, 0.30), grid.cover(top - grid.y) * (1.6 * height).clamp(0, 0.9))
    u, v = frac(across * 2) * 4.5, frac(down / 5) * 5
    window = torch.maximum((u - 2.25).abs() - 1.2, (v - 3).abs() - 1.5)
    lit = pick(dice, (across * 2).floor() * 17 + (down / 5).floor() * 5) < 0.55
    blend(canvas, (0.90, 0.86, 0.70), grid.cover(window) * lit * (down > 0))
    blend(canvas, (0.44, 0.43, 0.45), grid.cover(52 - grid.y).expand_as(down))
    dash = torch.maximum((frac((grid.x + 9 * dice[:, 1]) / 12) - 0.5).abs() * 12 - 3, (grid.y - 58).abs() - 0.8)
    blend(canvas, (0.86, 0.86, 0.84), grid.cover(dash))
    return canvas


def disc(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Signed distance (n, H, W) to a disc of radius `r`."""
    return (x.square() + y.square()).sqrt() - r


def square(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Signed distance to a square of half a side 0.85 `r`."""
    return torch.maximum(x.abs(), y.abs()) - 0.85 * r


def triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Signed distance to an equilateral triangle, its tip at 1.2 `r` above the centre."""
    return torch.maximum(x.abs() * 0.8660254 - y * 0.5, y) - 0.6 * r


def cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Signed distance to a plus sign, arms 1.1 `r` long and 0.72 `r` wide."""
    x, y = x.abs(), y.abs()
    return torch.maximum(torch.minimum(x, y) - 0.36 * r, torch.maximum(x, y) - 1.1 * r)


def ring(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Signed distance to a ring from 0.45 `r` to 1.05 `r`."""
    return ((x.square() + y.square()).sqrt() - 0.75 * r).abs() - 0.3 * r


def striped(u: Tensor, v: Tensor, period: Tensor) -> Tensor:
    """Signed distance to the dark stripes, which cover as much as the dots do (41%)."""
    return ((frac(u / period) - 0.5).abs() - 0.2036) * period + 0 * v


def dotted(u: Tensor, v: Tensor, period: Tensor) -> Tensor:
    """Signed distance to the dark dots, one to each `period` squared, every second row shifted by half of it."""
    row = v / period
    u = u / period + frac(row.floor() * 0.5)
    return ((frac(u) - 0.5).square() + (frac(row) - 0.5).square()).sqrt() * period - 0.36 * period


Distance = Callable[[Tensor, Tensor, Tensor], Tensor]
SCENES: dict[str, Callable[[Grid, Tensor], Tensor]] = {"meadow": meadow, "sea": sea, "desert": desert, "city": city}
SHAPES: dict[str, Distance] = {"disc": disc, "square": square, "triangle": triangle, "cross": cross, "ring": ring}
TEXTURES: dict[str, Distance] = {"striped": striped, "dotted": dotted}
REACH = torch.tensor([[1.0, 0.85, 1.2, 1.1, 1.05], [1.0, 0.85, 0.6, 1.1, 1.05]])  # of SHAPES up and down, in radii


@dataclass(frozen=True)
class Objects:
    """One object of each image, a number each (n,) unless noted; angles are unit vectors of cosine and sine."""

    shape: Tensor  # int64
    texture: Tensor  # int64
    color: Tensor  # int64
    knob: Tensor  # bool
    bar: Tensor  # bool
    radius: Tensor  # canvas units
    period: Tensor  # of the texture, canvas units
    center: Tensor  # (n, 2), x and y
    turn: Tensor  # (n, 2)
    texture_turn: Tensor  # (n, 2)

    def first(self, count: int) -> "Objects":
        """The objects of the first `count` images."""
        return Objects(*(value[:count] for value in vars(self).values()))

    def distances(self, grid: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Signed distances (n, H, W) to the body, its texture's marks, the knob and the bar."""
        x, y = grid.x - self.center[:, 0, None, None], grid.y - self.center[:, 1, None, None]
        u, v = rotated(x, y, self.turn)
        r = self.radius[:, None, None]
        up, down = REACH[:, self.shape, None, None] * r
        body = by_kind(SHAPES, self.shape, u, v, r)
        mark = by_kind(TEXTURES, self.texture, *rotated(x, y, self.texture_turn), self.period[:, None, None])
        knob = disc(u, v + up, 0.26 * r).masked_fill_(~self.knob[:, None, None], SIDE)
        bar = torch.maximum(u.abs() - 0.17 * r, (v - down - 0.15 * r).abs() - 0.3 * r)
        return body, mark, knob, bar.masked_fill_(~self.bar[:, None, None], SIDE)


def rotated(x: Tensor, y: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """The positions `x` and `y` in axes turned by `turn` (n, 2), each (n, H, W)."""
    cosine, sine = turn[:, :, None, None].unbind(1)
    return x * cosine + y * sine, y * cosine - x * sine


def by_kind(kinds: dict[str, Distance], kind: Tensor, *arguments: Tensor) -> Tensor:
    """The distances (n, H, W) of each image by its own one of `kinds`, whose number `kind` (n,) holds."""
    result = torch.empty_like(arguments[0])
    for index, distance in enumerate(kinds.values()):
        result[kind == index] = distance(*(argument[kind == index] for argument in arguments))
    return result
