"""The parts of images where something is strongest."""

import torch
from torch import Tensor


def crops(images: Tensor, maps: Tensor, count: int = 1, share: float | None = None) -> Tensor:
    """The `count` strongest crops (K, count, C, s, s) of `images` (B, C, H, W) for each of the maps (B, K, h, w).

    Each crop comes from another image (the same again where there are fewer), centred on the position where the map is
    highest and moved inside the image. Its side is `share` of the image's shorter one; by default three positions of
    the map, and at least a quarter.
    """
    count_images, height, width = len(images), *images.shape[2:]
    if share is None:
        share = min(1.0, max(0.25, 3 / min(maps.shape[2:])))
    side = max(1, round(share * min(height, width)))
    peaks, places = maps.flatten(2).max(dim=2)  # (B, K)
    chosen = peaks.argsort(dim=0, descending=True, stable=True)[torch.arange(count) % count_images].T  # (K, count)
    place = places.gather(0, chosen.T).T
    rows = _span((place // maps.shape[3] + 0.5) * height / maps.shape[2], side, height)
    columns = _span((place % maps.shape[3] + 0.5) * width / maps.shape[3], side, width)
    crops_of_maps = images.permute(0, 2, 3, 1)[chosen[..., None, None], rows[..., :, None], columns[..., None, :]]
    return crops_of_maps.permute(0, 1, 4, 2, 3)


def _span(centre: Tensor, side: int, size: int) -> Tensor:
    """The `side` pixels (..., side) about `centre` (...), inside 0 to `size` - 1."""
    first = (centre - side / 2).round().clamp(0, size - side).long()
    return first[..., None] + torch.arange(side, device=centre.device)
