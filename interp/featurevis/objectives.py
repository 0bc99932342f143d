"""What a picture is to bring about: one number for each image, to be maximised (Lucid's optvis.objectives).

Objectives add, subtract and scale: `channel("layer3", 7) - 0.1 * total_variation()`. Channels and directions may be
given once or one for each image.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from interp import vectors
from interp.errors import UserError
from interp.featurevis.objective import Look, Objective
from interp.featurevis.transforms import warp
from interp.vectors import directions


def _at(layer: str, what: str, value: Callable[[Tensor], Tensor]) -> Objective:
    """The objective that depends on the activations (B, C, h, w) of one layer."""
    return Objective(f"{what} of {layer}", frozenset([layer]), lambda look: value(look.activations[layer]))


def channel(layer: str, channels: int | Sequence[int] | Tensor) -> Objective:
    """Mean over positions of one channel, or of channel `channels[i]` for image i."""
    indices = torch.as_tensor(channels).flatten().tolist()
    return _at(layer, f"channel {_brief(indices)}", lambda a: _chosen(a, indices).mean(dim=(1, 2)))


def unit(layer: str, channels: int | Sequence[int] | Tensor, position: tuple[int, int] | None = None) -> Objective:
    """One channel, or channel `channels[i]` for image i, at `position` (row, column), by default the centre."""
    indices = torch.as_tensor(channels).flatten().tolist()
    return _at(layer, f"unit {_brief(indices)}", lambda a: _pick(_chosen(a, indices), position))


def direction(layer: str, vectors: Tensor, power: float = 0, position: tuple[int, int] | None = None) -> Objective:
    """<a, v> * max(0.1, cos)^power, the mean over positions or at `position`; `vectors` (C,) or (B, C).

    With power 0 a dot product; larger powers weigh the angle more than the size of the activations.
    """

    def value(activations: Tensor) -> Tensor:
        dot, cosine = _compare(activations, vectors)
        score = dot * cosine.clamp_min(0.1) ** power if power else dot
        return score.mean(dim=(1, 2)) if position is None else _pick(score, position)

    return _at(layer, "direction", value)


def cosine(layer: str, vectors: Tensor) -> Objective:
    """Mean over positions of the cosine with `vectors` (C,) or (B, C), in [-1, 1] (Lucent's `direction`)."""
    return _at(layer, "cosine", lambda a: _compare(a, vectors)[1].mean(dim=(1, 2)))


def caricature(layer: str, power: float = 0, cosine_power: float = 0) -> Objective:
    """d * q^power * max(0.1, cos)^cosine_power with d = <reference, a>, q = max(0.1, d / |a|); needs `reference`.

    Over all channels and positions together. With cosine_power 0 Lucid's, whose q is |reference| times the cosine.
    The floor of q is Lucid's, in units of activations: where |reference| is below 0.1 `power` changes nothing, and
    `cosine_power`, which has no unit, does what it says.
    """

    def value(look: Look) -> Tensor:
        a, r = _with_reference(look, layer)
        dot = score = (a * r).sum(dim=1)
        if power:
            score = dot * (directions(a) * r).sum(dim=1).clamp_min(0.1) ** power
        return score * vectors.cosine(a, r).clamp_min(0.1) ** cosine_power if cosine_power else score

    return Objective(f"caricature at {layer}", frozenset([layer]), value)


def similarity(layer: str) -> Objective:
    """Cosine with the reference over all channels and positions together; needs `reference`."""
    name = f"cosine at {layer}"
    return Objective(name, frozenset([layer]), lambda look: vectors.cosine(*_with_reference(look, layer)))


def weighted(layer: str, weights: Tensor) -> Objective:
    """Sum of activations times `weights` (B, C, h, w), such as attributions, which move with the picture."""

    def value(look: Look) -> Tensor:
        activations, moved = look.activations[layer], weights
        if look.maps is not None:
            moved = warp(weights, look.maps, (activations.shape[-2], activations.shape[-1]))
        if moved.shape != activations.shape:
            raise UserError(f"weights {tuple(weights.shape)} do not fit {layer!r}, it is {tuple(activations.shape)}")
        return (activations * moved).sum(dim=(1, 2, 3))

    return Objective(f"weighted sum of {layer}", frozenset([layer]), value)


def distance(layer: str) -> Objective:
    """|a - reference|^2 / |reference|^2, to be subtracted: keeps close to an image; needs `reference`.

    Over all channels and positions together (feature accentuation, Hamblin et al. 2024). 0 where both are 0.
    """

    def value(look: Look) -> Tensor:
        a, r = _with_reference(look, layer)
        length = r.square().sum(dim=1)
        return (a - r).square().sum(dim=1) / torch.where(length > 0, length, 1.0)

    return Objective(f"distance at {layer}", frozenset([layer]), value)


def diversity(layer: str, sets: Tensor | None = None) -> Objective:
    """How alike the images of a set are in style, to be subtracted (Lucid takes it times 100).

    (1/B) sum over others of the inner product of normalised Gram matrices. `sets` (B,) int64 says which images belong
    together; by default all.
    """

    def value(activations: Tensor) -> Tensor:
        rows = activations.flatten(2)
        rows = rows / torch.where((largest := rows.detach().abs().amax(dim=(1, 2), keepdim=True)) > 0, largest, 1.0)
        grams = directions((rows @ rows.transpose(1, 2)).flatten(1))
        one_set = torch.zeros(len(grams), dtype=torch.int64) if sets is None else sets
        together = (one_set[:, None] == one_set).to(grams)
        others = together - torch.eye(len(grams)).to(grams)
        return (grams @ grams.T * others).sum(dim=1) / together.sum(dim=1)

    return _at(layer, "diversity", value)


def total_variation() -> Objective:
    """Mean absolute difference of neighbouring pixels, to be subtracted: less of it is smoother."""
    return _of_images("total variation", lambda x: _mean(x.diff(dim=2).abs()) + _mean(x.diff(dim=3).abs()))


def l1(centre: float = 0.5) -> Objective:
    """Mean absolute difference of the pixels from `centre`, to be subtracted."""
    return _of_images("L1", lambda x: _mean((x - centre).abs()))


def l2(centre: float = 0.5) -> Objective:
    """Mean squared difference of the pixels from `centre`, to be subtracted."""
    return _of_images("L2", lambda x: _mean((x - centre).square()))


def _of_images(name: str, value: Callable[[Tensor], Tensor]) -> Objective:
    return Objective(name, frozenset(), lambda look: value(look.images))


def _mean(images: Tensor) -> Tensor:
    return images.flatten(1).mean(dim=1)


def _chosen(activations: Tensor, indices: list[int]) -> Tensor:
    """(B, h, w): of image i channel indices[i]."""
    images, channels = activations.shape[:2]
    if len(indices) not in (1, images):
        raise UserError(f"{len(indices)} channels are given for {images} images: give one, or one for each")
    if not 0 <= min(indices) <= max(indices) < channels:
        raise UserError(f"channels {_brief(indices)} are not all in 0 to {channels - 1}")
    if len(indices) == 1:
        return activations[:, indices[0]]
    rows, columns = (torch.tensor(of, device=activations.device) for of in (range(images), indices))
    return activations[rows, columns]


def _pick(maps: Tensor, position: tuple[int, int] | None) -> Tensor:
    """(B,): maps (B, h, w) at a position."""
    height, width = maps.shape[1:]
    row, column = position or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise UserError(f"position {position} is outside of the layer's grid of {height} x {width}")
    return maps[:, row, column]


def _compare(activations: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Dot product and cosine (B, h, w) of each position with the image's vector."""
    if vectors.shape not in (activations.shape[:2], activations.shape[1:2]):
        raise UserError(f"vectors {tuple(vectors.shape)} do not fit activations {tuple(activations.shape)}")
    vectors = vectors.to(activations)
    pairs = (activations, vectors), (directions(activations, 1), directions(vectors))
    dot, cosine = ((maps * rows[..., None, None]).sum(dim=1) for maps, rows in pairs)
    return dot, cosine


def _with_reference(look: Look, layer: str) -> tuple[Tensor, Tensor]:
    """Activations of the images and of their references, each (B, C * h * w)."""
    if layer not in look.reference:
        raise UserError(f"the objective at {layer!r} compares with an image: give `reference`")
    return look.activations[layer].flatten(1), look.reference[layer].flatten(1)


def _brief(indices: list[int]) -> str:
    return ", ".join(map(str, indices[:4])) + (", ..." if len(indices) > 4 else "")
