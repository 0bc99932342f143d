"""Batch norm folded into the convolution before it, within a `with`: fewer passes over the activations."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from interp.network.layers import forward_to

_TOLERANCE = 1e-3  # of the largest activation


@contextmanager
def folded(net: nn.Module, images: Tensor, watched: dict[str, nn.Module]) -> Iterator[int]:
    """Fold what can be folded in `net` (in eval mode) without changing the `watched` layers; yields how many pairs.

    `images` (B, C, H, W) are run to find the pairs and to check that every watched layer puts out the same. Weights and
    modules are the same objects with the same values afterwards.
    """

    with ExitStack() as stack:
        with torch.no_grad():
            before = forward_to(net, images, watched)
            pairs = _pairs(net, images, watched)
            for convolution, norm in pairs:
                _fold(convolution, norm, stack)
            after = forward_to(net, images, watched)
        if not all(_close(before[name], after[name]) for name in before):  # a convolution feeds something else as well
            stack.close()
            pairs = []
        yield len(pairs)


def _pairs(net: nn.Module, images: Tensor, watched: dict[str, nn.Module]) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions that run once and whose output is the input of a batch norm in eval mode that runs once."""

    outputs: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensor is kept so that its id stays its own
    calls: list[nn.Module] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def enter(module: nn.Module, inputs: tuple) -> None:
        calls.append(module)
        source = outputs.get(id(inputs[0]), (None,))[0] if inputs else None
        if isinstance(module, nn.BatchNorm2d) and isinstance(source, nn.Conv2d) and _foldable(source, module):
            pairs.append((source, module))

    def leave(module: nn.Module, _inputs: tuple, output: object) -> None:
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            outputs[id(output)] = module, output

    with ExitStack() as stack:
        for module in net.modules():
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        forward_to(net, images, watched)
    return [p for p in pairs if all(calls.count(m) == 1 for m in p) and p[0] not in watched.values()]


def _foldable(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    plain = "weight" in convolution._parameters  # not computed from others, as in weight norm
    return plain and norm.running_mean is not None and not norm.training


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d, stack: ExitStack) -> None:
    """Give `convolution` the folded weights and let `norm` pass its input on, until `stack` closes."""
    assert norm.running_mean is not None and norm.running_var is not None  # as _foldable says
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    for name, value in (("weight", weight), ("bias", bias)):
        stack.callback(convolution._parameters.__setitem__, name, convolution._parameters[name])
        convolution._parameters[name] = nn.Parameter(value.detach(), requires_grad=False)
    stack.callback(vars(norm).pop, "forward")
    vars(norm)["forward"] = partial(_after, norm)


def _after(norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    """What timm's BatchNormAct2d does after normalising; nothing in torch's own."""
    for name in ("drop", "act"):
        image = getattr(norm, name, nn.Identity())(image)
    return image


def _close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= _TOLERANCE * first.abs().max())
