"""A matrix as a picture: shaded cells with a number in each, names beside the rows and, upright, above the columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp.draw.grid import BACKGROUND, GAP, _text, enlarge
from interp.draw.text import width

CELL, LONGEST = 40, 170  # pixels: a cell's side, and of a name at most


def matrix(
    shares: Tensor, texts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str], corner: str = ""
) -> Tensor:
    """Cells for shares (R, Q) in [0, 1] with their texts, as a picture uint8 (3, height, width).

    On the diagonal white to blue, elsewhere white to orange. `corner` says what rows and columns are. Names and texts
    that do not fit are wrapped, then shortened with an ellipsis.
    """
    colours = shade(shares)
    cells = [
        torch.cat([_cell(text, colour) for text, colour in zip(*line, strict=True)], dim=2)
        for line in zip(texts, colours, strict=True)
    ]
    margin = min(LONGEST, max(map(width, (*rows, corner)))) + 12
    height = min(LONGEST, max(map(width, columns))) + 12
    upright = [_text(name, height, CELL).rot90(1, dims=(1, 2)) for name in columns]
    names = [_text(name, margin, CELL, align="right") for name in rows]
    first = torch.nn.functional.pad(_text(corner, margin, 22), (0, 0, height - 22, 0), value=BACKGROUND)
    sheet = torch.cat(
        [torch.cat([first, *upright], dim=2), torch.cat([torch.cat(names, dim=1), torch.cat(cells, dim=1)], dim=2)],
        dim=1,
    )
    return torch.nn.functional.pad(sheet, (GAP, GAP, GAP, GAP), value=BACKGROUND)


def shade(shares: Tensor) -> Tensor:
    """Shares (R, Q) in [0, 1] as colours (R, Q, 3): white to blue on the diagonal, white to orange elsewhere.

    By their square root, so that a share of 1% can be told from none.
    """
    blue, orange = torch.tensor([0.13, 0.36, 0.75]), torch.tensor([0.85, 0.4, 0.05])
    on = torch.eye(*shares.shape, dtype=torch.bool)[..., None]
    strength = shares.float().clamp(0, 1).sqrt()[..., None]
    return 1 - strength * (1 - torch.where(on, blue, orange))


def _cell(text: str, colour: Tensor) -> Tensor:
    """A cell (3, CELL, CELL) uint8 with dark text on light colours and light text on dark ones."""
    ink = _text(text, CELL, CELL).float()[:1] / 255  # 1 where there is no ink
    paper = colour[:, None, None].expand(3, CELL, CELL)
    letters = 0.1 if float(colour.mean()) > 0.62 else 1.0
    cell = (paper * ink + letters * (1 - ink) * 255 / (255 - 60)).clamp(0, 1)
    cell = torch.nn.functional.pad(cell[:, :-1, :-1], (0, 1, 0, 1), value=0.92)
    return (cell * 255).round().byte()


def pixels(shares: Tensor, side: int) -> Tensor:
    """A matrix (R, R) in [0, 1] without names, uint8 (3, `side`, `side`), or larger where it has more rows."""
    colours = shade(shares).permute(2, 0, 1)[None]
    return (enlarge(colours, max(side, len(shares)))[0] * 255).round().byte()


def texts(values: Tensor, form: str) -> list[list[str]]:
    """Each of the values (R, Q) in the format `form`, nothing for zeros; from 10,000 on in thousands or millions.

    >>> texts(torch.tensor([[0, 5, 12345, 2000000]]), "{:d}")
    [['', '5', '12k', '2M']]
    """

    def text(value: float) -> str:
        if value < 10_000:
            return form.format(value) if value else ""
        return f"{value / 1e3:.0f}k" if value < 1e6 else f"{value / 1e6:.0f}M"

    return [[text(value) for value in row] for row in values.tolist()]
