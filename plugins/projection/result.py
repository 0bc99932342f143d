"""What the projection study has found at one look: embeddings of images and their layout in a plane."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from interp.projection import measures, movement, project
from interp.result import Result, longer_film
from plugins.projection import view


@dataclass(frozen=True)
class ProjectionResult(Result):
    """Embeddings of N images and their layout in a plane; J classes, E looks."""

    view: ClassVar[Any] = view

    vectors: Tensor  # (N, D) float32 the largest principal components of the embeddings
    variance_kept: float  # by these components, 0 to 1
    layer: str
    layout: Tensor  # (N, 2) float32, centred
    method: str
    iterations: int
    seed: int
    labels: Tensor  # (N,) int64, -1 where the class is unknown
    predicted: Tensor  # (N,) int64, -1 where the network has no answer
    class_names: tuple[str, ...]  # J names
    thumbnails: Tensor  # (N, C, s, s) uint8
    of: int  # images in the validation set
    trust: dict[str, float]  # interp.projection.measures of this layout
    film: Tensor  # (E, N, 2) layouts at this look and earlier ones
    looks: tuple[int, ...]  # E numbers of these looks, from 0
    image_names: tuple[str, ...] = ()  # N, '' where an image has none; empty where all classes are known

    def following(self, previous: "ProjectionResult") -> "ProjectionResult":
        """The same embeddings laid out anew from the last look's layout, so that points move instead of jumping."""
        if previous.method != self.method or previous.layout.shape != self.layout.shape:
            return self
        layout = project(self.vectors, self.method, previous.layout, iterations=self.iterations, seed=self.seed)
        film, looks = longer_film(previous.film, previous.looks, layout[None])
        return replace(self, layout=layout, trust=measures(self.vectors, self.labels, layout), film=film, looks=looks)

    @property
    def wrong(self) -> Tensor:
        """(N,) bool the images of a known class that are predicted as another."""
        return (self.labels >= 0) & (self.labels != self.predicted)

    def scalars(self) -> dict[str, float]:
        moved = {"movement": movement(self.film[-1], self.film[-2])} if len(self.looks) > 1 else {}
        return {**self.trust, "variance_kept": self.variance_kept, **moved}
