"""Where the network puts the images of the validation set, epoch by epoch."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from interp.draw import grid, rgb
from interp.draw.scatter import NAMED, class_colours, legend, scatter
from interp.draw.scatter_widget import scatter_widget
from interp.draw.text import one_line
from interp.parts import attempt, drawn, omissions
from interp.probe import Probe
from interp.projection import METHODS, embed, measures, movement, project, reduce
from interp.result import Result, longer_film
from plugins.base import Plugin, setting

PIXELS = 2**22  # of all thumbnails together: of up to 4,096 images they are 32 pixels wide
KINDS = {"tsne": "t-SNE", "pca": "Principal components", "umap": "UMAP"}


@dataclass(frozen=True)
class ProjectionResult(Result):
    """Embeddings of N images and their layout in a plane; J classes, E looks."""

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

    def pictures(self) -> dict[str, Tensor]:
        return drawn("picture", {"scatter": self._scatter} | ({"film": self._film} if len(self.looks) > 1 else {}))

    def _scatter(self) -> Tensor:
        classes = len(self.class_names)
        colours = class_colours(self.labels, classes)
        plane = scatter(self.layout, colours, self.wrong)
        if classes <= NAMED:
            every = class_colours(torch.arange(classes), classes)
            plane = torch.cat([plane, legend(self.class_names, every, plane.shape[1])], dim=2)
        return plane

    def _film(self) -> Tensor:
        colours = class_colours(self.labels, len(self.class_names))
        cells = torch.stack([scatter(layout, colours, side=200) for layout in self.film]).float() / 255
        return grid(cells[None], (), [f"look {look}" for look in self.looks])

    def captions(self) -> dict[str, str]:
        n, trust = len(self.labels), self.trust
        text = f"{KINDS[self.method]} of the embeddings at {self.layer}: {n} of {self.of} validation images"
        text += "" if n == self.of else ", balanced over the classes"
        text += "; colour: true class; black crosses: predicted wrongly. "
        if "knn_accuracy" in trust:
            text += (
                f"{trust['knn_accuracy']:.0%} have the class of most of their 10 nearest in the layer (silhouette "
                f"{trust['silhouette']:.2f}). "
            )
        if "trustworthiness" in trust:
            text += f"Neighbours in the picture are neighbours in the layer to {trust['trustworthiness']:.0%}. "
        if self.method != "pca":
            text += "Distances between groups, their sizes and their density mean little in such a picture. "
        film = "The same images at earlier looks (0 is the first); each begins at the layout before it."
        text = text.strip() + omissions(self.left_out)
        return {"scatter": text, **({"film": film} if len(self.looks) > 1 else {})}

    def widgets(self) -> dict[str, str]:
        looks = [f"{look}" for look in self.looks]
        names, caption = self.class_names, self.captions()["scatter"].replace("black crosses", "rims")
        args = (self.film, looks, self.labels, self.predicted, names, self.thumbnails, caption)
        return {"explore": scatter_widget(*args)}

    def to_tensorboard(self, writer: Any, name: str, step: int) -> None:
        """TensorBoard's projector: the embeddings with their images, classes and predictions."""
        names = [one_line(name) for name in self.class_names]  # its table is of lines and tabs
        said = [names[j] if j >= 0 else "none" for j in self.predicted.tolist()]
        true = [names[j] if j >= 0 else "unknown" for j in self.labels.tolist()]
        rows = [[a, b, "wrong" if w else ""] for a, b, w in zip(true, said, self.wrong.tolist(), strict=True)]
        images = rgb(self.thumbnails) / 255
        writer.add_embedding(self.vectors, rows, images, step, name, metadata_header=["class", "predicted", "wrong"])


@dataclass(kw_only=True)
class ProjectionPlugin(Plugin):
    """Embeddings of the validation set in a plane (METHODS: projection; seed 004)."""

    shares: ClassVar[bool] = True

    layer: str | None = setting(None, "averaged over its positions; null: what the last linear layer reads")
    method: str = setting("tsne", "tsne, pca or umap (extra `umap`)", choices=METHODS)
    images: int = setting(1000, "of the validation set, balanced over the classes", least=5)
    dimensions: int = setting(
        50, "largest principal components of the embeddings, which everything is computed from", least=2
    )
    iterations: int = setting(500, "of tsne and umap; tsne needs 250 or more", least=250)

    def analyze(self, net: nn.Module, probe: Probe) -> ProjectionResult:
        some, of = probe.some(self.images), len(probe if probe.dataset is None else probe.dataset)
        side = min(32, max(8, math.isqrt(PIXELS // min(self.images, of))))
        found = embed(net, some.batches(self.batch_size), self.layer, side)
        vectors, kept = reduce(found.vectors, self.dimensions, self.seed)
        layout = project(vectors, self.method, iterations=self.iterations, seed=self.seed)
        left_out = self._unpredicted(found.predicted)
        measured = attempt(left_out, "measures of the layout", lambda: measures(vectors, found.labels, layout))
        return ProjectionResult(
            vectors, kept, self.layer or _read(net), layout, self.method, self.iterations,
            self.seed, found.labels, found.predicted, probe.class_names, found.thumbnails, of,
            measured or {}, layout[None], (0,), left_out=tuple(left_out),
        )  # fmt: skip

    def _unpredicted(self, predicted: Tensor) -> list[str]:
        missing = int((predicted < 0).sum())
        return [f"predictions of {missing} images (their logits are NaN or infinite)"] if missing else []


def _read(net: nn.Module) -> str:
    """What is embedded where no layer is named."""
    linear = any(isinstance(module, nn.Linear) for module in net.modules())
    return f"the input of the last {'linear layer' if linear else '1 x 1 convolution'}"
