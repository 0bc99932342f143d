"""The concept data of a study: what it was given, what the data set knows of its pixels, or its classes."""

import warnings
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from interp.dissection.concepts.data import Chosen, ConceptData, Concepts, Labels, TensorConcepts
from interp.errors import UserError
from interp.probe import LabelledImages, Probe

ENOUGH = "enough"  # images: 10 a concept of the largest category, within what is worth its time
EACH, LEAST, MOST = 10, 300, 3000


@runtime_checkable
class HasConcepts(Protocol):
    """A data set that knows what its pixels show."""

    def concept_data(self) -> ConceptData:
        """Its images, in their order, with their concepts."""
        ...


class ClassConcepts:
    """A data set's classes as concepts of one category, `class`: each covers its images as a whole, as scenes do."""

    def __init__(self, dataset: LabelledImages, class_names: tuple[str, ...]) -> None:
        self.dataset, self.size = dataset, dataset[0][0].shape[1:]
        self.concepts = Concepts(class_names, ("class",), (0,) * len(class_names))

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> Tensor:
        """Image `index`: float32 (C, H, W) in [0, 1]."""
        return self.dataset[index][0]

    def labels(self, index: int) -> Labels:
        """One plane with the class everywhere; no label where it is unknown."""
        label = self.dataset.targets[index]
        return Labels(label.int().expand(1, *self.size), (label >= 0).view(1))


def enough(concepts: Concepts) -> int:
    """How many images tell of `concepts`: 10 for each of the largest category, at least 300 and at most 3,000.

    >>> enough(Concepts(("a", "b", "c"), ("k",), (0, 0, 0)))
    300
    """
    return min(max(LEAST, EACH * concepts.largest), MOST)


def concept_data(probe: Probe, given: ConceptData | None = None, images: int | str | None = None) -> ConceptData:
    """`given`, or else the concepts of the probe's data set: its own, or its classes; at most `images`, evenly spread.

    `images` "enough": as many as `enough` says; None: all. Warns of classes that have an image, but none among these.
    Raises UserError where nothing is labelled, and for images with other channels than the probe's.
    """
    data = given or _own(probe)
    if not len(data):
        raise UserError("the concept data hold no images")
    if (found := len(data.image(0))) != (wanted := probe.images.shape[1]):
        raise UserError(f"images of the concept data have {found} channels, those that the network takes {wanted}")
    count = enough(data.concepts) if images == ENOUGH else images
    if isinstance(count, str):
        raise UserError(f"images={images!r}: give a whole number, null for all, or {ENOUGH}")
    if count is None or count >= len(data):
        return data
    chosen = Chosen(data, torch.linspace(0, len(data) - 1, count).round().long().tolist())
    if isinstance(data, ClassConcepts):
        _warn_of_unseen(data.dataset.targets, chosen)
    return chosen


def _warn_of_unseen(targets: Tensor, chosen: Chosen) -> None:
    """Warn of classes in `targets` (N,) that no image of `chosen` is of."""
    there = targets[targets >= 0].unique()
    unseen = int((~torch.isin(there, targets[list(chosen.indices)])).sum())
    if unseen:
        each = EACH * len(there)
        warnings.warn(
            f"{unseen} of {len(there)} classes have no image among the {len(chosen)} that are looked at: nothing can "
            f"be told of them. images={min(each, len(targets))} would show most some times, null all",
            stacklevel=3,
        )


def targets_of(probe: Probe, data: ConceptData, given: ConceptData | None) -> Tensor | None:
    """The classes (N,) int64 of the images of `data`, which `concept_data` chose; None where they are not known."""
    if given is not None:
        return None
    targets = probe.labels if probe.dataset is None else probe.dataset.targets
    chosen = targets[list(data.indices)] if isinstance(data, Chosen) else targets
    return chosen.cpu() if (chosen >= 0).all() else None


def _own(probe: Probe) -> ConceptData:
    if isinstance(probe.dataset, HasConcepts):
        return probe.dataset.concept_data()
    if (probe.labels < 0).all():
        raise UserError(
            "these images have neither labels of concepts nor classes: name a folder with some, such as "
            "concepts={_target_: interp.dissection.Broden, root: FOLDER}"
        )
    if probe.dataset is not None:
        return ClassConcepts(probe.dataset, probe.class_names)
    maps = probe.labels.view(-1, 1, 1, 1).expand(-1, 1, *probe.images.shape[2:])
    names = Concepts(probe.class_names, ("class",), (0,) * len(probe.class_names))
    return cast(ConceptData, TensorConcepts(probe.images, maps, (probe.labels >= 0)[:, None], names))
