"""Pictures of channels in one render: what they are to bring about, and what of that is left when they are blurred."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.featurevis import Recipe, activation_grid, colours, evaluate, kept, mosaic, objectives, render
from interp.featurevis.objective import Objective
from interp.featurevis.render import Rendered
from interp.network.layers import capture

WIDEST = 512  # pixels of an activation grid in the result
OBJECTIVES = {"channel": objectives.channel, "unit": objectives.unit}


@dataclass(frozen=True)
class Wanted:
    """Pictures of one layer's channels."""

    layer: str
    channels: list[int]  # n, one a picture
    style: str  # the layer at which pictures of one channel must differ in style
    nearest: Tensor  # (n,) int64, the probe image that excites each most
    class_names: tuple[str, ...]  # n, of the classes whose logits the channels are, '' where they are none

    def plain(self, objective: str) -> Objective:
        """What the pictures are to excite."""
        return OBJECTIVES[objective](self.layer, torch.tensor(self.channels))


@dataclass(frozen=True)
class Asked:
    """How pictures differ from those that simply excite a channel."""

    objective: str  # one of OBJECTIVES
    accentuate: bool  # begin with the image that excites the channel most, not with noise
    distance: float  # weight of the distance to that image's activations
    diversity: float  # weight of how alike the pictures of one channel are

    def of(self, wanted: Wanted) -> Objective:
        """The objective of the layer's pictures, without penalties on pixels."""
        objective = wanted.plain(self.objective)
        if self.accentuate and self.distance:
            objective = objective - objectives.distance(wanted.layer) * self.distance
        if len(set(wanted.channels)) < len(wanted.channels) and self.diversity:
            sets = torch.tensor(wanted.channels)
            objective = objective - objectives.diversity(wanted.style, sets) * self.diversity
        return objective


@dataclass(frozen=True)
class Drawn:
    """Pictures, and the plain objective on them: channels alone, without penalties."""

    rendered: Rendered
    values: Tensor  # (N,) of the pictures
    start: Tensor  # (N,) of what they began with
    kept: Tensor  # (N,) of the gain, when the pictures are blurred; (0,) of those that began with sharp images


@torch.no_grad()
def is_head(net: nn.Module, images: Tensor, layer: str) -> bool:
    """Whether a layer puts out the logits themselves."""
    activations, logits = capture(net, images[:2], [layer])[layer], net(images[:2])
    return activations.shape == logits.shape and torch.equal(activations, logits)


def draw(
    net: nn.Module, images: Tensor, size: tuple[int, int], recipe: Recipe, asked: Asked, wanted: list[Wanted]
) -> Drawn:
    """All pictures at `size` (H, W), of data like the probe `images` (B, C, h, w)."""
    shown = None
    if asked.accentuate:
        nearest = images[torch.cat([of_layer.nearest for of_layer in wanted])]
        shown = nn.functional.interpolate(nearest, size, mode="bilinear", antialias=True)
    count = sum(len(of_layer.channels) for of_layer in wanted)
    canvas = recipe.begin(images, (count, images.shape[1], *size), shown)
    parts = [(recipe.penalised(asked.of(of_layer)), len(of_layer.channels)) for of_layer in wanted]
    rendered = render(net, canvas, parts, reference=shown, **recipe.options(size))
    plain = [(of_layer.plain(asked.objective), len(of_layer.channels)) for of_layer in wanted]
    values, start = (evaluate(net, pictures, plain) for pictures in (rendered.images, canvas().detach()))
    left = torch.zeros(0) if asked.accentuate else kept(net, rendered.images, plain, start)
    return Drawn(rendered, values, start, left)


def grids(
    net: nn.Module, images: Tensor, gridded: list[int], layer: str, size: tuple[int, int], recipe: Recipe
) -> Tensor:
    """Activation grids (G, C, h, w) of the `gridded` of `images` (B, C, H, W), at most WIDEST pixels wide and high."""
    matrix = colours(images, recipe.colour)
    cells = activation_grid(net, images[gridded], layer, size=size, colour=matrix, **recipe.options(size))
    pictures = mosaic(cells.cells, cells.norms)
    scale = min(1.0, WIDEST / max(pictures.shape[-2:]))
    small = [round(scale * side) for side in pictures.shape[-2:]]
    return nn.functional.interpolate(pictures, small, mode="bilinear", antialias=True) if scale < 1 else pictures
