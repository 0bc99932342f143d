"""Copies of a network with random weights in which the signal keeps its scale: controls for what was learnt.

With PyTorch's own random weights the signal shrinks from layer to layer where batch norms divide by the statistics that
they start with, and where there are none: at MobileNetV2's end images differ by 1e-9. So after the draw some images run
through the copy once, and in the order of execution, each layer reading what those before it now give,

- batch norms take the statistics of what they read,
- linear and convolution layers are centred and scaled: w <- w / s, b <- (b - m) / s, where m (C,) is the mean of their
  outputs by channel and s^2 the mean over channels of their variance, both over images and positions (Mishkin & Matas
  2016, All you need is a good init; Salimans & Kingma 2016, Weight normalization, section 3).

Only layers that were drawn anew are changed.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from interp.network.layers import two_of
from interp.network.modules import frozen
from interp.network.replica import replica
from interp.network.tracing import eager

STAGES = 4  # of the cascade that randomises the weights from the top
IMAGES = 32  # that the scale is measured on, at most
STILL = 1e-3  # of their size: values that differ less between images do not tell them apart


def cascade(net: nn.Module, images: Tensor, stages: int = STAGES) -> Iterator[nn.Module]:
    """Copies of `net` whose topmost 1/n, 2/n, ... n/n layers with weights are initialised anew, from the top down.

    The signal of `images` (B, C, H, W) keeps its scale in them, if `tells_apart` does not deny it. Draws from torch's
    global stream. What a layer does not reset itself (its weights under weight norm) is shuffled. It is one copy that
    changes from stage to stage.
    """
    copy = replica(net)
    layers = [module for module in copy.modules() if _is_learnt(module)][::-1]
    sample = some(images)
    for part in torch.arange(len(layers)).tensor_split(min(stages, len(layers))):
        for index in part.tolist():
            _randomise(layers[index])
        _rescale(copy, layers[: int(part[-1]) + 1], sample)
        yield copy


def tells_apart(values: Tensor) -> bool:
    """Whether `values` (B, ...), such as logits, differ between the B images by more than a thousandth of their size.

    >>> tells_apart(torch.tensor([[1.0, 2.0], [1.1, 2.0]])), tells_apart(torch.tensor([[1.0, 2.0], [1.0, 2.0001]]))
    (True, False)
    """
    values = values.float()
    return bool((values - values.mean(dim=0)).abs().amax() > STILL * values.abs().amax())


def some(images: Tensor) -> Tensor:
    """2 to 32 of the images (B, C, H, W), evenly spread, as they come sorted by class; one comes with its negative."""
    images = two_of(images) if len(images) < 2 else images
    return images[torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().long()]


def _is_learnt(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) or _has_statistics(module)


def _has_statistics(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), Tensor) for name in ("running_mean", "running_var"))


@torch.no_grad()
def _randomise(layer: nn.Module) -> None:
    weights = list(layer.parameters(recurse=False))
    before = [weight.clone() for weight in weights]
    if callable(reset := getattr(layer, "reset_parameters", None)):
        reset()
    for weight in [weight for weight, old in zip(weights, before, strict=True) if torch.equal(weight, old)]:
        order = torch.randperm(weight.numel()).to(weight.device)
        weight.copy_(weight.flatten()[order].view_as(weight))


@torch.no_grad()
def _rescale(net: nn.Module, layers: Sequence[nn.Module], images: Tensor) -> None:
    """Bring the statistics and outputs of `layers` to the scale of the images, in the first run of each."""
    done: set[int] = set()  # layers and parameters: some are shared

    def read(norm: nn.Module, inputs: tuple) -> None:
        if id(norm) not in done and inputs:
            done.add(id(norm))
            _take_statistics(norm, inputs[0])

    def written(layer: nn.Module, inputs: tuple, kwargs: dict, output: Tensor) -> Tensor | None:
        if id(layer) in done or not _normalise(layer, output, done):
            return None
        done.add(id(layer))
        return layer(*inputs, **kwargs)

    with ExitStack() as stack:
        for context in (frozen(net), torch.no_grad(), eager(), _module_by_module()):
            stack.enter_context(context)
        for layer in layers:
            if _has_statistics(layer):
                stack.callback(layer.register_forward_pre_hook(read).remove)
            elif isinstance(layer, nn.Linear | _ConvNd):
                stack.callback(layer.register_forward_hook(written, with_kwargs=True).remove)
        net(images)


@contextmanager
def _module_by_module() -> Iterator[None]:
    """Without the fused kernels of nn.TransformerEncoder, which pass its layers' hooks by."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _take_statistics(norm: nn.Module, inputs: Tensor) -> None:
    by_channel, buffers = inputs.float().transpose(0, 1).flatten(1), dict(norm.named_buffers(recurse=False))
    if by_channel.isfinite().all():
        buffers["running_mean"].copy_(by_channel.mean(dim=1))
        buffers["running_var"].copy_(by_channel.var(dim=1, correction=0))


def _normalise(layer: nn.Module, output: Tensor, done: set[int]) -> bool:
    """Centre and scale what the layer puts out; False where that cannot be or its parameters were scaled before."""
    by_channel = output.float().movedim(1 if isinstance(layer, _ConvNd) else -1, 0).flatten(1)
    deviation = by_channel.var(dim=1, correction=0).mean().sqrt()
    rounding = max(1e-6, torch.finfo(output.dtype).eps) * by_channel.abs().amax()
    parameters = {id(parameter) for parameter in layer.parameters()}
    if not rounding < deviation < torch.inf or parameters & done:
        return False
    done |= parameters
    by_name = dict(layer.named_parameters(recurse=False))
    if not _scale_weights(layer, by_name, 1 / deviation):
        return False
    if "bias" in by_name:
        by_name["bias"].sub_(by_channel.mean(dim=1)).div_(deviation)
    return True


def _scale_weights(layer: nn.Module, by_name: dict[str, nn.Parameter], factor: Tensor) -> bool:
    """Multiply the layer's weights; False where its parameters do not set their size, as under spectral norm."""
    if parametrize.is_parametrized(layer, "weight"):
        before, wanted = deepcopy(layer.state_dict()), cast(Tensor, layer.weight) * factor
        layer.weight = wanted
        scaled = torch.allclose(layer.weight, wanted, rtol=0.01)
        if not scaled:
            layer.load_state_dict(before)
        return scaled
    scalable = by_name.keys() & {"weight", "weight_g"}  # the latter of the older weight norm
    for name in scalable:
        by_name[name].mul_(factor)
    return bool(scalable)
