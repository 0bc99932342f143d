"""How alike layers see the same images, in one network, over epochs or across networks.

Linear centred kernel alignment (CKA; Kornblith et al. 2019, Similarity of neural network representations revisited) of
features X (N, P) and Y (N, Q) of the same N images, each less its mean over them, with Gram matrices G = XX', H = YY':

    |Y'X|^2 / (|X'X| |Y'Y|)  =  <G, H> / (|G| |H|)      (Frobenius norms)

The first form needs no N x N numbers, the second no P x Q.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from interp.network.layers import Layer, capture
from interp.processes.share import handed_in

SIDE = 8  # positions across and down that a layer's grid is averaged to, at most
COMPONENTS = 1024  # numbers that are kept of an image and layer, at most
BLOCK = 2**21  # entries of a Gram matrix at once


@dataclass(frozen=True)
class Similarity:
    """How L layers see N images: the likeness of any two, and what later looks and other networks compare with."""

    count: int  # N
    alike: Tensor  # (L, L) float64 CKA; 0 in the row and column of a layer that puts out the same for all images
    grams: Tensor  # (L, N (N + 1) / 2) float32 packed Gram matrices; (0,) of more than 2,048 images, which have
    components: Tensor  # (N, R) float32 the features that are kept, layers side by side; else (0,)
    widths: tuple[int, ...]  # L numbers of columns in `components`, R in all; else ()
    error: float  # the largest difference that keeping components makes to the CKA of neighbouring layers
    broken: tuple[str, ...] = ()  # layers that are left out: their activations are NaN or infinite


def centred(features: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Features (N, ...) less their mean over the N images, as (N, P) between -1 and 1.

    What differs between images by no more than rounding counts as the same for all: it becomes 0.
    """
    flat, rounding = features.flatten(1), 8 * torch.finfo(features.dtype).eps
    differences = torch.empty(flat.shape, dtype=dtype)
    for target, part in zip(differences.split(256, dim=1), flat.split(256, dim=1), strict=True):
        wide = part.double()
        apart = wide - wide.mean(dim=0)
        same = apart.abs().amax(dim=0) <= rounding * wide.abs().amax(dim=0)
        target.copy_(apart.masked_fill(same, 0.0))
    largest = differences.abs().amax()
    return differences.div_(largest) if largest > 0 else differences


def centred_gram(features: Tensor) -> Tensor:
    """Inner products (N, N) float64 of features (N, ...) centred over the N images, scaled to Frobenius norm 1.

    Of features that are the same for all images: zeros; of NaN or infinite ones: NaN.
    """
    flat = centred(features)
    gram = flat @ flat.T
    length = gram.norm()
    return gram / length if length != 0 else gram


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Linear CKA (L, M) in [0, 1] of centred Gram matrices (L, N, N) and (M, N, N) of norm 1, or 0; packed or whole.

    1: the same up to rotation and scale; 0: unrelated, or one is the same for all images. With fewer images than
    features it is biased upwards.
    """
    return (first.flatten(1) @ second.flatten(1).T).clamp(0, 1)


def packed(gram: Tensor) -> Tensor:
    """A symmetric matrix (N, N) as (N (N + 1) / 2,) whose inner products are those of the matrices."""
    rows, columns = torch.triu_indices(*gram.shape)
    entries = gram[rows, columns]
    return torch.where(rows == columns, entries, 2**0.5 * entries)


def cka(first: Tensor, second: Tensor) -> float:
    """Linear CKA in [0, 1] of two layers, each a packed Gram matrix (N (N + 1) / 2,) or centred features (N, P).

    0 where one is the same for all images.
    """
    length = (_inner(first, first) * _inner(second, second)) ** 0.5
    return min(1.0, _inner(first, second) / length) if length else 0.0


def _inner(first: Tensor, second: Tensor) -> float:
    """The inner product of two Gram matrices."""
    if first.ndim == second.ndim == 2:
        return float((first.T @ second).double().square().sum())
    first, second = (packed(part @ part.T) if part.ndim == 2 else part for part in (first, second))
    return float(first.double() @ second.double())


def coarse(activations: Tensor) -> Tensor:
    """Activations (n, C, H, W) averaged over blocks of positions to at most 8 x 8: memory stays small, places count."""
    height, width = (min(SIDE, side) for side in activations.shape[-2:])
    return adaptive_avg_pool2d(activations.float(), (height, width))


@torch.no_grad()
def similarity(net: nn.Module, images: Iterable[Tensor], layers: Sequence[Layer]) -> Similarity:
    """How each layer sees the N images of all batches (n, C, H, W).

    Memory and what is kept grow with N, not with its square. Batches that many processes share are put together on the
    first, which goes on alone. Raises ValueError where all layers are NaN or infinite.
    """
    seen: list[list[Tensor]] = [[] for _ in layers]
    for batch in images:
        outputs = capture(net, batch, [layer.name for layer in layers], len(batch))
        for parts, layer in zip(seen, layers, strict=True):
            parts.append(coarse(layer.layout.grid(outputs[layer.name])).cpu())
    everything = handed_in(*seen)
    seen.clear()
    broken = tuple(layer.name for layer, part in zip(layers, everything, strict=True) if not part.isfinite().all())
    features = [part for layer, part in zip(layers, everything, strict=True) if layer.name not in broken]
    del everything
    if not features:
        raise ValueError(f"the activations of {', '.join(broken)} are NaN or infinite")
    if len(features[0]) <= 2 * COMPONENTS:
        return replace(of_few(features), broken=broken)
    released = (features.pop(0) for _ in range(len(features)))  # each is let go when its centred copy is made
    return replace(of_many(released), broken=broken)


def of_few(features: Sequence[Tensor]) -> Similarity:
    """Of each layer's features (N, ...), of so few images that Gram matrices are no larger than what `of_many` keeps.

    Exact.
    """
    grams = torch.stack([packed(centred_gram(part)) for part in features])
    return Similarity(len(features[0]), linear_cka(grams, grams), grams.float(), torch.zeros(0), (), 0.0)


def of_many(features: Iterable[Tensor]) -> Similarity:
    """Of each layer's features (N, ...): `alike` is exact, and what is kept of layers of up to 1,024 features.

    Of larger ones 1,024 directions are kept, nearly those of the largest principal components (Halko et al. 2011,
    Finding structure with randomness).
    """
    flat = [centred(part, torch.float32) for part in features]
    exact, kept = alike(flat), [_components(part) for part in flat]
    errors = [abs(cka(kept[at], kept[at + 1]) - float(exact[at, at + 1])) for at in range(len(flat) - 1)]
    widths = tuple(part.shape[1] for part in kept)
    exact_kept = all(width == part.shape[1] for width, part in zip(widths, flat, strict=True))
    error = 0.0 if exact_kept else max(errors, default=0.0)
    return Similarity(len(flat[0]), exact, torch.zeros(0), torch.cat(kept, dim=1), widths, error)


def alike(flat: Sequence[Tensor]) -> Tensor:
    """Linear CKA (L, L) float64 of centred features (N, P) of L layers, one block of their Gram matrices at a time."""
    count = len(flat[0])
    rows = max(1, BLOCK // count)
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    for start in range(0, count, rows):
        block = torch.stack([part[start : start + rows] @ part[start:].T for part in flat]).double()
        for entries, times in ((block[..., :rows], 1), (block[..., rows:], 2)):  # the matrices are symmetric
            total += times * (entries.flatten(1) @ entries.flatten(1).T)
    length = total.diagonal().sqrt()
    return (total / (length[:, None] * length).clamp_min(1e-300)).clamp(0, 1)


def _components(flat: Tensor) -> Tensor:
    """Centred features (N, P) along the directions of their largest variance, (N, r)."""
    from sklearn.utils.extmath import randomized_range_finder

    if flat.shape[1] <= COMPONENTS or not flat.any():
        return flat if flat.any() else flat[:, :1]
    directions = randomized_range_finder(
        flat.numpy().T, size=COMPONENTS, n_iter=2, power_iteration_normalizer="LU", random_state=0
    )
    return flat @ torch.from_numpy(directions)
