"""Which classes a network takes for which: the confusion matrix and what follows from it.

Letters: N images, J classes, P pairs of classes, M cells of a matrix that are not 0. Rows of a matrix are true classes,
columns predicted ones. What takes counts takes them sparse or as a matrix (J, J) int64.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.probe import Probe
from interp.processes.share import handed_in


@dataclass(frozen=True)
class Predictions:
    """What a network said of images, on the CPU and in the order of the images."""

    true: Tensor  # (N,) int64 class, -1 where it is unknown
    predicted: Tensor  # (N,) int64, -1 where the network has no answer
    confidence: Tensor  # (N,) float32 probability of the predicted class, NaN where it has none


def answers(logits: Tensor) -> Tensor:
    """The class (n,) int64 with the largest of logits (n, J); -1 where they are NaN or +infinite, and so no answer.

    >>> answers(torch.tensor([[1.0, 2.0], [float("nan"), 2.0], [-torch.inf, 0.0]])).tolist()
    [1, -1, 1]
    """
    return logits.argmax(dim=1).masked_fill(logits.float().softmax(dim=1).isnan().any(dim=1), -1)


def all_answered(predicted: Tensor) -> Tensor:
    """`predicted` (N,), of `answers`; raises ValueError that counts those that are missing if there are any."""
    if missing := int((predicted < 0).sum()):
        raise ValueError(f"the logits of {missing} of {len(predicted)} images are NaN or infinite")
    return predicted


@torch.no_grad()
def predictions(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Predictions:
    """What `net` says of batches of (images (n, C, H, W), labels (n,)); keeps three numbers an image.

    Batches that many processes share (`interp.processes.share`) are put together on the first, which goes on alone.
    """
    true, predicted, confidences = list[Tensor](), list[Tensor](), list[Tensor]()
    for images, labels in batches:
        logits = net(images).float()
        confidence = logits.softmax(dim=1).amax(dim=1)
        for column, part in ((true, labels), (predicted, answers(logits)), (confidences, confidence)):
            column.append(part.cpu())
    return Predictions(*handed_in(true, predicted, confidences))


@dataclass(frozen=True)
class Counts:
    """Images of each true class by predicted class: the cells of the matrix that are not 0, row by row."""

    true: Tensor  # (M,) int64
    predicted: Tensor  # (M,) int64
    images: Tensor  # (M,) int64, above 0
    classes: int  # J

    @classmethod
    def of(cls, counts: "Counts | Tensor") -> "Counts":
        """The same counts, sparse."""
        if isinstance(counts, Counts):
            return counts
        true, predicted = counts.nonzero().T
        return cls(true, predicted, counts[true, predicted], len(counts))

    @property
    def cells(self) -> Tensor:
        """(M, 3) int64, true class, predicted class and images of each."""
        return torch.stack([self.true, self.predicted, self.images], dim=1)

    def matrix(self) -> Tensor:
        """All of it (J, J) int64, where J is small."""
        return self.summed(torch.arange(self.classes), self.classes)

    def totals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images of each class, images predicted as it, and both at once; (J,) int64 each."""
        right = self.images * (self.true == self.predicted)
        class_and_images = ((self.true, self.images), (self.predicted, self.images), (self.true, right))
        of_class, as_class, hits = (
            self.images.new_zeros(self.classes).index_add(0, *pair) for pair in class_and_images
        )
        return of_class, as_class, hits

    def at(self, pairs: Tensor) -> Tensor:
        """Images (P,) int64 of pairs (P, 2) of a true and a predicted class that are among the cells."""
        places = torch.searchsorted(self.true * self.classes + self.predicted, pairs[:, 0] * self.classes + pairs[:, 1])
        return self.images[places]

    def summed(self, place: Tensor, size: int) -> Tensor:
        """Counts (`size`, `size`) int64 in which class j stands at place[j]."""
        cells = place[self.true] * size + place[self.predicted]
        return self.images.new_zeros(size * size).index_add(0, cells, self.images).view(size, size)


def confusions(found: Predictions, classes: int) -> Counts:
    """Counts of the images whose class is known. Raises UserError where none is, or a class is too high.

    Raises UserError also for fewer than two classes: there is nothing to confuse; ValueError for images without answer.
    """
    known = found.true >= 0
    if not known.any():
        raise UserError("a confusion matrix needs labels, and none of these images has one")
    if classes < 2:
        raise UserError(f"a confusion matrix needs at least 2 classes, the data has {classes}")
    highest = int(torch.maximum(found.true, all_answered(found.predicted)).max())
    if highest >= classes:
        raise UserError(f"class {highest} is labelled or predicted, but the data names {classes} classes (0 to J - 1)")
    # Not torchmetrics: where deterministic algorithms are on, it holds images x classes^2 numbers at once.
    cells, images = torch.unique(found.true[known] * classes + found.predicted[known], return_counts=True)
    return Counts(cells // classes, cells % classes, images, classes)


def confusion_matrix(found: Predictions, classes: int) -> Tensor:
    """`confusions` as a matrix (J, J) int64."""
    return confusions(found, classes).matrix()


@dataclass(frozen=True)
class PerClass:
    """Measures of each class, (J,) float64 in [0, 1]; NaN where they are not defined."""

    precision: Tensor  # of the images predicted as the class, the share that is of it
    recall: Tensor  # of the images of the class, the share that was found
    f1: Tensor  # their harmonic mean: 2 hits / (images of the class + images predicted as it)
    support: Tensor  # images of the class


def per_class(counts: Counts | Tensor) -> PerClass:
    """Precision, recall, F1 and support of J classes.

    >>> per_class(torch.tensor([[2, 1], [0, 0]])).recall.tolist()
    [0.6666666666666666, nan]
    """
    true, predicted, hits = (total.double() for total in Counts.of(counts).totals())
    return PerClass(hits / predicted, hits / true, 2 * hits / (true + predicted), true)


def confused_pairs(counts: Counts | Tensor, most: int) -> Tensor:
    """The pairs (P, 2) int64 of a true and a wrongly predicted class with the most images, P <= `most` of them."""
    cells = Counts.of(counts)
    wrong = (cells.true != cells.predicted).nonzero()[:, 0]
    leading = wrong[cells.images[wrong].sort(descending=True, stable=True).indices[:most]]
    return torch.stack([cells.true[leading], cells.predicted[leading]], dim=1)


def examples(found: Predictions, pairs: Tensor, count: int) -> Tensor:
    """For each of the pairs (P, 2) the images (P, `count`) int64 that were mistaken most confidently, -1 where too few.

    Numbers are positions in the order of the images.
    """
    of_pair = (found.true[None] == pairs[:, :1]) & (found.predicted[None] == pairs[:, 1:])  # (P, N)
    count_here = min(count, len(found.true))
    confidence, chosen = found.confidence.expand_as(of_pair).masked_fill(~of_pair, -1).topk(count_here, dim=1)
    return torch.nn.functional.pad(chosen.masked_fill(confidence < 0, -1), (0, count - count_here), value=-1)


def images_at(probe: Probe, places: Tensor) -> Tensor:
    """Images (*places.shape, C, H, W) of the set that `probe.batches` reads, by their places in it; zeros at -1."""
    images = torch.zeros(places.numel(), *probe.images.shape[1:])
    for index, place in enumerate(places.flatten().tolist()):
        if place >= 0:
            images[index] = probe.images[place] if probe.dataset is None else probe.dataset[place][0]
    return images.view(*places.shape, *images.shape[1:])


def row_shares(counts: Tensor) -> Tensor:
    """Counts (R, Q) over their row's sum, float64; 0 in empty rows."""
    return counts.double() / counts.sum(dim=1, keepdim=True).clamp_min(1)


def lumped(counts: Counts | Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Counts with at most `most` rows and columns, and the classes (M,) int64 that these are, in order.

    Where there are more classes, those with the most errors (as the true or the predicted class) keep their own row
    and column and the last one, which has no entry in the classes, holds all others: no image is lost.
    """
    cells = Counts.of(counts)
    classes = torch.arange(cells.classes)
    if cells.classes <= most:
        return cells.matrix(), classes
    true, predicted, hits = cells.totals()
    kept = (true + predicted - 2 * hits).sort(descending=True, stable=True).indices[: most - 1].sort().values
    place = torch.full_like(classes, most - 1).scatter(0, kept, torch.arange(most - 1))
    return cells.summed(place, most), kept


def blocks(counts: Counts | Tensor, most: int) -> Tensor:
    """Counts (M, M) int64 of blocks of neighbouring classes, as many classes to each, M <= `most`."""
    cells = Counts.of(counts)
    size = -(-cells.classes // most)
    return cells.summed(torch.arange(cells.classes) // size, -(-cells.classes // size))
