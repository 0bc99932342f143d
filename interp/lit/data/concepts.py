"""Images of the harness's own data sets that know what their pixels show."""

import torch
from torch import Tensor

from interp.dissection.concepts.data import NONE, Concepts, TensorConcepts
from interp.lit.data.images import TensorImages


class ConceptImages(TensorImages):
    """Images with a label of each category on each pixel: `concepts` and `concept_names` as in `Shapes`."""

    def __init__(
        self, images: Tensor, targets: Tensor, concepts: dict[str, Tensor], concept_names: dict[str, tuple[str, ...]]
    ) -> None:
        super().__init__(images, targets)
        self.concepts, self.concept_names = concepts, concept_names

    def subset(self, indices: Tensor) -> "ConceptImages":
        """The images at `indices`, int64 (M,), with their labels."""
        concepts = {category: labels[indices] for category, labels in self.concepts.items()}
        return ConceptImages(self.images[indices], self.targets[indices], concepts, self.concept_names)

    def concept_data(self) -> TensorConcepts:
        """The same images with exact labels: a plane a category, every image labelled for all, parts or not."""
        names = {category: named[1:] for category, named in self.concept_names.items()}
        category = tuple(k for k, named in enumerate(names.values()) for _ in named)
        concepts = Concepts(tuple(name for named in names.values() for name in named), tuple(names), category)
        maps, first = [], 0
        for key, named in names.items():
            maps.append(_numbered(self.concepts[key], first))
            first += len(named)
        labelled = torch.ones(len(self), len(names), dtype=torch.bool)
        return TensorConcepts(self.images, torch.stack(maps, dim=1), labelled, concepts)


def _numbered(labels: Tensor, first: int) -> Tensor:
    """Labels (N, H, W) that count from 1, 0 for none, as concepts int16 that count from `first`."""
    return torch.where(labels > 0, labels.short() + (first - 1), NONE)
