"""Tables as self-contained HTML, and pictures for their cells."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from interp.draw.colour import rgb
from interp.files import readable

SIDE = 64  # pixels of a picture in a cell
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Table</title><style>
:root{color-scheme:light dark}body{font:14px/1.5 system-ui,sans-serif;margin:8px;color:CanvasText;background:Canvas}
div{overflow:auto;max-height:70vh}table{border-collapse:collapse}caption{text-align:left;padding-bottom:8px}
th{position:sticky;top:0;background:Canvas}th,td{text-align:left;padding:3px 12px 3px 0;border-bottom:1px solid #8884}
td.number{text-align:right;font-variant-numeric:tabular-nums}
</style></head><body><div tabindex="0" role="region" aria-label="Table"><table><caption>{{ caption }}</caption>
<thead><tr>{% for name in columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row -%}
<td{% if cell is number %} class="number"{% endif %}>{{ cell }}</td>{%- endfor %}</tr>
{% endfor %}</tbody></table></div></body></html>
"""


def html_table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A page with one table; whatever the cells hold is shown as text.

    >>> "<b>" in html_table(["name"], [["<b>"]])
    False
    """
    import jinja2

    template = jinja2.Environment(autoescape=True).from_string(PAGE)
    page = template.render(columns=columns, rows=rows, caption=caption)
    return readable(page)


def small(images: Tensor) -> Tensor:
    """Images (B, C, H, W) in [0, 1] as bytes (B, C, h, w), no larger than a cell: what `thumbnails` needs to keep."""
    if max(images.shape[2:]) > SIDE:
        images = interpolate(images.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def thumbnails(images: Tensor, light: Tensor | None = None) -> Tensor:
    """Images (B, C, H, W) in [0, 1] or bytes as pictures uint8 (B, 3, 64, 64), dark where `light` (B, h, w) is 0."""
    kept = images if images.dtype == torch.uint8 else small(images)
    shown = interpolate(rgb(kept.float() / 255), size=(SIDE, SIDE), mode="nearest-exact")
    if light is not None:
        shown = shown * (0.15 + 0.85 * interpolate(light[:, None].float(), size=(SIDE, SIDE), mode="nearest-exact"))
    return (shown.clamp(0, 1) * 255).round().to(torch.uint8)
