"""Caricatures: what a layer makes of an image, exaggerated (Olah, Lucid issue 121 and its research notebooks)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp.featurevis.attribute import Target, attribution
from interp.featurevis.canvas import Canvas, Fft
from interp.featurevis.objective import Objective
from interp.featurevis.objectives import caricature, similarity, weighted
from interp.featurevis.render import Rendered, evaluate, render


@dataclass(frozen=True)
class Caricatures:
    """For each image and layer a picture with a similar, stronger activation pattern there."""

    pictures: Tensor  # (B, L, C, H, W) in [0, 1]
    cosine: Tensor  # (B, L) between the activations of picture and image at the layer, no transforms
    start_cosine: Tensor  # (B, L) the same of the canvas before the first step
    rendered: Rendered  # of L * B images, layer by layer


def caricatures(
    net: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    *,
    power: float = 0,
    cosine_power: float = 0,
    canvas: Canvas | None = None,
    penalised: Callable[[Objective], Objective] = lambda objective: objective,
    **options,
) -> Caricatures:
    """Plain caricatures of `images` (B, C, H, W) at each of `layers`, all in one render.

    The powers are those of the objective. Canvases of one image are moved like the image itself in each step. `canvas`
    holds B pictures, the start at every layer (by default an `Fft`), or L * B layer by layer, such as an earlier
    `rendered.canvas`; `penalised` makes another of each objective; `options` go to `render`. Raises UserError for a
    layer that does not exist.
    """
    objectives = [penalised(caricature(layer, power, cosine_power)) for layer in layers]
    return _draw(net, images, layers, objectives, canvas, options)


def attribution_caricatures(
    net: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    target: Target = None,
    *,
    iterated: bool = False,
    canvas: Canvas | None = None,
    penalised: Callable[[Objective], Objective] = lambda objective: objective,
    **options,
) -> Caricatures:
    """Caricatures of what in `images` (B, C, H, W) at each of `layers` speaks for `target`.

    `target` is what `attribution` takes: classes (B,) int64, the name of a later layer, or None. With `iterated`, the
    attribution at a layer goes through all layers after it in `layers`, from early to late. The attributions are those
    of the images as they are, and move with the picture. Other arguments are those of `caricatures`.
    """
    objectives = []
    for index, layer in enumerate(layers):
        weights = attribution(net, images, layers[index:] if iterated else layer, target)
        objectives.append(penalised(weighted(layer, weights)))
    return _draw(net, images, layers, objectives, canvas, options)


def _draw(
    net: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    objectives: list[Objective],
    canvas: Canvas | None,
    options: dict,
) -> Caricatures:
    count, parts = len(layers), [(objective, len(images)) for objective in objectives]
    canvas = canvas or Fft.noise(images.shape, seed=options.get("seed", 0), device=images.device)
    if len(canvas()) == len(images):
        canvas = canvas.repeated(count)
    scene: dict[str, Any] = {"reference": images, "groups": torch.arange(len(images)).repeat(count)}
    likeness = [(similarity(layer), len(images)) for layer in layers]
    start = evaluate(net, canvas(), likeness, **scene)
    rendered = render(net, canvas, parts, **scene, **options)
    end = evaluate(net, rendered.images, likeness, **scene)
    pictures, cosine, before = (by.unflatten(0, (count, -1)).transpose(0, 1) for by in (rendered.images, end, start))
    return Caricatures(pictures, cosine, before, rendered)
