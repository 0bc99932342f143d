"""The rest of a network after a layer, from that layer's activations to the logits."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.network.layers import Layer, capture
from interp.network.modules import replaced
from interp.network.replica import HALF, precise


class Tail:
    """The rest of `net` after `layer`, for some images: a function of the layer's activations, in float32.

    Class and register tokens keep the values that they have for the images. Before the layer the network runs too,
    but no gradient passes there. Of a network in half precision the rest is `rest` (what `precise` gives, made here
    where it is not given), or runs in half precision itself where it cannot do otherwise.
    """

    def __init__(self, net: nn.Module, images: Tensor, layer: Layer, rest: nn.Module | None = None) -> None:
        self.net, self.images, self.layer = rest or precise(net, images[:1])[0], images.detach(), layer
        output = capture(net, images, [layer.name], len(images))[layer.name]
        output = output.float() if output.dtype in HALF else output
        self.activations = layer.layout.grid(output)  # (B, C, h, w)
        self._rest = output - layer.layout.output(self.activations)  # class and register tokens

    def __call__(self, activations: Tensor) -> Tensor:
        """Logits (B, J) where the layer puts out `activations` (B, C, h, w)."""
        output = self._rest + self.layer.layout.output(activations)  # a new tensor: what follows may write into it
        with replaced(self.net, self.layer.name, lambda own: output.to(own.dtype)):
            logits = self.net(self.images)
        return logits.float() if logits.dtype in HALF else logits

    def push(self, tangents: Tensor, smooth: bool = False) -> Tensor:
        """How the logits change, to first order, with `tangents` (T, B, C, h, w) of the activations: (T, B, J).

        T Jacobian-vector products in one batch, or from backward products where something in the network has no forward
        derivative (functions of one's own, LSTMs). `smooth`: see `smooth_max_pool`.
        """

        def one(tangent: Tensor) -> Tensor:
            with _smoothing(smooth):
                return torch.func.jvp(self, (self.activations,), (tangent,))[1]

        tangents = tangents.to(self.activations)
        with _products():
            return _or_else(lambda: torch.vmap(one)(tangents), lambda: self._pushed_backwards(tangents, smooth))

    def _pushed_backwards(self, tangents: Tensor, smooth: bool) -> Tensor:
        """The same by the gradients of all classes, as many of them at once as there are tangents."""
        with torch.no_grad():
            classes = torch.arange(self(self.activations).shape[1], device=tangents.device)
        gradients = (self.pull(some, smooth) for some in classes.split(max(1, len(tangents))))
        return torch.cat([torch.einsum("tbchw,jbchw->tbj", tangents, gradient) for gradient in gradients], dim=2)

    def pull(self, classes: Tensor, smooth: bool = False) -> Tensor:
        """Gradients (T, B, C, h, w) of the logits of T `classes`, (T,) or one an image (T, B), at the activations.

        Raises ValueError where none reaches the layer.
        """
        classes = classes[:, None] if classes.ndim == 1 else classes
        with torch.enable_grad(), _products(), _smoothing(smooth):
            leaf = self.activations.detach().requires_grad_()
            logits = self(leaf)
            cotangents = nn.functional.one_hot(classes.expand(-1, len(logits)), logits.shape[1]).to(logits)

            def gradients(of: Tensor, **options: Any) -> Tensor:
                (found,) = torch.autograd.grad(logits, leaf, of, retain_graph=True, allow_unused=True, **options)
                if found is None:
                    raise ValueError(f"no gradient of the logits reaches layer {self.layer.name!r}")
                return found

            if not logits.requires_grad:
                raise ValueError(f"no gradient of the logits reaches layer {self.layer.name!r}")
            return _or_else(
                lambda: gradients(cotangents, is_grads_batched=True),
                lambda: torch.stack([gradients(cotangent) for cotangent in cotangents]),
            )


def _or_else(batched: Callable[[], Tensor], one_by_one: Callable[[], Tensor]) -> Tensor:
    """What `batched` returns, or where torch has no such derivative of something in the network, the other."""
    try:
        return batched()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # of many words: no forward derivative, no rule for a batch, writing in place, ...
        pass  # and leave the handler, which would keep what the first way has in memory
    return one_by_one()


@contextmanager
def _products() -> Iterator[None]:
    """Attention as plain products, whose fused kernels have no forward mode; silence about torch's own old code."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), warnings.catch_warnings():
            for message in ("`torch.jit.script` is ", "There is a performance drop because we have not yet"):
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
