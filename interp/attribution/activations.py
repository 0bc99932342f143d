"""Which nonlinear functions a network applies, and whether a method that hooks modules can see them all."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.layers import find_layer, trace
from interp.replica import replica

# Functions that bend: what a rule for gradients through activations must know about.
NONLINEAR = frozenset(
    [
        "relu",
        "relu6",
        "hardtanh",
        "leaky_relu",
        "prelu",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "sigmoid",
        "hardsigmoid",
        "hardswish",
        "tanh",
        "softplus",
        "softmax",
        "softmin",
        "glu",
        "max_pool2d",
        "clamp",
        "maximum",
        "scaled_dot_product_attention",
        "multi_head_attention_forward",
    ]
)


class _Counting(TorchFunctionMode):
    """Counts the nonlinear functions called within it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Tensor:
        name = getattr(func, "__name__", "").removesuffix("_")
        self.calls[name] += name in NONLINEAR
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def unseen(
    net: nn.Module, images: Tensor, kinds: tuple[type[nn.Module], ...], among: frozenset[str] = NONLINEAR
) -> str:
    """Why a method that hooks modules of these `kinds` misses some of the functions `among` in a pass of `images`.

    '' where each such function runs inside such a module.
    """
    runs: Counter[nn.Module] = Counter()
    chosen = [module for module in net.modules() if isinstance(module, kinds)]
    handles = [module.register_forward_hook(lambda module, *_: runs.update([module])) for module in chosen]
    try:
        with _Counting() as counting:
            net(images)
    finally:
        for handle in handles:
            handle.remove()
    calls = {name: count for name, count in counting.calls.items() if count and name in among}
    if not runs:
        return f"no {kinds[0].__name__} layer runs"
    other = sum(calls.values()) - runs.total()
    said = ", ".join(f"{count} x {name}" for name, count in calls.items())
    return f"{other} of its activations ({said}) are not layers that it knows" if other else ""


@torch.no_grad()
def used_twice(net: nn.Module, images: Tensor) -> str:
    """The name of a module without parts that runs more than once in a pass of `images`, '' where none does."""
    found = [name for name, output in trace(net, images).items() if output.calls > 1]
    return next((name for name in found if not any(find_layer(net, name).children())), "")


def hookable(net: nn.Module) -> nn.Module:
    """A copy of `net` whose activations write nothing in place: hooks on it cannot disturb the network itself."""
    copy = replica(net)
    for module in copy.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return copy
