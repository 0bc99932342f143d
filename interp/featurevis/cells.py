"""Activation grids: every position of a layer drawn as what its activation vector looks for (Olah et al. 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.featurevis.canvas import Fft
from interp.featurevis.objectives import direction
from interp.featurevis.render import render
from interp.featurevis.transforms import warp
from interp.network.layers import Layer
from interp.vectors import directions


@dataclass(frozen=True)
class ActivationGrid:
    """What a layer sees where, in each image."""

    cells: Tensor  # (B, h, w, C, H, W) in [0, 1], not scaled
    norms: Tensor  # (B, h, w) length of the activation vectors
    values: Tensor  # (B, h, w) the objective of each cell
    start: Tensor  # (B, h, w) the same before the first step
    rows: Tensor  # (h,) int64, the positions of the layer that are drawn
    columns: Tensor  # (w,) int64


def activation_grid(
    net: nn.Module,
    images: Tensor,
    layer: str,
    *,
    positions: int = 8,
    size: tuple[int, int] | None = None,
    power: float = 1,
    colour: Tensor | None = None,
    seed: int = 0,
    **options,
) -> ActivationGrid:
    """Cells of `size` for the positions of `layer` in each of `images` (B, C, H, W), all in one render.

    Of a grid with more than `positions` rows or columns so many are drawn, evenly spread. Each cell maximises
    <a, v> * cos^power, v the position's activation vector at length 1, the mean over the cell's own positions. `size`
    defaults to that of the images; `options` go to `render`. Raises UserError for a layer without positions.
    """
    if positions < 1:
        raise UserError(f"positions={positions}: at least 1 row and column must be drawn")
    activations = Layer.named(net, images, layer, vectors=False).activations(net, images)
    rows, columns = (_spread(count, positions) for count in activations.shape[2:])
    vectors = activations[:, :, rows][:, :, :, columns].movedim(1, -1)
    shape = (vectors[..., 0].numel(), images.shape[1], *(size or images.shape[2:]))
    canvas = Fft.noise(shape, colour=colour, seed=seed, device=images.device)
    objective = direction(layer, directions(vectors.flatten(0, 2)), power)
    rendered = render(net, canvas, objective, seed=seed, **options)
    cells, values, start = (
        tensor.unflatten(0, vectors.shape[:3]) for tensor in (rendered.images, rendered.values, rendered.start)
    )
    return ActivationGrid(cells, vectors.norm(dim=-1), values, start, rows, columns)


def mosaic(cells: Tensor, norms: Tensor, paper: float = 1.0) -> Tensor:
    """Pictures (B, C, h*H, w*W) of cells (B, h, w, C, H, W) whose areas are proportional to norms (B, h, w).

    The largest norm of each image fills its cell; around smaller ones there is `paper`.
    """
    largest = norms.amax(dim=(1, 2), keepdim=True)
    side = (norms / torch.where(largest > 0, largest, 1.0)).sqrt().clamp_min(1e-3).flatten()
    maps = torch.zeros(len(side), 2, 3, device=cells.device)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / side
    small = warp(cells.flatten(0, 2) - paper, maps, (cells.shape[-2], cells.shape[-1])) + paper
    rows = small.unflatten(0, cells.shape[:3]).permute(0, 3, 1, 4, 2, 5)
    return rows.flatten(4, 5).flatten(2, 3)


def _spread(count: int, most: int) -> Tensor:
    """(min(count, most),) int64 indices, evenly spread: the middles of as many equal parts."""
    chosen = min(count, most)
    return ((torch.arange(chosen) + 0.5) * count / chosen).long()
