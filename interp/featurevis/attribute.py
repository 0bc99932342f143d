"""What in an image's activations matters to a class or to a later layer: the weights of attribution caricatures."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interp.attribution.tail import SmoothMaxPool
from interp.errors import UserError
from interp.featurevis.gradients import frozen
from interp.layers import find_layer, forward_to, unwrap
from interp.positions import layout

Target = Tensor | str | None


def attribution(net: nn.Module, images: Tensor, layers: str | Sequence[str], target: Target = None) -> Tensor:
    """Activation times gradient (B, C, h, w) at the first of `layers`, its largest value 1 for each image.

    `images` (B, C, H, W); the gradient is that of the logits of classes `target` (B,) int64, or of the sum of squares
    of the layer called `target`, or of the first layer itself where there is no target. Several layers, from early to
    late, are iterated: at each the target becomes the sum of its activations times the attribution there; Lucid's
    authors are not sure that this is principled. Max pooling has its smooth gradient. Raises UserError where the target
    does not come after the layers.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    with frozen(net), SmoothMaxPool():
        weights: Tensor | None = None
        for name, later in reversed(list(zip(names, [*names[1:], target], strict=True))):
            weights = _step(net, images, name, later, weights)
        assert weights is not None
        return weights


def _step(net: nn.Module, images: Tensor, name: str, later: Target, weights: Tensor | None) -> Tensor:
    """Attribution at `name` to `later`, whose activations are weighted by `weights` if there are any."""
    layer, leaves = find_layer(net, name), []

    def cut(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[-1].clone()  # a later ReLU(inplace=True) may not write to a leaf

    handle = layer.register_forward_hook(cut)
    try:
        reached = _target(net, images, name if later is None else later, weights)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(reached, leaves[:1], allow_unused=True) if reached.requires_grad else (None,)
    if gradient is None:
        raise UserError(f"what comes out of layer {name!r} does not reach {later!r}: name layers from early to late")
    at = layout(tuple(gradient.shape), unwrap(net))
    if at is None:
        raise UserError(f"layer {name!r} puts out {tuple(gradient.shape)}, which has no grid of positions")
    weights = at.grid(leaves[0].detach() * gradient)
    return (weights / weights.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)).float()


def _target(net: nn.Module, images: Tensor, target: Tensor | str, weights: Tensor | None) -> Tensor:
    if isinstance(target, Tensor):
        return net(images).gather(1, target[:, None].to(images.device)).sum()
    output = forward_to(net, images, {target: find_layer(net, target)})[target]
    at = layout(tuple(output.shape), unwrap(net))
    activations = at.grid(output) if at else output
    return (activations * (activations if weights is None else weights)).sum()
