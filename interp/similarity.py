"""How alike layers see the same images, in one network, over epochs or across networks."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from interp.layers import Layer, capture
from interp.share import handed_in

SIDE = 8  # positions across and down that a layer's grid is averaged to, at most


def centred_gram(features: Tensor) -> Tensor:
    """Inner products (N, N) float64 of features (N, ...) centred over the N images, scaled to Frobenius norm 1.

    Of features that are the same for all images: zeros.
    """
    flat = features.flatten(1).double()
    flat = flat - flat.mean(dim=0)
    gram = flat @ flat.T
    length = gram.norm()
    return gram / length if length > 1e-12 * features.numel() else torch.zeros_like(gram)


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Linear centred kernel alignment (L, M) in [0, 1] of centred Gram matrices (L, N, N) and (M, N, N) of norm 1.

    Kornblith et al. 2019, Similarity of neural network representations revisited. 1: the same up to rotation and
    scale. With fewer images than features it is biased upwards.
    """
    return (first.flatten(1) @ second.flatten(1).T).clamp(0, 1)


def coarse(activations: Tensor) -> Tensor:
    """Activations (n, C, H, W) averaged over blocks of positions to at most 8 x 8: memory stays small, places count."""
    height, width = (min(SIDE, side) for side in activations.shape[-2:])
    return adaptive_avg_pool2d(activations.float(), (height, width))


@torch.no_grad()
def grams(net: nn.Module, images: Iterable[Tensor], layers: Sequence[Layer]) -> Tensor:
    """Centred Gram matrices (L, N, N) float64 of the N images of all batches (n, C, H, W) at each layer.

    Batches that many processes share are put together on the first, which goes on alone.
    """
    seen: list[list[Tensor]] = [[] for _ in layers]
    for batch in images:
        outputs = capture(net, batch, [layer.name for layer in layers], len(batch))
        for parts, layer in zip(seen, layers, strict=True):
            parts.append(coarse(layer.layout.grid(outputs[layer.name])))
    return torch.stack([centred_gram(features) for features in handed_in(*seen)])
