"""How a dissection is shown: detectors of each concept, IoU of all units, the best of them, and how they emerged."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.dissection import Dissection, change
from interp.draw import grid
from interp.draw.detectors import emergence, histogram, iou_matrix, masked
from interp.draw.table import thumbnails
from interp.parts import drawn, omissions
from interp.result import Cell

if TYPE_CHECKING:
    from plugins.dissection.result import DissectionResult


def pictures(result: "DissectionResult") -> dict[str, Tensor]:
    """Detectors of each concept, the IoU of all units, the best units, and the detectors over the looks."""
    units = result.units
    detected = result.by_layer(_detected(units))
    counts = {layer: _of_each_concept(of_layer, len(result.concepts)) for layer, of_layer in detected.items()}
    makers = {
        "detectors": lambda: histogram(counts, result.concepts, result.category, result.categories),
        "iou": lambda: iou_matrix(result.by_layer(units.iou), result.concepts, result.category, result.minimum),
    }
    if len(result.shown):
        makers["units"] = lambda: _best_units(result)
    if len(result.history) > 1:
        makers["emergence"] = lambda: emergence(result.history, standing(result), result.categories)
    return drawn("picture", makers)


def _detected(units: Dissection) -> Tensor:
    """(U,) int64 the concept that each unit detects, L where it detects none."""
    return torch.where(units.detectors, units.best, len(units.concepts))


def _of_each_concept(detected: Tensor, concepts: int) -> Tensor:
    """(L,) int64 how many units detect each of the L `concepts`."""
    return detected.bincount(minlength=concepts + 1)[:concepts]  # those of no concept come last


def _best_units(result: "DissectionResult") -> Tensor:
    layers, numbers = _places(result)
    best, iou = result.units.best.tolist(), result.units.best_iou.tolist()
    names = [f"{layers[u]} {numbers[u]}: {result.concepts[best[u]]} {iou[u]:.2f}" for u in result.shown.tolist()]
    return grid(masked(result.images, result.masks), names)


def _places(result: "DissectionResult") -> tuple[list[str], list[int]]:
    """The layer of each unit, and its number there."""
    sizes = torch.tensor(result.sizes)
    layer = torch.arange(len(sizes)).repeat_interleave(sizes)
    numbers = torch.arange(len(layer)) - (sizes.cumsum(0) - sizes)[layer]
    return [result.layers[y] for y in layer.tolist()], numbers.tolist()


def standing(result: "DissectionResult") -> dict[str, Tensor]:
    """(E, K) detectors of each layer by the look since which they stand, and category."""
    looks, categories = len(result.history), len(result.categories)
    look_and_category = result.since * categories + result.category[result.units.best]
    cells = result.by_layer(torch.where(result.since < 0, -1, look_and_category))
    return {
        layer: of_layer[of_layer >= 0].bincount(minlength=looks * categories).view(looks, categories)
        for layer, of_layer in cells.items()
    }


def compared(results: "dict[str, DissectionResult]") -> dict[str, tuple[Tensor, str]]:
    """Detectors of each concept in each network; how units have changed, where networks have the same ones."""
    (base, first), *others = results.items()
    fitting = {name: result for name, result in results.items() if result.concepts == first.concepts}
    counts = {name: _of_each_concept(_detected(result.units), len(first.concepts)) for name, result in fitting.items()}
    text = "Detectors of each concept in each network, of all layers together."
    for name, other in others:
        if name in fitting and (other.layers, other.sizes) == (first.layers, first.sizes):
            changed = change(first.units, other.units)
            kept, lost, gained = (int(flags.sum()) for flags in (changed.kept, changed.lost, changed.gained))
            text += f" {base} to {name}, unit by unit: {kept} detectors kept, {lost} lost, {gained} gained."
    return {"compared": (histogram(counts, first.concepts, first.category, first.categories), text)}


def tables(result: "DissectionResult") -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """All units with their best concepts, the largest IoU first."""
    units, (layers, numbers) = result.units, _places(result)
    best, iou, since = units.best.tolist(), units.best_iou.tolist(), result.since.tolist()
    peaks, peak = thumbnails(result.peaks).unbind(), result.peak.tolist()
    rows: list[list[Cell]] = [
        [layers[u], numbers[u], result.concepts[best[u]], result.categories[int(result.category[best[u]])], iou[u],
         "yes" if since[u] >= 0 else "no", str(since[u]) if since[u] >= 0 else "", peaks[peak[u]]]
        for u in units.best_iou.argsort(descending=True, stable=True).tolist()
    ]  # fmt: skip
    columns = ["layer", "unit", "best concept", "category", "IoU", "detector", "since look", "peaks in"]
    return {"units": (columns, rows)}


def captions(result: "DissectionResult") -> dict[str, str]:
    """How detectors were found and how many, what the pictures show, and what has changed."""
    captions_of = {
        "detectors": _detectors(result) + omissions(result.left_out),
        "iou": "IoU of all units (across) with the concepts (down); white dots mark detectors.",
    }
    if len(result.shown):
        captions_of["units"] = (
            "The best units of each layer, another concept each where there are so many: the images in which they "
            f"peak highest, lit where they fire; beside the name the IoU. At {result.minimum:g} or less it is no "
            "detector, and the name means little."
        )
    if len(result.history) > 1:
        captions_of["emergence"] = _changes(result)
    return captions_of


def _detectors(result: "DissectionResult") -> str:
    """How many there are, how many would be by chance, and which concepts can have none."""
    units = result.units
    detectors, unique = units.level()
    text = (
        f"Network dissection over {result.count} images: a unit fires where its activation exceeds the value that "
        f"{result.quantile:.1%} of its positions exceed, and detects a concept if their IoU (shared over joined "
        f"area) exceeds {result.minimum:g}. {detectors} of {len(result.since)} units are detectors, of {unique} "
        "concepts."
    )
    text += _silent_and_saturated(units)
    if result.chance.shape[1]:
        by_chance = result.chance[..., 0].double().sum(dim=0).mean()
        text += f" With the labels of the images exchanged {by_chance:.3g} would be: trust no more than exceeds this."
    if out_of_reach := units.out_of_reach():
        names = ", ".join(out_of_reach[:8]) + (", ..." if len(out_of_reach) > 8 else "")
        text += f" Out of reach, as units fire on far fewer or more pixels than these cover: {names}"
        text += " (a larger quantile would reach larger ones)."
    return text


def _silent_and_saturated(units: Dissection) -> str:
    """What to say of units that never fire, and of those that fire by another rule, '' where there are none."""
    dead, saturated = int(units.dead.sum()), int(units.saturated.sum())
    text = f" {dead} never fire." if dead else ""
    if saturated:
        text += (
            f" {saturated} saturate (ReLU6 does): their threshold is their maximum, which nothing exceeds. They fire "
            "where they reach it, in more positions than that share, and on the images between such positions."
        )
    return text


def _changes(result: "DissectionResult") -> str:
    """What has become of detectors and concepts since the look before."""
    without, new = (", ".join(names) or "none" for names in (result.concepts_lost, result.concepts_gained))
    kept, lost, gained = (int(result.changes[name]) for name in ("kept", "lost", "gained"))
    return (
        f"Detectors over the looks (0 is the first). Units are matched by their number: since the look before "
        f"{kept} kept their concept, {lost} lost it, {gained} gained one. Concepts without a detector now: {without}; "
        f"with one now: {new}."
    )
