"""Numbers to colours: float32 (..., 3, H, W) in [0, 1]."""

import colorsys

import torch
from torch import Tensor

GREY = (150, 150, 158)  # of what has no class


def rgb(images: Tensor) -> Tensor:
    """Images (B, C, H, W), any numbers, as red, green and blue (B, 3, H, W): what is shown of any count of channels.

    One channel is grey; of two the first is red, the second blue and their mean green, so that the first alone is
    orange, the second alone sky blue and both alike are grey; of more than three the first three are shown.
    """
    if images.shape[1] == 2:
        first, second = images[:, :1], images[:, 1:]
        return torch.cat([first, images.float().mean(dim=1, keepdim=True).to(images.dtype), second], dim=1)
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]


def stepped(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] at the nearest of the 256 steps in which they are drawn: a quarter of the bytes on disk."""
    return (pictures.clamp(0, 1) * 255).round() / 255


def hues(count: int) -> Tensor:
    """`count` bright colours (count, 3), evenly spaced round the colour wheel, always the same for the same count."""
    return torch.tensor([colorsys.hsv_to_rgb(k / count, 0.85, 1.0) for k in range(count)])


def class_colours(labels: Tensor, classes: int) -> Tensor:
    """A colour (N, 3) in [0, 1] for labels (N,) of `classes` classes, dark enough for white paper; grey for -1.

    Every other hue is darker. Of more than 20 classes neighbouring ones look alike all the same.
    """
    darker = torch.tensor([0.9, 0.62]).repeat(classes)[:classes, None]
    palette = torch.cat([hues(classes) * darker, torch.tensor([GREY]) / 255])
    return palette[labels]


def heat(maps: Tensor, colour: Tensor) -> Tensor:
    """Maps (..., H, W) in [0, 1] as black to `colour` (3,) or (..., 3)."""
    return maps.unsqueeze(-3) * colour[..., :, None, None]


def divergent(maps: Tensor) -> Tensor:
    """Maps (..., H, W) in [-1, 1] as blue for negative, black for zero, orange for positive."""
    orange, blue = torch.tensor([1.0, 0.6, 0.15]), torch.tensor([0.2, 0.55, 1.0])
    return heat(maps.clamp(0, 1), orange) + heat((-maps).clamp(0, 1), blue)


def dim(images: Tensor, strength: float = 0.45) -> Tensor:
    """Images (B, 3, H, W) as a grey backdrop on which colours stand out."""
    return (images.mean(dim=1, keepdim=True) * strength).expand(-1, 3, -1, -1)


def overlay(backdrop: Tensor, maps: Tensor, colours: Tensor) -> Tensor:
    """Lay maps (B, K, H, W) in [0, 1], each in its own colour (K, 3), over a backdrop (B, 3, H, W).

    Where maps meet, the brighter value of each of red, green and blue wins (mix mode 'lighten', as in Lucid).
    """
    light = heat(maps, colours).amax(dim=1)
    opacity = maps.amax(dim=1, keepdim=True)
    return (backdrop * (1 - opacity) + light).clamp(0, 1)
