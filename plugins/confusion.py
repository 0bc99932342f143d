"""Which classes are taken for which on the whole validation set, epoch by epoch."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from interp.confusion import (
    Counts,
    blocks,
    confused_pairs,
    confusions,
    examples,
    images_at,
    lumped,
    per_class,
    predictions,
    row_shares,
)
from interp.draw import divergent, enlarge, grid, rgb
from interp.draw.matrix import matrix, pixels, texts
from interp.draw.table import html_table, thumbnails
from interp.parts import drawn
from interp.probe import Probe
from interp.result import Cell, Result, longer_film
from plugins.base import Plugin, setting

BLOCKS = 64  # rows and columns of a frame of the film strip, at most
WHOLE = 240  # rows and columns of the picture of all classes, at most
WANDB_CLASSES = 100  # W&B's own chart draws 10,000 cells at most


@dataclass(frozen=True)
class ConfusionResult(Result):
    """Counts of true against predicted classes; J classes, P pairs, M rows of a film's frame, E looks."""

    cells: Tensor  # (n, 3) int64 true class, predicted class and images, where there are any, row by row
    class_names: tuple[str, ...]  # J names
    pairs: Tensor  # (P, 2) int64 true and predicted class, the most frequent first
    examples: Tensor  # (P, n, C, H, W) float32 in [0, 1], the most confident mistakes first
    examples_found: Tensor  # (P,) int64 how many of the n there are; the rest is empty
    unknown: int  # images without a class, left out
    shown: int  # rows and columns of a picture, at most
    film: Tensor  # (E, M, M) float32 shares of the true classes at this look and earlier ones
    looks: tuple[int, ...]  # E numbers of these looks, from 0

    @classmethod
    def renewed(cls, values: dict[str, Any]) -> dict[str, Any]:
        if "counts" not in values:
            return values
        return values | {"cells": Counts.of(values["counts"]).cells}

    @property
    def sparse(self) -> Counts:
        """The counts of the cells that are not 0."""
        true, predicted, images = self.cells.T.contiguous()
        return Counts(true, predicted, images, len(self.class_names))

    @property
    def counts(self) -> Tensor:
        """(J, J) int64, rows true, columns predicted: 800 MB of 10,000 classes."""
        return self.sparse.matrix()

    def following(self, previous: "ConfusionResult") -> "ConfusionResult":
        if self.class_names != previous.class_names:
            return self
        film, looks = longer_film(previous.film, previous.looks, self.film)
        return replace(self, film=film, looks=looks)

    def scalars(self) -> dict[str, float]:
        counts = self.sparse
        of_class, as_class, hits = counts.totals()
        measures, with_images = per_class(counts), of_class > 0
        shares = (counts.images.double() / of_class[counts.true])[counts.true != counts.predicted]
        wrong = int(of_class.sum() - hits.sum())
        return {
            "accuracy": float(hits.sum() / of_class.sum()),
            "macro_precision": float(measures.precision[with_images].nan_to_num(0).mean()),
            "macro_recall": float(measures.recall[with_images].mean()),
            "macro_f1": float(measures.f1[with_images].mean()),
            "worst_recall": float(measures.recall[with_images].min()),
            "most_confused_share": float(shares.max()) if len(shares) else 0.0,
            "pairs_share_of_errors": float(counts.at(self.pairs).sum() / max(1, wrong)),
            "never_predicted": float((with_images & (as_class == 0)).sum()),
            "without_images": float((~with_images).sum()),
        }

    def pictures(self) -> dict[str, Tensor]:
        sparse = self.sparse
        counts, kept = lumped(sparse, self.shown)
        names = [self.class_names[j] for j in kept.tolist()]
        names += [f"{len(self.class_names) - len(kept)} others"] if len(kept) < len(counts) else []
        shares, corner = row_shares(counts), "true / predicted"
        makers = {
            "rows": lambda: matrix(shares, texts(shares, "{:.0%}"), names, names, corner),
            "counts": lambda: matrix(counts / counts.max(), texts(counts, "{:d}"), names, names, corner),
        }
        if len(kept) < len(counts):
            makers["whole"] = lambda: pixels(row_shares(blocks(sparse, WHOLE)), side=720)
        if len(self.pairs):
            makers["pairs"] = self._pairs
        if len(self.looks) > 1:
            makers["film"] = self._film
        return drawn("picture", makers)

    def _film(self) -> Tensor:
        cells = torch.stack([pixels(frame, side=160).float() / 255 for frame in self.film])
        return grid(cells[None], (), [f"look {look}" for look in self.looks])

    @classmethod
    def compared(cls, results: dict[str, Self]) -> dict[str, tuple[Tensor, str]]:
        (base, first), *others = results.items()
        fitting = {name: other for name, other in others if other.class_names == first.class_names}
        shares = {name: row_shares(blocks(result.sparse, WHOLE)) for name, result in {base: first, **fitting}.items()}
        moved = {name: (shares[name] - shares[base]).float() for name in fitting}
        if not moved:
            return {}
        largest = max(float(each.abs().max()) for each in moved.values())
        cells = torch.stack([enlarge(each[None, None] / max(largest, 1e-12), 360)[0] for each in moved.values()])
        text = (
            f"Shares of each true class (down) by predicted class (across), less those of {base}: orange is more "
            f"often, blue more seldom; full colour is {largest:.0%}. On the diagonal orange is better"
            f"{first._blocks(WHOLE)}."
        )
        return {"difference": (grid(divergent(cells)[None, :, 0], (), [f"{n} - {base}" for n in moved]), text)}

    def _pairs(self) -> Tensor:
        side = 96 if max(self.examples.shape[-2:]) <= 96 else 160
        cells = enlarge(rgb(self.examples.flatten(0, 1)), side).unflatten(0, self.examples.shape[:2])
        empty = torch.arange(cells.shape[1]) >= self.examples_found[:, None]
        cells[empty] = 1.0
        return grid(cells, [f"{true} as {wrong}: {count}" for true, wrong, count, _ in self._rows()])

    def _rows(self) -> list[list[Cell]]:
        counts, names = self.sparse, self.class_names
        images = counts.at(self.pairs)
        shares = images.double() / counts.totals()[0][self.pairs[:, 0]]
        numbers = zip(self.pairs.tolist(), images.tolist(), shares.tolist(), strict=True)
        return [[names[i], names[j], count, share] for (i, j), count, share in numbers]

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        measures = per_class(self.sparse)
        worst_first = measures.f1.nan_to_num(2).argsort(stable=True).tolist()
        numbers = torch.stack([measures.precision, measures.recall, measures.f1], dim=1).tolist()
        support = measures.support.long().tolist()
        rows: list[list[Cell]] = [[self.class_names[j], *numbers[j], support[j]] for j in worst_first]
        most_confident = thumbnails(self.examples[:, 0]) if len(self.pairs) else ()
        pairs = [[*row, picture] for row, picture in zip(self._rows(), most_confident, strict=True)]
        return {
            "classes": (["class", "precision", "recall", "F1", "images"], rows),
            "pairs": (["true class", "predicted as", "images", "share of the true class", "example"], pairs),
        }

    def widgets(self) -> dict[str, str]:
        columns, rows = self.tables()["classes"]
        caption = (
            "Precision: of the images predicted as the class, the share that is of it. Recall: of the images of the "
            "class, the share that was found. F1: their harmonic mean. Lowest F1 first; nan: not defined, since the "
            "class was never predicted or has no images."
        )
        shown = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
        return {"classes": html_table(columns, shown, caption)}

    def to_wandb(self) -> dict[str, Any]:
        """W&B's own confusion matrix, up to 100 classes."""
        if len(self.class_names) > WANDB_CLASSES:
            return {}
        from wandb import plot

        counts = self.sparse
        true, predicted = (of.repeat_interleave(counts.images).tolist() for of in (counts.true, counts.predicted))
        return {"matrix": plot.confusion_matrix(y_true=true, preds=predicted, class_names=list(self.class_names))}

    def captions(self) -> dict[str, str]:
        scalars, many = self.scalars(), len(self.class_names) > self.shown
        images = int(self.cells[:, 2].sum())
        text = f"{images} validation images, {scalars['accuracy']:.1%} right (blue); orange: mistakes."
        text += f" {self.unknown} images without a class are left out." if self.unknown else ""
        text += many * (
            f" Of {len(self.class_names)} classes the {self.shown - 1} with the most errors have their own row and "
            "column; 'others' holds the rest, and its blue cell also the confusions among them."
        )
        found = {
            "rows": "Per cent of each true class (row) by predicted class (column): the diagonal is the recall. "
            f"{text} Shares of a class with few images are coarse: look at the counts.",
            "counts": f"Images of each true class (row) by predicted class (column). {text}",
        }
        if many:
            found["whole"] = (
                f"All classes: rows true, columns predicted{self._blocks(WHOLE)}. An orange column: others are taken "
                "for it; orange beside the diagonal: neighbouring classes are confused."
            )
        if len(self.pairs):
            found["pairs"] = (
                "The most frequent mistakes (true class as predicted class: images) with the most confident of them. "
                f"Together {scalars['pairs_share_of_errors']:.0%} of all errors."
            )
        if len(self.looks) > 1:
            found["film"] = (
                f"Shares of the true classes (rows) at earlier looks; 0 is the first{self._blocks(BLOCKS)}. What is "
                "learnt gathers on the blue diagonal; an orange column is a class that is predicted for everything."
            )
        return found

    def _blocks(self, most: int) -> str:
        size = -(-len(self.class_names) // most)
        return f"; blocks of {size} neighbouring classes are summed" if size > 1 else ""


@dataclass(kw_only=True)
class ConfusionPlugin(Plugin):
    """Confusion matrix of the whole validation set, with the most confused pairs (METHODS: confusion; seed 004)."""

    shares: ClassVar[bool] = True

    pairs: int = setting(8, "most frequent mistakes to show", least=1)
    examples: int = setting(8, "images of each, the most confident first", least=1)
    shown: int = setting(
        24, "rows and columns of the picture: of more classes the worst ones, and all others in one", least=2
    )

    def analyze(self, net: nn.Module, probe: Probe) -> ConfusionResult:
        found = predictions(net, probe.batches(self.batch_size))
        counts = confusions(found, len(probe.class_names))
        pairs = confused_pairs(counts, self.pairs)
        chosen = examples(found, pairs, self.examples)
        film = row_shares(blocks(counts, BLOCKS)).float()
        return ConfusionResult(
            counts.cells, probe.class_names, pairs, images_at(probe, chosen), (chosen >= 0).sum(dim=1),
            int((found.true < 0).sum()), self.shown, film[None], (0,),
        )  # fmt: skip
