"""Label maps of the harness's own data sets as concept data."""

import torch
from torch import Tensor

from interp.dissection.concepts import NONE, Concepts, TensorConcepts
from interp.lit.data.shapes import ConceptImages


def shape_concepts(data: ConceptImages) -> TensorConcepts:
    """`shapes` with its exact labels: a plane a category, every image labelled for all, parts or not."""
    names = {category: named[1:] for category, named in data.concept_names.items()}
    category = tuple(k for k, named in enumerate(names.values()) for _ in named)
    concepts = Concepts(tuple(name for named in names.values() for name in named), tuple(names), category)
    maps, first = [], 0
    for key, named in names.items():
        maps.append(_numbered(data.concepts[key], first))
        first += len(named)
    labelled = torch.ones(len(data), len(names), dtype=torch.bool)
    return TensorConcepts(data.images, torch.stack(maps, dim=1), labelled, concepts)


def _numbered(labels: Tensor, first: int) -> Tensor:
    """Labels (N, H, W) that count from 1, 0 for none, as concepts int16 that count from `first`."""
    return torch.where(labels > 0, labels.short() + (first - 1), NONE)
