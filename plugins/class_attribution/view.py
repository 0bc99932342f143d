"""How class attributions are shown: where each factor pushes and which labels, in pictures and tables."""

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.draw import enlarge, grid, hues, note, rgb
from interp.draw.table import html_table, thumbnails
from interp.parts import omissions
from interp.result import Cell

if TYPE_CHECKING:
    from plugins.class_attribution.result import ClassAttributionResult

SIDE = 176  # pixels of an image
LINES = 10  # of labels beside an image, at most


def pictures(result: "ClassAttributionResult") -> dict[str, Tensor]:
    """Each image, and for each layer where its factors push and their strongest labels."""
    colours = colours_of(result.maps.shape[2])
    cells, names = [enlarge(rgb(result.images), SIDE)], ["image"]
    for maps, weights, classes, layer in zip(result.maps, *result.top(), result.layers, strict=True):
        notes = [_note(result, *of_image, colours) for of_image in zip(weights, classes, strict=True)]
        cells += [enlarge(mixed(maps, colours), SIDE), torch.stack(notes)]
        names += [layer, ""]
    return {"factors": grid(torch.stack(cells, dim=1), result.labels, names)}


def _note(result: "ClassAttributionResult", weights: Tensor, classes: Tensor, colours: Tensor) -> Tensor:
    """The strongest labels of an image's factors: weights and classes (F, n) as text in the colours of the factors."""
    most = max(1, LINES // len(colours))
    lines = [
        (f"{result.class_names[j]} ({weight:.2g})", colour)
        for colour, *of_factor in zip(colours, weights.tolist(), classes.tolist(), strict=True)
        for weight, j in list(zip(*of_factor, strict=True))[:most]
        if weight > 0
    ]
    return note(lines, SIDE)


def colours_of(factors: int) -> Tensor:
    """Blue and orange (F, 3) for two factors, as in the source; else evenly spaced hues."""
    return torch.tensor([[0.25, 0.55, 1.0], [1.0, 0.55, 0.1]]) if factors == 2 else hues(factors)


def mixed(maps: Tensor, colours: Tensor) -> Tensor:
    """Maps (B, F, h, w) >= 0 as colours (B, 3, h, w): brightness is their sum over the image's largest, hue their mix.

    A weak position is dark, not grey.
    """
    total = maps.sum(dim=1, keepdim=True)
    brightness = total / total.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)
    return torch.einsum("bfhw,fc->bchw", maps / total.clamp_min(1e-30), colours) * brightness


def tables(result: "ClassAttributionResult") -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """A row for each label of each factor, with a picture of where the factor pushes."""
    rows: list[list[Cell]] = []
    for layer, image, factor, labels in labels_of_factors(result):
        picture = _where(result, layer, image, factor)
        place: list[Cell] = [result.layers[layer], image, result.labels[image], factor + 1]
        rows += [[*place, label, weight, picture] for label, weight in labels]
    columns = ["layer", "image", "class", "factor", "label", "logits", "where"]
    return {"labels": (columns, rows)}


def labels_of_factors(result: "ClassAttributionResult") -> Iterator[tuple[int, int, int, list[tuple[str, float]]]]:
    """Layer, image, factor, and the factor's strongest labels with what it adds to their logits."""
    weights, classes = result.top()
    for layer, image, factor in product(*map(range, weights.shape[:3])):
        pairs = zip(*(values[layer, image, factor].tolist() for values in (classes, weights)), strict=True)
        yield layer, image, factor, [(result.class_names[j], weight) for j, weight in pairs if weight > 0]


def _where(result: "ClassAttributionResult", layer: int, image: int, factor: int) -> Tensor:
    """The image, dark where the factor does not push."""
    maps = result.maps[layer, image]
    return thumbnails(result.images[image, None], maps[None, factor] / maps[factor].amax().clamp_min(1e-30))[0]


def widgets(result: "ClassAttributionResult") -> dict[str, str]:
    """The table of the factors with their labels, to sort and filter."""
    rows = [
        [result.layers[layer], image, result.labels[image], factor + 1, ", ".join(f"{n} ({w:.3g})" for n, w in labels)]
        for layer, image, factor, labels in labels_of_factors(result)
    ]
    columns = ["layer", "image", "class", "factor", "strongest labels (logits)"]
    return {"table": html_table(columns, rows, captions(result)["factors"])}


def _concentrated(result: "ClassAttributionResult") -> str:
    """A sentence, with a space before it, on how much of a factor its labels tell."""
    classes, scalars = len(result.class_names), result.scalars()
    if classes <= result.shown:
        return f" All {classes} classes are labels of every factor."
    return (
        f" The {result.shown} labels of a factor have {scalars['concentration']:.0%} of what it adds; they would have "
        f"{scalars['concentration_null']:.0%} if all factors pushed the classes alike: only the difference tells "
        "factors apart."
    )


def captions(result: "ClassAttributionResult") -> dict[str, str]:
    """What the picture shows, and how much of the attributions the factors leave out."""
    error, negative = (float(shares.mean()) for shares in (result.relative_error**2, result.negative_share))
    return {
        "factors": (
            f"Gradient x activation for {result.about} at every position, negative values set to zero, "
            f"factorised image by image. Brightness: how much is pushed there; hue: which factor. Beside it each "
            f"factor's strongest labels with what it adds to their logits.{_concentrated(result)} On average the "
            f"factors leave {error:.0%} of the positive energy unexplained, and {negative:.0%} of all energy was "
            f"negative.{omissions(result.left_out)}"
        )
    }
