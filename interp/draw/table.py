"""Tables as self-contained HTML, and pictures for their cells."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from interp.draw.colour import rgb
from interp.draw.widget import widget_page

SIDE = 64  # pixels of a picture in a cell


def html_table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A page with one table; whatever the cells hold is shown as text.

    >>> "<b>" in html_table(["name"], [["<b>"]])
    False
    """
    return widget_page("data-table", "Table", role="region", columns=columns, rows=rows, caption=caption)


def small(images: Tensor) -> Tensor:
    """Images (B, C, H, W) in [0, 1] as bytes (B, C, h, w), no larger than a cell: what `thumbnails` needs to keep."""
    if max(images.shape[2:]) > SIDE:
        images = interpolate(images.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def thumbnails(images: Tensor, light: Tensor | None = None) -> Tensor:
    """Images (B, C, H, W) in [0, 1] or bytes as pictures uint8 (B, 3, 64, 64), dark where `light` (B, h, w) is 0."""
    kept = images if images.dtype == torch.uint8 else small(images)
    pictures = interpolate(rgb(kept.float() / 255), size=(SIDE, SIDE), mode="nearest-exact")
    if light is not None:
        pictures = pictures * (
            0.15 + 0.85 * interpolate(light[:, None].float(), size=(SIDE, SIDE), mode="nearest-exact")
        )
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
