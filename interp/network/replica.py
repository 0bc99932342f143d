"""Copies of a network, for studies that must change it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HALF = (torch.float16, torch.bfloat16)


class _Detaching(TorchFunctionMode):
    """Within it tensors that carry a graph can be copied: without the graph."""

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


def replica(net: nn.Module) -> nn.Module:
    """A copy of `net` that shares nothing with it.

    Also where `copy.deepcopy` refuses because modules hold tensors with a graph: the `weight` of the old weight and
    spectral norm, biases that are kept for the next pass.
    """
    with _Detaching():
        return deepcopy(net)


def precise(net: nn.Module, image: Tensor) -> tuple[nn.Module, str]:
    """`net` for numbers in float32, and what to say of it: itself, or where it is in half precision a float32 copy.

    Where the copy cannot run `image` (1, C, H, W), `net` itself.
    """
    kinds = {tensor.dtype for tensor in (*net.parameters(), *net.buffers())} & {*HALF}
    if not kinds:
        return net, ""
    precision = " and ".join(str(kind).removeprefix("torch.") for kind in kinds)
    try:
        copy = replica(net).float()
        with torch.no_grad():
            copy(image)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a network of somebody else raises in a precision that it was not made for
        return net, f" (effects in the network's {precision}, coarse: it does not run in float32: {error})"
    return copy, f" (network in {precision}, effects in float32)"
