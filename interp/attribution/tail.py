"""The rest of a network after a layer, from that layer's activations to the logits."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.layers import Layer, capture, find_layer


class Tail:
    """The rest of `net` after `layer`, for some images: a function of the layer's activations.

    Class and register tokens keep the values that they have for the images. Before the layer the network runs too,
    but no gradient passes there.
    """

    def __init__(self, net: nn.Module, images: Tensor, layer: Layer) -> None:
        self.net, self.images, self.layer = net, images.detach(), layer
        output = capture(net, images, [layer.name], len(images))[layer.name]
        self.activations = layer.layout.grid(output)  # (B, C, h, w)
        self._rest = output - layer.layout.output(self.activations)  # class and register tokens

    def __call__(self, activations: Tensor) -> Tensor:
        """Logits (B, J) where the layer puts out `activations` (B, C, h, w)."""
        output = self._rest + self.layer.layout.output(activations)  # a new tensor: what follows may write into it
        handle = find_layer(self.net, self.layer.name).register_forward_hook(lambda *_: output)
        try:
            return self.net(self.images)
        finally:
            handle.remove()

    def push(self, tangents: Tensor, smooth: bool = False) -> Tensor:
        """How the logits change, to first order, with `tangents` (T, B, C, h, w) of the activations: (T, B, J).

        T Jacobian-vector products in one batch. `smooth`: see `smooth_max_pool`.
        """

        def one(tangent: Tensor) -> Tensor:
            with _smoothing(smooth):
                return torch.func.jvp(self, (self.activations,), (tangent,))[1]

        with _forward_mode():
            return torch.vmap(one)(tangents)

    def pull(self, classes: Tensor, smooth: bool = False) -> Tensor:
        """Gradients (T, B, C, h, w) of the logits of T `classes`, (T,) or one an image (T, B), at the activations."""
        classes = classes[:, None] if classes.ndim == 1 else classes
        with torch.enable_grad(), _smoothing(smooth):
            leaf = self.activations.detach().requires_grad_()
            logits = self(leaf)
            cotangents = nn.functional.one_hot(classes.expand(-1, len(logits)), logits.shape[1]).to(logits)
            return torch.autograd.grad(logits, leaf, cotangents, is_grads_batched=True)[0]


@contextmanager
def _forward_mode() -> Iterator[None]:
    """Attention as plain products, whose fused kernels have no forward mode; silence about torch's own old code."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), warnings.catch_warnings():
            for message in ("`torch.jit.script` is deprecated", "There is a performance drop because we have not yet"):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _smoothing(smooth: bool) -> Iterator[None]:
    if not smooth:
        yield
        return
    with SmoothMaxPool():
        yield


class SmoothMaxPool(TorchFunctionMode):
    """Within it, every max pooling has the smooth gradient of `smooth_max_pool`."""

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Tensor:
        result = func(*args, **(kwargs or {}))
        is_pooling = isinstance(result, Tensor) and func in (torch.max_pool2d, nn.functional.max_pool2d)
        return smooth_max_pool(result, *args, **(kwargs or {})) if is_pooling else result


def smooth_max_pool(
    pooled: Tensor, input: Tensor, kernel_size, stride=None, padding=0, dilation=1, ceil_mode: bool = False, **_
) -> Tensor:
    """`pooled`, the max pooling of `input`, with the gradient of avgpool(x^2) / (0.01 + avgpool(|x|)) instead.

    Lucid's MaxSmoothPoolGrad: spares the grid of noise that the winner-takes-all gradient makes. Its authors: be very
    careful, it hides behaviour of the model; so label the picture. Dilated pooling is left as it is.
    """
    if dilation not in (1, (1, 1), [1, 1]):
        return pooled

    def average(x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)

    soft = average(input.square()) / (0.01 + average(input.abs()))
    return soft + (pooled - soft).detach()
