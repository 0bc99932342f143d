"""What in an image's activations matters to a class or to a later layer: the weights of attribution caricatures."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from interp.attribution.tail import SmoothMaxPool
from interp.errors import UserError
from interp.network.layers import find_layer, forward_to, layouts
from interp.network.modules import frozen, replaced
from interp.network.positions import Layout

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
        at = layouts(net, images, [*names, target] if isinstance(target, str) else names)
        weights: Tensor | None = None
        for name, later in reversed(list(zip(names, [*names[1:], target], strict=True))):
            weights = _step(net, images, at, name, later, weights)
        assert weights is not None
        return weights


Layouts = Mapping[str, Layout | None]


def _step(net: nn.Module, images: Tensor, at: Layouts, name: str, later: Target, weights: Tensor | None) -> Tensor:
    """Attribution at `name` to `later`, whose activations are weighted by `weights` if there are any."""
    leaves: list[Tensor] = []

    def cut(output: Tensor) -> Tensor:
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[-1].clone()  # a later ReLU(inplace=True) may not write to a leaf

    with replaced(net, name, cut):
        reached = _target(net, images, at, name if later is None else later, weights)
    (gradient,) = torch.autograd.grad(reached, leaves[:1], allow_unused=True) if reached.requires_grad else (None,)
    if gradient is None:
        raise UserError(f"what comes out of layer {name!r} does not reach {later!r}: name layers from early to late")
    if (here := at[name]) is None:
        raise UserError(f"layer {name!r} puts out {tuple(gradient.shape)}, which has no grid of positions")
    weights = here.grid(leaves[0].detach() * gradient).float()
    most = weights.amax(dim=(1, 2, 3), keepdim=True)
    most = torch.where(most > 0, most, weights.abs().amax(dim=(1, 2, 3), keepdim=True))  # nothing speaks for it
    return weights / torch.where(most > 0, most, 1.0)


def _target(net: nn.Module, images: Tensor, at: Layouts, target: Tensor | str, weights: Tensor | None) -> Tensor:
    if isinstance(target, Tensor):
        return net(images).gather(1, target[:, None].to(images.device)).sum()
    output = forward_to(net, images, {target: find_layer(net, target)})[target]
    here = at[target]
    activations = here.grid(output) if here else output
    return (activations * (activations if weights is None else weights)).sum()
