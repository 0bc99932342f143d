"""Embeddings of images in a plane, and how far the picture can be trusted.

Letters: N images, D dimensions of an embedding, J classes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interp.confusion import answers
from interp.errors import UserError, unknown
from interp.network.bypass import read_by_head
from interp.network.layers import find_layer, layouts
from interp.network.modules import watched
from interp.network.positions import Layout
from interp.processes.share import handed_in
from interp.result import finite

NEIGHBOURS = 10  # of the measures
BLOCK = 32  # MiB of distances at once: N x N of them never stand in memory


@dataclass(frozen=True)
class Embeddings:
    """What a layer holds of images, on the CPU and in the order of the images."""

    vectors: Tensor  # (N, D) float32
    labels: Tensor  # (N,) int64, -1 where the class is unknown
    predicted: Tensor  # (N,) int64, -1 where the logits are NaN or infinite
    thumbnails: Tensor  # (N, C, s, s) uint8


@torch.no_grad()
def embed(
    net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], layer: str | None = None, side: int = 32
) -> Embeddings:
    """The output of `layer`, averaged over its positions, for batches of (images (n, C, H, W), labels (n,)).

    Where `layer` is None, what the last linear layer or 1 x 1 convolution reads, which is what a classifier decides on.
    Thumbnails are `side` pixels at most. Raises UserError for a layer that does not exist or puts out no vector, map or
    tokens, and ValueError for NaN. Batches that many processes share are put together on the first, which goes on
    alone.
    """
    columns: tuple[list[Tensor], ...] = ([], [], [], [])
    at: Layout | None = None
    for number, (images, labels) in enumerate(batches):
        if layer is not None and number == 0:
            at = layouts(net, images, [layer])[layer]
        logits, vectors = read_by_head(net, images) if layer is None else _read(net, images, layer, at)
        if vectors is None:
            raise UserError(
                "the network has no linear layer whose input could be embedded, and no 1 x 1 convolution: name a layer "
                "with layer=NAME"
            )
        size = min(side, max(images.shape[-2:]))
        small = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        kept = (vectors.float(), labels, answers(logits), (small.clamp(0, 1) * 255).round().byte())
        for column, part in zip(columns, kept, strict=True):
            column.append(part.cpu())
    embeddings = Embeddings(*handed_in(*columns))
    finite(embeddings.vectors, "the embeddings")
    return embeddings


def _read(net: nn.Module, images: Tensor, layer: str, at: Layout | None) -> tuple[Tensor, Tensor]:
    """Logits (n, J) and embeddings (n, D) from one forward pass."""
    seen: list[Tensor] = []

    def note(_name: str, tensor: Tensor | None) -> None:
        assert tensor is not None  # it was one when its layout was found
        seen.append(tensor.clone())  # a later ReLU(inplace=True) would rewrite it

    with watched({layer: find_layer(net, layer)}, note):
        logits = net(images)
    return logits, _pooled(seen[-1], at, layer)


def _pooled(output: Tensor, at: Layout | None, layer: str) -> Tensor:
    """The mean over positions or, where they fill no grid, over tokens."""
    if at is not None:
        return at.grid(output).mean(dim=(2, 3))
    if output.ndim == 3:
        return output.mean(dim=1)
    raise UserError(f"layer {layer!r} cannot be embedded: it puts out {tuple(output.shape)}")


def reduce(vectors: Tensor, dimensions: int = 50, seed: int = 0) -> tuple[Tensor, float]:
    """The largest principal components (N, `dimensions` or fewer) float32 of vectors (N, D), and their variance share.

    Centred. The share is 1 where there is no variance at all.
    """
    from sklearn.decomposition import PCA

    centred = vectors.double() - vectors.double().mean(dim=0)
    count = min(dimensions, *vectors.shape)
    if not (variance := float(centred.square().sum())):
        return centred[:, :count].float(), 1.0
    components = torch.from_numpy(PCA(count, random_state=seed).fit_transform(centred.numpy()))
    return components.float(), float(components.square().sum()) / variance


def project(
    vectors: Tensor, method: str = "tsne", start: Tensor | None = None, *, iterations: int = 500, seed: int = 0
) -> Tensor:
    """A layout (N, 2) float32 of vectors (N, D) whose columns are principal components; centred.

    `tsne` (van der Maaten & Hinton 2008) and `umap` begin at an earlier layout `start` (N, 2) or else at the first two
    components. Afterwards the layout is turned (and mirrored) onto `start`. Raises UserError for another method, for
    fewer than 5 vectors, and where `umap` is not installed.
    """
    if method not in METHODS:
        raise unknown("projection method", method, METHODS)
    if len(vectors) < 5:
        raise UserError(f"a projection needs at least 5 images, there are {len(vectors)}")
    layout = METHODS[method](vectors, start, iterations, seed)
    return turned(layout, layout if start is None else start)


def _tsne(vectors: Tensor, start: Tensor | None, iterations: int, seed: int) -> Tensor:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Where points have their places, 4 instead of 12 reaches the same divergence and moves them half as far.
    begin, exaggeration = (_small(_plane(vectors), 1e-4, seed), 12.0) if start is None else (start.numpy(), 4.0)
    options = {"perplexity": min(30.0, (len(vectors) - 1) / 3), "max_iter": iterations, "random_state": seed}
    with threadpool_limits(1, user_api="openmp"):  # else sums in another order give another layout
        solver = TSNE(init=begin, early_exaggeration=exaggeration, **options)
        return torch.from_numpy(solver.fit_transform(vectors.numpy()))


def _plane(vectors: Tensor) -> Tensor:
    """The first two components (N, 2)."""
    return nn.functional.pad(vectors[:, :2], (0, max(0, 2 - vectors.shape[1])))


def _small(layout: Tensor, deviation: float, seed: int) -> np.ndarray:
    """The layout at another standard deviation; random where it has none."""
    if float(layout.std()) == 0:
        layout = torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed))
    return (layout / layout.std() * deviation).float().numpy()


def _pca(vectors: Tensor, *_: Any) -> Tensor:
    return _plane(vectors)


def _umap(vectors: Tensor, start: Tensor | None, iterations: int, seed: int) -> Tensor:
    try:
        from umap import UMAP
    except ImportError as error:
        raise UserError("method=umap needs the extra `umap`: `pip install -e '.[umap]'`; or use tsne") from error
    begin = _small(_plane(vectors), 3.0, seed) if start is None else start.numpy()
    neighbours = min(15, len(vectors) - 1)
    solver = UMAP(n_neighbors=neighbours, init=begin, n_epochs=iterations, random_state=seed, n_jobs=1)
    return torch.from_numpy(np.asarray(solver.fit_transform(vectors.numpy())))


METHODS: dict[str, Callable[[Tensor, Tensor | None, int, int], Tensor]] = {"tsne": _tsne, "pca": _pca, "umap": _umap}


def turned(layout: Tensor, onto: Tensor) -> Tensor:
    """The layout (N, 2), centred, turned and mirrored so that its points lie nearest to those of `onto` (N, 2)."""
    from scipy.linalg import orthogonal_procrustes

    first, second = (t.double() - t.double().mean(dim=0) for t in (layout, onto))
    return (first @ torch.from_numpy(orthogonal_procrustes(first.numpy(), second.numpy())[0])).float()


def movement(layout: Tensor, previous: Tensor) -> float:
    """How far points moved from one layout (N, 2) to the next, over the mean distance of two random points.

    About 1: they might as well have been placed anew. Each layout is first brought to the same spread.
    """
    first, second = (t / t.square().sum(dim=1).mean().sqrt().clamp_min(1e-12) for t in (layout, previous))
    rows = max(1, BLOCK * 2**20 // (4 * len(second)))
    apart = sum(float(torch.cdist(part, second).double().sum()) for part in first.split(rows)) / len(first) ** 2
    return float((first - second).norm(dim=1).mean()) / max(apart, 1e-12)


def measures(vectors: Tensor, labels: Tensor, layout: Tensor) -> dict[str, float]:
    """scikit-learn's measures of vectors (N, D) with labels (N,), -1 unknown, and of their layout (N, 2).

    `trustworthiness` is 1 where all neighbours in the layout are neighbours among the vectors. Of the images with a
    class: `knn_accuracy`, each by its 10 nearest others among the vectors, `layout_knn_accuracy` in the layout, and
    `silhouette`, -1 to 1, of the classes among the vectors; left out where there are too few images or classes.
    Memory grows with N, time with its square.
    """
    from sklearn import config_context
    from sklearn.metrics import silhouette_score

    near = min(NEIGHBOURS, (len(vectors) - 1) // 2)
    found = {"trustworthiness": trustworthiness(vectors.numpy(), layout.numpy(), near)}
    known = labels >= 0
    rows, places, classes = vectors[known].numpy(), layout[known].numpy(), labels[known]
    distinct = len(classes.unique())
    if not 2 <= distinct < len(classes):
        return found
    for name, points in (("knn_accuracy", rows), ("layout_knn_accuracy", places)):
        others = torch.from_numpy(_nearest(points, min(NEIGHBOURS, len(classes) - 1)))
        found[name] = float((classes[others].mode(dim=1).values == classes).double().mean())
    with config_context(working_memory=BLOCK):
        return {**found, "silhouette": float(silhouette_score(rows, classes.numpy()))}


def trustworthiness(vectors: np.ndarray, layout: np.ndarray, near: int) -> float:
    """scikit-learn's trustworthiness of a layout (N, 2) of vectors (N, D), to the last bit, without N x N distances.

    Venna & Kaski 2001: 1 less the sum, over the `near` nearest j of each i in the layout, of how far j's rank among
    the distances from i in `vectors` exceeds `near`, over the largest such sum.
    """
    from sklearn.metrics import pairwise_distances_chunked

    count, in_plane = len(vectors), _nearest(layout, near)

    def excess(distances: np.ndarray, start: int) -> np.ndarray:
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf  # no image is its own neighbour
        order = distances.argsort(axis=1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, count + 1)[None], axis=1)
        return np.maximum(np.take_along_axis(ranks, in_plane[start : start + len(rows)], axis=1) - near, 0).sum(axis=1)

    blocks = pairwise_distances_chunked(vectors, reduce_func=excess, working_memory=BLOCK)
    total = sum(int(block.sum()) for block in blocks)
    return 1.0 - total * (2.0 / (count * near * (2.0 * count - 3.0 * near - 1.0)))


def _nearest(points: np.ndarray, count: int) -> np.ndarray:
    """The places (N, count) of the nearest others of each point (N, D)."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=count).fit(points).kneighbors(return_distance=False)
