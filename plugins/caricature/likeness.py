"""How like their images caricatures are in the activations of layers."""

import torch
from torch import Tensor, nn

from interp.network.layers import Layer
from interp.vectors import cosine, directions


def identified(
    net: nn.Module, pictures: Tensor, images: Tensor, labels: Tensor, layers: list[Layer], batch_size: int
) -> Tensor:
    """(B, L) 1 where no image of another class comes nearer to the picture's activations than its own image.

    Of `pictures` (B, L, C, H, W) of `images` (B, C, H, W) with `labels` (B,); -1 where there is no such image.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    other = (labels[:, None] != labels[None]) | ((labels < 0)[:, None] & ~itself)  # unknown classes may differ
    columns = []
    for index, layer in enumerate(layers):
        of_pictures, of_images = _activations(net, layer, pictures[:, index], images, batch_size)
        alike = directions(of_pictures) @ directions(of_images).T
        nearest_other = alike.masked_fill(~other, -2).amax(dim=1)
        columns.append((alike.diagonal() > nearest_other).float().masked_fill(~other.any(dim=1), -1))
    return torch.stack(columns, dim=1)


def cosines(net: nn.Module, pictures: Tensor, images: Tensor, layers: list[Layer], batch_size: int) -> Tensor:
    """(B, L) between the activations of `pictures` (B, L, C, H, W) and of their `images` (B, C, H, W)."""
    columns = [
        cosine(*_activations(net, layer, pictures[:, index], images, batch_size)) for index, layer in enumerate(layers)
    ]
    return torch.stack(columns, dim=1)


def _activations(
    net: nn.Module, layer: Layer, pictures: Tensor, images: Tensor, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Those of `pictures` and of `images` at the layer, each flat (B, n)."""
    return (
        layer.activations(net, pictures, batch_size).flatten(1),
        layer.activations(net, images, batch_size).flatten(1),
    )
