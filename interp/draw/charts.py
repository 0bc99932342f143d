"""Charts by matplotlib as pictures: uint8 tensors (3, H, W), without a global figure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interp.draw.text import families, shortened, width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 9.6  # inches of 100 pixels
NAME = 180  # pixels of a name, at most
LETTERS = 1.14  # height of the charts' letters, in those of other pictures
SIZE, TITLE = 9, 10  # of letters, in points


def chart(draw: Any, *arguments: Any, rows: int = 1, columns: int = 1, height: float = 2.2, **layout: Any) -> Tensor:
    """The picture that `draw(axes, *arguments)` makes on `rows` x `columns` axes (an array), `height` inches a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, max(1.6, height * rows)), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw(figure.subplots(rows, columns, squeeze=False, **layout), *arguments)
    _style(figure)
    return _picture(figure, canvas)


def _style(figure: "Figure") -> None:
    """Set on the figure itself: matplotlib's settings are everybody's, and pictures are drawn beside the training."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set(fontsize=SIZE, fontfamily=families(), parse_math=False)
    for axis in figure.axes:
        axis.title.set_fontsize(TITLE)
        axis.tick_params(labelsize=SIZE)  # of ticks that are yet to come
        axis.spines[["top", "right"]].set_visible(False)


def _picture(figure: "Figure", canvas: Any) -> Tensor:
    canvas.draw()
    return torch.from_numpy(np.array(canvas.buffer_rgba())[..., :3]).permute(2, 0, 1).contiguous()


def label(name: str, most: int = NAME) -> str:
    """A name as a chart writes it, in one line of about `most` pixels; what begins with '_' no legend would name."""
    short = shortened(name, int(most / LETTERS))
    return f" {short}" if short.startswith("_") else short


def longest(names: Iterable[str]) -> float:
    """Inches of the longest of the names as they are written."""
    return max((width(label(name)) for name in names), default=0) * LETTERS / 100


def palette(count: int) -> list[tuple[float, ...]]:
    """`count` colours that are told apart on white, always the same; they repeat after ten."""
    from matplotlib import colormaps

    return [colormaps["tab10"](k % 10) for k in range(count)]


def shades(count: int) -> list[tuple[float, ...]]:
    """`count` colours from light to dark, for what has an order, such as layers from early to late."""
    from matplotlib import colormaps

    return [colormaps["viridis_r"](0.15 + 0.8 * k / max(1, count - 1)) for k in range(count)]


def lines(axes: Any, values: Mapping[str, Sequence[float]], ticks: Sequence[str], colours: Sequence[Any]) -> None:
    """A line for each of `values` by name, over places that are called `ticks`; NaN leaves a gap."""
    for (name, line), colour in zip(values.items(), colours, strict=False):
        axes.plot(range(len(line)), line, "o-", markersize=3, linewidth=1.4, color=colour, label=label(name))
    some_ticks(axes, ticks)
    axes.grid(axis="y", alpha=0.3)


def some_ticks(axes: Any, ticks: Sequence[str], most: int = 11) -> None:
    """Name the places 0, 1, ... across, evenly thinned where there are more than `most`."""
    step = -(-len(ticks) // most)
    axes.set_xticks(range(0, len(ticks), step), [label(tick) for tick in ticks[::step]])


def heat_map(tables: Mapping[str, Tensor], rows: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Tensor:
    """Tables (R, Q) in [0, 1] side by side under their names, each with its own columns, the values in the cells."""
    height = 0.7 + 0.3 * len(rows) + 0.7 * longest(name for names in columns.values() for name in names)
    return chart(_heat_maps, tables, rows, columns, columns=len(tables), height=height, sharey="row")


def _heat_maps(
    axes: Any, tables: Mapping[str, Tensor], rows: Sequence[str], columns: Mapping[str, Sequence[str]]
) -> None:
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        axis.imshow(table.numpy(), vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axis.set_title(label(name, int(70 * WIDTH / len(tables))))
        axis.set_xticks(range(table.shape[1]), map(label, columns[name]), rotation=45, ha="right")
        axis.set_yticks(range(len(rows)), map(label, rows))
        for row, column in [(r, c) for r in range(table.shape[0]) for c in range(table.shape[1])]:
            value = float(table[row, column])
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
