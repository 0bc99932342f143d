"""Other gradients for ReLU and max pooling, within a `with` and without a hook on the network."""

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import hardtanh, relu, relu6
from torch.overrides import TorchFunctionMode

_RELUS: set[Callable] = {relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class RedirectedRelu(TorchFunctionMode):
    """Lucid's redirected gradient of every ReLU, ReLU6 and hardtanh: images that start in a dead region get going.

    Where the whole gradient through one would be zero for an image, it passes at inputs outside of the range unless it
    pushes them further out. Values are as ever. `useful` becomes True in a backward pass that needed it.
    """

    useful = True

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        bounds = _bounds(func, args, kwargs)
        if bounds is None or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        image = args[0] if args else kwargs["input"]
        output = _Redirected.apply(image, *bounds, self)
        in_place = func.__name__.endswith("_") or any(value is True for value in (*args[1:], *kwargs.values()))
        return image.copy_(output) if in_place else output


def _bounds(func: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[float, float] | None:
    if func in _RELUS:
        return 0.0, inf
    if func is relu6:
        return 0.0, 6.0
    if func is hardtanh:
        given = dict(zip(("min_val", "max_val"), args[1:3], strict=False)) | kwargs
        return given.get("min_val", -1.0), given.get("max_val", 1.0)
    return None


class _Redirected(torch.autograd.Function):
    """Clamping whose gradient (of a loss that falls) is redirected where all of an image's would be lost."""

    @staticmethod
    def forward(ctx, inputs: Tensor, low: float, high: float, mode: RedirectedRelu) -> Tensor:
        output = inputs.clamp(low, high)
        ctx.save_for_backward(output if high == inf else output.clone())  # only ReLU forbids writing to its output
        ctx.bounds, ctx.mode = (low, high), mode
        return output

    @staticmethod
    def backward(ctx, grad: Tensor):
        (output,), (low, high) = ctx.saved_tensors, ctx.bounds
        usual = torch.ops.aten.hardtanh_backward(grad, output, low, high)
        alive = torch.linalg.vector_norm(usual, inf, dim=tuple(range(1, grad.ndim)), keepdim=True) > 0
        if alive.all():
            return usual, None, None, None
        ctx.mode.useful = True
        outwards = ((output <= low) & (grad > 0)) | ((output >= high) & (grad < 0))
        return torch.where(alive, usual, grad.masked_fill(outwards, 0)), None, None, None
