"""How robustness is shown: curves over the strength, and the best units in disturbed images, five families a page."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.dissection.robustness import SURVIVAL
from interp.draw import grid
from interp.draw.charts import chart, lines, palette, shades
from interp.draw.detectors import masked
from interp.parts import drawn, omissions
from interp.result import Cell

if TYPE_CHECKING:
    from plugins.robustness.result import RobustnessResult

PAGE = 5  # families in a picture

Families = Mapping[str, list[int]]  # the numbers of each family's disturbances, by its name


def pictures(result: "RobustnessResult") -> dict[str, Tensor]:
    """Curves over the strength of the disturbances, and the best units in disturbed images, page by page."""
    makers: dict[str, Callable[[], Tensor]] = {}
    for suffix, families in _pages(result):
        shape: dict[str, Any] = {"rows": 4, "columns": len(families), "height": 1.7}
        makers[f"curves{suffix}"] = partial(chart, _draw_curves, result, families, sharex="col", sharey="row", **shape)
        if result.rows:
            makers[f"units{suffix}"] = partial(_units, result, families)
    return drawn("picture", makers)


def _pages(result: "RobustnessResult") -> Iterator[tuple[str, Families]]:
    """What ends the names of each page's pictures, and its families."""
    families = list(result.by_family.items())
    for page, start in enumerate(range(0, len(families), PAGE), 1):
        yield f"_{page}" if page > 1 else "", dict(families[start : start + PAGE])


def _units(result: "RobustnessResult", families: Families) -> Tensor:
    numbers = [0, *(d for of_family in families.values() for d in of_family)]
    cells = masked(result.images[:, numbers], result.masks[:, numbers])
    return grid(cells, result.rows, [result.names[d] for d in numbers])


def _draw_curves(axes: Any, result: "RobustnessResult", families: Families) -> None:
    had = result.survived("detectors")[0]
    measures = {
        "detectors kept": result.survived("kept") / had,  # a layer without a detector has none to keep: NaN is a gap
        "IoU kept": result.survived("IoU kept").masked_fill(had == 0, torch.nan),
        "rank correlation": result.survived("rank correlation"),
    }
    for column, (family, disturbed) in zip(axes.T, families.items(), strict=True):
        numbers = [0, *disturbed]
        ticks = [result.strengths[d] for d in numbers]
        lines(column[0], {"all": result.answers[numbers].tolist()}, ticks, ["black"])
        column[0].set_title(family.replace("_", " "))
        for axis, measure in zip(column[1:], measures.values(), strict=True):
            by_layer = dict(zip(result.layers, measure[numbers].T.tolist(), strict=True))
            lines(axis, by_layer, ticks, shades(len(result.layers)))
    for row, name in zip(axes, (result.right, *measures), strict=True):
        row[0].set_ylabel(name)
        row[0].set_ylim(min(0.0, row[0].get_ylim()[0]), max(1.05, row[0].get_ylim()[1]))
    key = {"handles": axes[1, 0].get_lines(), "ncols": min(4, len(result.layers)), "frameon": False}
    axes[0, 0].figure.legend(loc="outside lower center", **key)


def compared(results: "dict[str, RobustnessResult]") -> dict[str, tuple[Tensor, str]]:
    """Curves of those networks that saw the same disturbances as the first."""
    first = next(iter(results.values()))
    fitting = {name: result for name, result in results.items() if result.by_family == first.by_family}
    draw = partial(_draw_compared, results=fitting)
    picture = chart(draw, rows=2, columns=len(first.by_family), sharex="col", sharey="row")
    text = "Right answers, and the rank correlation of activations (mean over layers), over the strength."
    return {"compared": (picture, text)}


def _draw_compared(axes: Any, results: "dict[str, RobustnessResult]") -> None:
    first = next(iter(results.values()))
    right = {name: result.answers for name, result in results.items()}
    correlation = {name: result.survived("rank correlation").mean(dim=1) for name, result in results.items()}
    for column, (family, disturbed) in zip(axes.T, first.by_family.items(), strict=True):
        numbers = [0, *disturbed]
        ticks = [first.strengths[d] for d in numbers]
        for axis, measured in zip(column, (right, correlation), strict=True):
            curves = {name: values[numbers].tolist() for name, values in measured.items()}
            lines(axis, curves, ticks, palette(len(curves)))
        column[0].set_title(family)
    axes[0, 0].set_ylabel(first.right)
    axes[1, 0].set_ylabel("rank correlation")
    axes[0, 0].legend()


def tables(result: "RobustnessResult") -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """Answers and survival, of each layer under each disturbance."""
    answers, survival = result.answers.tolist(), result.survival.tolist()
    rows: list[list[Cell]] = [
        [layer, name, answers[d], *map(int, survival[d][y][:5]), *survival[d][y][5:]]
        for y, layer in enumerate(result.layers)
        for d, name in enumerate(result.names)
    ]
    return {"survival": (["layer", "images", result.right, *SURVIVAL], rows)}


def captions(result: "RobustnessResult") -> dict[str, str]:
    """How far curves and units are to be trusted, the same on all pages."""
    detectors = zip(result.survived("detectors")[0], result.layers, strict=True)
    had = ", ".join(f"{count:.0f} at {layer}" for count, layer in detectors)
    answer = "the image's class" if result.right == "accuracy" else "the same answer as undisturbed"
    curves = (
        f"{result.count} images disturbed more and more (0: not at all), their labels moved alike; thresholds stay "
        f"those of the undisturbed images. {result.right.capitalize()}: {answer}. Kept are detectors ({had}) that "
        "still detect their concept: where they are few the curve says little. IoU kept: with that concept, over "
        "what it was. Rank correlation: whether the same images still excite a unit most. Noise also brightens, by "
        f"half its strength; shuffling breaks whatever is larger than a patch.{omissions(result.left_out)}"
    )
    units = (
        "The best units of each layer, with their concept and IoU, in the images in which they peak: original and "
        "disturbed, lit where the unit fires. Robust is what stays lit on the same thing."
    )
    captions_of = {"curves": curves, **({"units": units} if result.rows else {})}
    return {name + suffix: text for suffix, _ in _pages(result) for name, text in captions_of.items()}
