"""How like their images caricatures are in the activations of layers."""

import torch
from torch import Tensor, nn

from interp.confusion import answers
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


@torch.no_grad()
def recognised(net: nn.Module, pictures: Tensor, images: Tensor, batch_size: int) -> Tensor:
    """(B, L) 1 where the network's likeliest class of a picture, of `pictures` (B, L, C, H, W), is that of its image.

    -1 where it has none for the image: its logits are NaN or infinite.
    """
    everything = torch.cat([images[:, None], pictures], dim=1)
    logits = torch.cat([net(part) for part in everything.flatten(0, 1).split(batch_size)])
    classes = answers(logits).unflatten(0, everything.shape[:2])
    return (classes[:, 1:] == classes[:, :1]).float().masked_fill(classes[:, :1] < 0, -1)


def moved(pictures: Tensor, start: Tensor) -> Tensor:
    """(B, L) 1 where a picture, of `pictures` (B, L, C, H, W), is another than its `start` (B, C, H, W), else 0.

    By one 255th a number, on average.
    """
    return ((pictures - start[:, None]).abs().flatten(2).mean(dim=2) >= 1 / 255).float()


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
