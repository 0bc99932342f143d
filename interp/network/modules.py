"""The modules of a network by the names that a user writes, and hooks on what they put out."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from interp.errors import unknown


class Normalized(nn.Module):
    """A network that takes images in [0, 1] and normalises them itself.

    `mean` and `std` have one value a channel of `body`'s input; one-channel images are repeated where `body` wants
    more. Images are cast to the precision of `body`.
    """

    body: nn.Module
    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, mean: Iterable[float], std: Iterable[float]) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, J) of images (B, C, H, W) in [0, 1]."""
        return self.body((images.to(self.mean.dtype) - self.mean) / self.std)


def layers(net: nn.Module) -> dict[str, nn.Module]:
    """All layers of `net` by the names that a user writes: those of the network inside any wrapper."""
    return {name: module for name, module in unwrap(net).named_modules() if name}


def unwrap(net: nn.Module) -> nn.Module:
    """The network inside `Normalized`, (distributed) data parallel and torch.compile."""
    if isinstance(net, Normalized):
        return unwrap(net.body)
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(net.module)
    return unwrap(net._orig_mod) if isinstance(net, torch._dynamo.OptimizedModule) else net


def find_layer(net: nn.Module, name: str) -> nn.Module:
    """The layer called `name`; raises UserError with the nearest name where there is none.

    `name@2` is the second run of a layer that runs several times in a forward pass, `name:2` the second of the tensors
    that it puts out: the same layer.
    """
    named = layers(net)
    if (bare := split(name)[0]) in named:
        return named[bare]
    by_depth = sorted(named, key=lambda n: n.count("."))
    raise unknown("layer", name, by_depth, owner=type(unwrap(net)).__name__)


def split(name: str) -> tuple[str, int, int]:
    """The layer that a name means, which of its runs (0: each) and which of its tensors.

    >>> split("block.relu"), split("block.relu@2"), split("encoder:2")
    (('block.relu', 0, 1), ('block.relu', 2, 1), ('encoder', 0, 2))
    """
    bare, run, tensor = cast(re.Match, re.fullmatch(r"(.*?)(?:@(\d+))?(?::(\d+))?", name, re.DOTALL)).groups()
    return bare, int(run or 0), int(tensor or 1)


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors of numbers in what a layer puts out, however nested."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def tensor_of(output: Any, number: int = 1) -> Tensor | None:
    """The first (or another) of the tensors of numbers in what a layer puts out, None where it has no such."""
    tensors = tensors_of(output)
    return tensors[number - 1] if 0 < number <= len(tensors) else None


def _with(output: Any, before: Tensor, after: Tensor) -> Any:
    """What a layer puts out with `after` in the place of its tensor `before`."""
    leaves, form = tree_flatten(output)
    return tree_unflatten([after if leaf is before else leaf for leaf in leaves], form)


Note = Callable[[str, Tensor | None], Tensor | None]


@contextmanager
def watched(chosen: Mapping[str, nn.Module], note: Note) -> Iterator[None]:
    """In one forward pass within the block, call `note(name, tensor)` whenever one of the layers finishes.

    The tensor is that which the name means, None where there is none; what `note` returns, unless None, takes its
    place. A name that means one run of a layer is noted then alone.
    """
    runs: Counter[str] = Counter()

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        _, run, number = split(name)

        def finished(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            runs[name] += 1
            if run not in (0, runs[name]):
                return None
            before = tensor_of(output, number)
            after = note(name, before)
            return None if before is None or after is None else _with(output, before, after)

        return finished

    with ExitStack() as stack:
        for name, module in chosen.items():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        yield


@contextmanager
def replaced(net: nn.Module, name: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """In one forward pass within the block, layer `name` puts out what `change` makes of its tensor."""
    with watched({name: find_layer(net, name)}, lambda _, tensor: None if tensor is None else change(tensor)):
        yield


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """`net` in eval mode with weights that get no gradients, gradients possible; as before when the block ends."""
    modes = [(module, module.training) for module in net.modules()]
    wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        net.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in wanted:
            parameter.requires_grad_(True)
