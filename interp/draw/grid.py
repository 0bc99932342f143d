"""Contact sheets: cells in rows and columns with their names."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

BACKGROUND, INK, GAP = 255, (60, 60, 66), 4


def enlarge(images: Tensor, side: int) -> Tensor:
    """Images or maps (B, C, H, W) at height and width `side`, by nearest neighbour: no detail is invented."""
    return interpolate(images.float(), size=(side, side), mode="nearest-exact")


def grid(cells: Tensor, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Tensor:
    """Cells (R, Q, 3, H, W) in [0, 1] as one picture uint8 (3, height, width) with names of rows and columns."""
    cells = torch.nn.functional.pad((cells.clamp(0, 1) * 255).round().byte(), (0, GAP, 0, GAP), value=BACKGROUND)
    sheet = torch.cat([torch.cat(list(row), dim=-1) for row in cells], dim=-2)
    height, width = cells.shape[-2:]
    if columns:
        header = torch.cat([_text(name, width, 22) for name in columns], dim=-1)
        sheet = torch.cat([header, sheet], dim=-2)
    if rows:
        margin = max(_width(name) for name in rows) + 12
        names = [_text(name, margin, height, align="right") for name in rows]
        blank = [torch.full((3, 22, margin), BACKGROUND, dtype=torch.uint8)] if columns else []
        sheet = torch.cat([torch.cat(blank + names, dim=-2), sheet], dim=-1)
    return torch.nn.functional.pad(sheet, (GAP, 0, GAP, 0), value=BACKGROUND)


def stacked(pictures: Mapping[str, Tensor]) -> Tensor:
    """Pictures uint8 (3, height, width) of any sizes under each other, each under its name."""
    width = max(picture.shape[2] for picture in pictures.values())
    parts = []
    for name, picture in pictures.items():
        wide = torch.nn.functional.pad(picture, (0, width - picture.shape[2], 0, 4 * GAP), value=BACKGROUND)
        parts += [_text(name, width, 28, align="left"), wide]
    return torch.cat(parts, dim=1)


@lru_cache
def _font():
    from PIL import ImageFont

    return ImageFont.load_default(size=13)


def _width(text: str) -> int:
    return int(_font().getlength(text)) + 1


def _shortened(text: str, width: int) -> str:
    while text and _width(text) > width and text != "…":
        text = text.rstrip("…")[:-1] + "…"
    return text


def _text(text: str, width: int, height: int, align: str = "center") -> Tensor:
    """A label as a picture (3, height, width), cut with an ellipsis where it does not fit."""
    from PIL import Image, ImageDraw
    from torchvision.transforms.v2.functional import pil_to_tensor

    text = _shortened(text, width)
    label = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
    places = {"left": (8, "lm"), "center": (width // 2, "mm"), "right": (width - 8, "rm")}
    x, anchor = places[align]
    ImageDraw.Draw(label).text((x, height // 2), text, fill=INK, font=_font(), anchor=anchor)
    return pil_to_tensor(label)


def note(lines: Sequence[tuple[str, Tensor]], side: int) -> Tensor:
    """Lines of text, each in its colour (3,) in [0, 1] on black, as a cell (3, side, side) in [0, 1]."""
    from PIL import Image, ImageDraw
    from torchvision.transforms.v2.functional import pil_to_tensor

    cell = Image.new("RGB", (side, side))
    pen, height = ImageDraw.Draw(cell), min(18.0, side / max(1, len(lines)))
    for index, (text, colour) in enumerate(lines):
        ink = tuple((colour * 255).int().tolist())
        pen.text((6, (index + 0.5) * height), _shortened(text, side - 10), fill=ink, font=_font(), anchor="lm")
    return pil_to_tensor(cell).float() / 255
