"""Which nonlinear functions a network applies, and whether a method that hooks modules can see them all."""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.network.replica import replica

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
    unknown_calls = ", ".join(f"{count} x {name}" for name, count in calls.items())
    return f"{other} of its activations ({unknown_calls}) are not layers that it knows" if other else ""


def hookable(net: nn.Module) -> nn.Module:
    """A copy of `net` whose activations write nothing in place: hooks on it cannot disturb the network itself."""
    copy = replica(net)
    for module in copy.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return copy


# The layers that captum's DeepLIFT knows by the functions that they call, with the functions' other arguments.
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda inplace=False: nn.ReLU(),
    "leaky_relu": lambda negative_slope=0.01, inplace=False: nn.LeakyReLU(negative_slope),
    "elu": lambda alpha=1.0, inplace=False: nn.ELU(alpha),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": lambda beta=1.0, threshold=20.0: nn.Softplus(beta, threshold),
    "softmax": lambda dim=None, _stacklevel=3, dtype=None: nn.Softmax(dim),
    "max_pool2d": lambda kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False: (
        nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    ),
}
_KINDS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax, nn.MaxPool2d)


class Separate(nn.Module):
    """A copy of a network in which each call of the `functions` is a layer of its own, as methods with hooks want it.

    They see neither functions that no layer calls nor more than one call of a layer (torchvision's ResNets). ReLU6 is
    made of two ReLUs: relu(x) - relu(x - 6), or where `clamped` of one and a limit.
    """

    def __init__(self, net: nn.Module, images: Tensor, functions: Collection[str], clamped: bool = False) -> None:
        super().__init__()
        self.net, self.functions, self.clamped = hookable(net), frozenset(functions), clamped
        for module in self.net.modules():
            if type(module) in _KINDS:  # no longer one of the types that hooks are put on
                module.__class__ = type(type(module).__name__, (nn.Module,), {"forward": type(module).forward})
        self.calls = nn.ModuleList()
        with torch.no_grad(), _Separating(self.calls, self, new=True):
            self.net(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, J); raises ValueError where the network calls another number of activations than at first."""
        with _Separating(self.calls, self):
            return self.net(images)


class _Separating(TorchFunctionMode):
    """Within it each call of a function goes to the next of the layers."""

    def __init__(self, calls: nn.ModuleList, of: Separate, new: bool = False) -> None:
        super().__init__()
        self.calls, self.of, self.new, self.at = calls, of, new, 0

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Tensor:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        bare = name.removesuffix("_")
        bounds = _bounds(bare, args, kwargs)
        if bounds and self.of.clamped and bounds[0] != 0:  # no ReLU
            bounds = None
        if not (bounds or bare in self.of.functions):
            return func(*args, **kwargs)
        image, rest = (args[0], args[1:]) if args else (kwargs["input"], ())
        named = {key: value for key, value in kwargs.items() if key != "input"}
        in_place = name.endswith("_") or named.get("inplace") or (bare in ("relu", "relu6") and True in rest)
        given = image.clone() if in_place else image  # hooks on it must not be those of what is written there
        result = self._limited(given, *bounds) if bounds else self._next(LAYERS[bare](*rest, **named), given)
        if in_place:
            image.copy_(result)
        return result

    def _next(self, layer: nn.Module, image: Tensor) -> Tensor:
        if self.new:
            self.calls.append(layer)
        if self.at == len(self.calls):
            raise ValueError("the network calls other activations for other images")
        self.at += 1
        return self.calls[self.at - 1](image)

    def _limited(self, image: Tensor, low: float, high: float) -> Tensor:
        lower = self._next(nn.ReLU(), image - low) + low
        return lower.clamp(max=high) if self.of.clamped else lower - self._next(nn.ReLU(), image - high)


def _bounds(name: str, args: tuple, kwargs: dict[str, Any]) -> tuple[float, float] | None:
    """Between what a call of ReLU6 or hardtanh keeps its values, None for other functions."""
    given = dict(zip(("min_val", "max_val"), args[1:3], strict=False)) | kwargs
    by_name = {"relu6": (0.0, 6.0), "hardtanh": (given.get("min_val", -1.0), given.get("max_val", 1.0))}
    return by_name.get(name)
