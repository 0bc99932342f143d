"""Points in a plane, coloured by class, as a picture."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp.draw.grid import BACKGROUND, INK
from interp.draw.text import shortened, write

NAMED = 20  # classes that a legend names, at most


def scatter(points: Tensor, colours: Tensor, marked: Tensor | None = None, side: int = 720) -> Tensor:
    """Discs at points (N, 2), in colours (N, 3) in [0, 1], as a picture uint8 (3, side, side).

    Where `marked` (N,) is true a disc has a black cross, and lies above the others. The plane is shown whole, with
    equal axes.
    """
    from PIL import Image, ImageDraw
    from torchvision.transforms.v2.functional import pil_to_tensor

    marked = torch.zeros(len(points), dtype=torch.bool) if marked is None else marked
    picture = Image.new("RGB", (2 * side, 2 * side), (BACKGROUND,) * 3)  # twice as large: smooth when shrunk
    pen, radius = ImageDraw.Draw(picture), max(3.0, side / 90)
    places = unit_square(points) * (2 * side - 6 * radius) + 3 * radius
    rows = torch.cat([places, colours * 255, marked[:, None]], dim=1)[marked.int().argsort(stable=True)]
    for x, y, red, green, blue, mark in rows.tolist():
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(int(red), int(green), int(blue)))
        if mark:
            for sign in (-1, 1):
                ends = (x - radius, y - sign * radius, x + radius, y + sign * radius)
                pen.line(ends, fill=(0, 0, 0), width=max(2, round(radius / 3)))
    return pil_to_tensor(picture.resize((side, side), Image.Resampling.BOX))


def unit_square(points: Tensor) -> Tensor:
    """Points (N, 2) moved and scaled, both axes alike, into [0, 1] x [0, 1], y upside down as in pictures."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    unit = (points - (low + high) / 2) / (high - low).max().clamp_min(1e-12) + 0.5
    return torch.stack([unit[:, 0], 1 - unit[:, 1]], dim=1)


def legend(names: Sequence[str], colours: Tensor, height: int, width: int = 150) -> Tensor:
    """Discs in colours (J, 3) with their names, a column uint8 (3, height, width)."""
    from PIL import Image, ImageDraw
    from torchvision.transforms.v2.functional import pil_to_tensor

    column = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
    pen, step = ImageDraw.Draw(column), min(24.0, height / max(1, len(names)))
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        y = (index + 0.5) * step
        pen.ellipse((6, y - 6, 18, y + 6), fill=tuple((colour * 255).int().tolist()))
        write(pen, (26, y), shortened(name, width - 30), INK)
    return pil_to_tensor(column)
