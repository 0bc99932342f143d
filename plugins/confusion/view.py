"""How a confusion matrix is shown: as shares and counts, with the most confused pairs and a film of the looks."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.confusion import blocks, lumped, per_class, row_shares
from interp.draw import cell_side, divergent, enlarge, grid, rgb
from interp.draw.matrix import matrix, pixels, texts
from interp.draw.table import html_table, thumbnails
from interp.parts import drawn
from interp.result import Cell

if TYPE_CHECKING:
    from plugins.confusion.result import ConfusionResult

FRAME = 64  # rows and columns of a frame of the film strip, at most
WHOLE = 240  # rows and columns of the picture of all classes, at most
WANDB_CLASSES = 100  # W&B's own chart draws 10,000 cells at most


def pictures(result: "ConfusionResult") -> dict[str, Tensor]:
    """The matrix by rows and by counts; all classes where they are many, confused pairs, a film of the looks."""
    counts, kept = lumped(result.sparse, result.shown)
    names = [result.class_names[j] for j in kept.tolist()]
    names += [f"{len(result.class_names) - len(kept)} others"] if len(kept) < len(counts) else []
    shares, corner = row_shares(counts), "true / predicted"
    makers = {
        "rows": lambda: matrix(shares, texts(shares, "{:.0%}"), names, names, corner),
        "counts": lambda: matrix(counts / counts.max(), texts(counts, "{:d}"), names, names, corner),
    }
    if len(kept) < len(counts):
        makers["whole"] = lambda: pixels(row_shares(blocks(result.sparse, WHOLE)), side=720)
    if len(result.pairs):
        makers["pairs"] = lambda: _examples_of_pairs(result)
    if len(result.looks) > 1:
        makers["film"] = lambda: _film(result)
    return drawn("picture", makers)


def _film(result: "ConfusionResult") -> Tensor:
    frames = torch.stack([pixels(shares, side=160).float() / 255 for shares in result.film])
    return grid(frames[None], (), [f"look {look}" for look in result.looks])


def _examples_of_pairs(result: "ConfusionResult") -> Tensor:
    side = cell_side(result.examples)
    cells = enlarge(rgb(result.examples.flatten(0, 1)), side).unflatten(0, result.examples.shape[:2])
    empty = torch.arange(cells.shape[1]) >= result.examples_found[:, None]
    cells[empty] = 1.0
    return grid(cells, [f"{true} as {wrong}: {count}" for true, wrong, count, _ in _rows_of_pairs(result)])


def _rows_of_pairs(result: "ConfusionResult") -> list[list[Cell]]:
    counts, names = result.sparse, result.class_names
    images = counts.at(result.pairs)
    shares = images.double() / counts.totals()[0][result.pairs[:, 0]]
    numbers = zip(result.pairs.tolist(), images.tolist(), shares.tolist(), strict=True)
    return [[names[i], names[j], count, share] for (i, j), count, share in numbers]


def compared(results: "dict[str, ConfusionResult]") -> dict[str, tuple[Tensor, str]]:
    """Shares of the other networks less those of the first."""
    (base, first), *others = results.items()
    fitting = {name: other for name, other in others if other.class_names == first.class_names}
    shares = {name: row_shares(blocks(result.sparse, WHOLE)) for name, result in {base: first, **fitting}.items()}
    moved = {name: (shares[name] - shares[base]).float() for name in fitting}
    if not moved:
        return {}
    largest = max(float(difference.abs().max()) for difference in moved.values())
    scaled = [difference[None, None] / max(largest, 1e-12) for difference in moved.values()]
    cells = torch.stack([enlarge(difference, 360)[0] for difference in scaled])
    text = (
        f"Shares of each true class (down) by predicted class (across), less those of {base}: orange is more "
        f"often, blue more seldom; full colour is {largest:.0%}. On the diagonal orange is better"
        f"{_blocks(first, WHOLE)}."
    )
    return {"difference": (grid(divergent(cells)[None, :, 0], (), [f"{n} - {base}" for n in moved]), text)}


def tables(result: "ConfusionResult") -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """Measures of each class, the lowest F1 first, and the most confused pairs."""
    measures = per_class(result.sparse)
    worst_first = measures.f1.nan_to_num(2).argsort(stable=True).tolist()
    numbers = torch.stack([measures.precision, measures.recall, measures.f1], dim=1).tolist()
    support = measures.support.long().tolist()
    rows: list[list[Cell]] = [[result.class_names[j], *numbers[j], support[j]] for j in worst_first]
    most_confident = thumbnails(result.examples[:, 0]) if len(result.pairs) else ()
    pairs = [[*row, picture] for row, picture in zip(_rows_of_pairs(result), most_confident, strict=True)]
    return {
        "classes": (["class", "precision", "recall", "F1", "images"], rows),
        "pairs": (["true class", "predicted as", "images", "share of the true class", "example"], pairs),
    }


def widgets(result: "ConfusionResult") -> dict[str, str]:
    """The table of the classes, to sort and filter."""
    columns, rows = tables(result)["classes"]
    caption = (
        "Precision: of the images predicted as the class, the share that is of it. Recall: of the images of the "
        "class, the share that was found. F1: their harmonic mean. Lowest F1 first; nan: not defined, since the "
        "class was never predicted or has no images."
    )
    texts_of_rows = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    return {"classes": html_table(columns, texts_of_rows, caption)}


def to_wandb(result: "ConfusionResult") -> dict[str, Any]:
    """W&B's own confusion matrix, up to 100 classes."""
    if len(result.class_names) > WANDB_CLASSES:
        return {}
    from wandb import plot

    counts = result.sparse
    true, predicted = (of.repeat_interleave(counts.images).tolist() for of in (counts.true, counts.predicted))
    return {"matrix": plot.confusion_matrix(y_true=true, preds=predicted, class_names=list(result.class_names))}


def captions(result: "ConfusionResult") -> dict[str, str]:
    """What each picture shows, and how many images it is of."""
    scalars, text = result.scalars(), _what_is_counted(result)
    captions_of = {
        "rows": "Per cent of each true class (row) by predicted class (column): the diagonal is the recall. "
        f"{text} Shares of a class with few images are coarse: look at the counts.",
        "counts": f"Images of each true class (row) by predicted class (column). {text}",
    }
    if len(result.class_names) > result.shown:
        captions_of["whole"] = (
            f"All classes: rows true, columns predicted{_blocks(result, WHOLE)}. An orange column: others are taken "
            "for it; orange beside the diagonal: neighbouring classes are confused."
        )
    if len(result.pairs):
        captions_of["pairs"] = (
            "The most frequent mistakes (true class as predicted class: images) with the most confident of them. "
            f"Together {scalars['pairs_share_of_errors']:.0%} of all errors."
        )
    if len(result.looks) > 1:
        captions_of["film"] = (
            f"Shares of the true classes (rows) at earlier looks; 0 is the first{_blocks(result, FRAME)}. What is "
            "learnt gathers on the blue diagonal; an orange column is a class that is predicted for everything."
        )
    return captions_of


def _what_is_counted(result: "ConfusionResult") -> str:
    images, many = int(result.cells[:, 2].sum()), len(result.class_names) > result.shown
    text = f"{images} validation images, {result.scalars()['accuracy']:.1%} right (blue); orange: mistakes."
    text += f" {result.unknown} images without a class are left out." if result.unknown else ""
    return text + many * (
        f" Of {len(result.class_names)} classes the {result.shown - 1} with the most errors have their own row and "
        "column; 'others' holds the rest, and its blue cell also the confusions among them."
    )


def _blocks(result: "ConfusionResult", most: int) -> str:
    size = -(-len(result.class_names) // most)
    return f"; blocks of {size} neighbouring classes are summed" if size > 1 else ""
