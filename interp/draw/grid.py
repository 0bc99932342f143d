"""Contact sheets: cells in rows and columns with their names."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from interp.draw.text import LINE, shortened, width, wrapped, write

BACKGROUND, INK, GAP = 255, (60, 60, 66), 4
HEADER, LONGEST = 22, 220  # pixels: height above a column of one line, and of a row's name at most


def enlarge(images: Tensor, side: int) -> Tensor:
    """Images or maps (B, C, H, W) at height and width `side`; larger by nearest neighbour: no detail is invented."""
    if min(images.shape[-2:]) > side:
        return interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
    return interpolate(images.float(), size=(side, side), mode="nearest-exact")


def cell_side(images: Tensor, small: int = 96) -> int:
    """The side of cells for `images` (..., H, W): `small` pixels for those that are no larger, else 160."""
    return small if max(images.shape[-2:]) <= small else 160


def grid(cells: Tensor, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Tensor:
    """Cells (R, Q, 3, H, W) in [0, 1] as one picture uint8 (3, height, width) with names of rows and columns."""
    cells = torch.nn.functional.pad((cells.clamp(0, 1) * 255).round().byte(), (0, GAP, 0, GAP), value=BACKGROUND)
    sheet = torch.cat([torch.cat(list(row), dim=-1) for row in cells], dim=-2)
    side_down, side_across = cells.shape[-2:]
    header = HEADER + LINE * any(width(name) > side_across for name in columns)
    if columns:
        sheet = torch.cat([torch.cat([_text(name, side_across, header) for name in columns], dim=-1), sheet], dim=-2)
    if rows:
        margin = min(LONGEST, max(width(name) for name in rows)) + 12
        names = [_text(name, margin, side_down, align="right") for name in rows]
        blank = [torch.full((3, header, margin), BACKGROUND, dtype=torch.uint8)] if columns else []
        sheet = torch.cat([torch.cat(blank + names, dim=-2), sheet], dim=-1)
    return torch.nn.functional.pad(sheet, (GAP, 0, GAP, 0), value=BACKGROUND)


def stacked(pictures: Mapping[str, Tensor]) -> Tensor:
    """Pictures uint8 (3, height, width) of any sizes under each other, each under its name."""
    widest = max(picture.shape[2] for picture in pictures.values())
    names_and_pictures = []
    for name, picture in pictures.items():
        wide = torch.nn.functional.pad(picture, (0, widest - picture.shape[2], 0, 4 * GAP), value=BACKGROUND)
        names_and_pictures += [_text(name, widest, 28, align="left"), wide]
    return torch.cat(names_and_pictures, dim=1)


def _text(text: str, width: int, height: int, align: str = "center") -> Tensor:
    """A label as a picture (3, height, width): in up to four lines where there is room, then shortened."""
    from PIL import Image, ImageDraw
    from torchvision.transforms.v2.functional import pil_to_tensor

    label = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
    lines = wrapped(text, width - 8 * (align != "center"), rows=min(4, height // LINE))
    x, anchor = {"left": (8, "l"), "center": (width / 2, "m"), "right": (width - 8, "r")}[align]
    for place, line in enumerate(lines):
        y = height / 2 + (place - (len(lines) - 1) / 2) * LINE
        write(ImageDraw.Draw(label), (x, y), line, INK, anchor)
    return pil_to_tensor(label)


def note(lines: Sequence[tuple[str, Tensor]], side: int) -> Tensor:
    """Lines of text, each in its colour (3,) in [0, 1] on black, as a cell (3, side, side) in [0, 1]."""
    from PIL import Image, ImageDraw
    from torchvision.transforms.v2.functional import pil_to_tensor

    cell = Image.new("RGB", (side, side))
    pen, height = ImageDraw.Draw(cell), min(18.0, (side - 4) / max(1, len(lines)))
    for index, (text, colour) in enumerate(lines):
        ink = tuple((colour * 255).int().tolist())
        write(pen, (6, 2 + (index + 0.5) * height), shortened(text, side - 10), ink)
    return pil_to_tensor(cell).float() / 255
