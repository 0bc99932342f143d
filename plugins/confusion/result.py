"""What the confusion study has found at one look: counts of true against predicted classes."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from interp.confusion import Counts, per_class
from interp.result import Result, longer_film
from plugins.confusion import view


@dataclass(frozen=True)
class ConfusionResult(Result):
    """Counts of true against predicted classes; J classes, P pairs, M rows of a film's frame, E looks."""

    view: ClassVar[Any] = view

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
