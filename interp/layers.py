"""Name the layers of a network, see what each puts out, capture activations."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from interp.errors import UserError, unknown
from interp.positions import Layout, layout


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
    """The layer called `name`; raises UserError with the nearest name where there is none."""
    named = layers(net)
    if name in named:
        return named[name]
    by_depth = sorted(named, key=lambda n: n.count("."))
    raise unknown("layer", name, by_depth, owner=type(unwrap(net)).__name__)


@dataclass(frozen=True)
class Output:
    """What a layer put out in one forward pass."""

    shape: tuple[int, ...]  # of its last output, () where that is no tensor
    minimum: float
    calls: int


@torch.no_grad()
def trace(net: nn.Module, images: Tensor) -> dict[str, Output]:
    """Each layer's output for `images` (B, C, H, W), in the order in which the layers finish."""
    outputs: dict[str, Output] = {}

    def note(name: str, output: object) -> None:
        calls = outputs.pop(name).calls + 1 if name in outputs else 1
        tensor = output if isinstance(output, Tensor) else images.new_zeros(())
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        outputs[name] = Output(shape, float(tensor.amin()) if tensor.numel() else 0.0, calls)

    with _hooked(layers(net), note):
        net(images)
    return outputs


@dataclass(frozen=True)
class Layer:
    """A layer that can be studied position by position."""

    name: str
    layout: Layout
    non_negative: bool  # on the images that it was chosen with

    @classmethod
    def named(cls, net: nn.Module, images: Tensor, name: str) -> "Layer":
        """The layer `name`; raises UserError where its output has no positions."""
        return choose_layer(net, images[:2], name, signed=True)

    def activations(self, net: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
        """Its activations (B, C, h, w) for `images`, tokens put back on their grid."""
        return self.layout.grid(capture(net, images, [self.name], batch_size)[self.name])


def choose_layer(
    net: nn.Module, images: Tensor, name: str | None = None, *, grid: int = 4, signed: bool = False
) -> Layer:
    """The layer `name` if its output can be studied position by position, or one chosen by rule where `name` is None.

    The rule: the last to finish of the layers that run once and put out more than one channel, no negative values and
    at least `grid` x `grid` positions. Where a network has none and `signed` allows it, the last block whose positions
    bear on the logits (in a transformer that reads its class token alone, the last block's do not). Raises UserError
    that lists the layers which would do.
    """
    if name is not None:
        find_layer(net, name)
    outputs = trace(net, images)
    layouts = {n: layout(o.shape, unwrap(net)) for n, o in outputs.items() if o.calls == 1}
    spatial = {
        n: Layer(n, at, outputs[n].minimum >= 0)
        for n, at in layouts.items()
        if at and at.channels(outputs[n].shape) > 1
    }
    if name is not None:
        if name not in spatial:
            raise UserError(f"layer {name!r} cannot be used: {_why_not(outputs.get(name))}. {_list(spatial)}")
        return spatial[name]
    fitting = {n: at for n, at in spatial.items() if min(at.layout.height, at.layout.width) >= grid}
    if best := [at for at in fitting.values() if at.non_negative]:
        return best[-1]
    blocks = {n: at for n, at in fitting.items() if any(find_layer(net, n).children())}
    if signed and fitting and (bearing := _bearing(net, images, blocks or fitting)):
        return bearing[-1]
    raise UserError(f"no layer has non-negative outputs on a grid of {grid} x {grid} or more. {_list(spatial)}")


def spread_layers(net: nn.Module, images: Tensor, count: int = 4, grid: int = 4) -> list[Layer]:
    """Up to `count` layers with a grid of at least `grid` x `grid`, evenly spread from early to late.

    Of the outermost blocks (layers that hold others); where fewer than two have a grid, of the blocks within them; else
    of all layers. Raises UserError where no layer will do.
    """
    outputs = trace(net, images)
    layouts = {name: layout(o.shape, unwrap(net)) for name, o in outputs.items() if o.calls == 1}
    fitting = [n for n, at in layouts.items() if at and min(at.height, at.width) >= grid]
    blocks = [n for n in fitting if any(find_layer(net, n).children())]
    levels = [[n for n in blocks if n.count(".") == depth] for depth in range(3)] + [fitting]
    chosen = next((level for level in levels if len(level) > 1), fitting)
    if not chosen:
        raise UserError(f"no layer has a grid of {grid} x {grid} positions or more. {_list(layouts)}")
    places = torch.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().long().tolist()
    return [choose_layer(net, images, chosen[place], signed=True) for place in places]


def _bearing(net: nn.Module, images: Tensor, chosen: dict[str, Layer]) -> list[Layer]:
    """Those of the layers whose positions have a gradient of what the last linear layer reads."""
    outputs: dict[str, Tensor] = {}
    read: list[Tensor] = []  # not the logits: a head that starts at zero would hide every layer
    heads = [module for module in net.modules() if isinstance(module, nn.Linear)]
    handle = heads[-1].register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0])) if heads else None
    try:
        with torch.enable_grad(), _hooked({n: find_layer(net, n) for n in chosen}, outputs.__setitem__):
            read.append(net(images.detach().requires_grad_()))  # frozen weights alone would leave no graph
    finally:
        if handle:
            handle.remove()
    weighted = (read[0] * torch.linspace(-1, 2, read[0].shape[-1]).to(read[0])).sum()
    gradients = torch.autograd.grad(weighted, list(outputs.values()), allow_unused=True)
    found = [
        (chosen[name], gradient) for name, gradient in zip(outputs, gradients, strict=True) if gradient is not None
    ]
    return [layer for layer, gradient in found if layer.layout.grid(gradient).any()]


def _why_not(output: Output | None) -> str:
    if output is None:
        return "it does not run in a forward pass"
    if output.calls > 1:
        return f"it runs {output.calls} times in a forward pass, so its output is not one thing"
    if output.shape and len(output.shape) == 4:
        return "it has a single channel"
    if not output.shape:
        return "its output is not a tensor"
    return f"its output has shape {output.shape}, neither (B, C, H, W) nor tokens that fill a grid"


def _list(spatial: Iterable[str]) -> str:
    names = list(spatial)
    more = f", ... ({len(names)} in all)" if len(names) > 40 else ""
    return f"Layers with a grid of positions: {', '.join(names[:40]) or 'none'}{more}"


class _Stop(Exception):
    """Ends a forward pass once everything wanted has been seen."""


@dataclass
class _Seen:
    wanted: int
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def note(self, name: str, output: object) -> None:
        if not isinstance(output, Tensor):
            raise UserError(f"layer {name!r} puts out a {type(output).__name__}, not a tensor")
        self.tensors[name] = output.clone()  # a later ReLU(inplace=True) would rewrite it
        if len(self.tensors) == self.wanted:
            raise _Stop


@torch.no_grad()
def capture(net: nn.Module, images: Tensor, names: Iterable[str], batch_size: int = 64) -> dict[str, Tensor]:
    """Activations of the named layers, each (B, ...), for `images` (B, C, H, W) in [0, 1].

    The forward pass ends at the deepest of them. `batch_size` images at a time bound the memory. Raises UserError for
    an unknown name.
    """
    chosen = {name: find_layer(net, name) for name in names}
    parts = [forward_to(net, batch, chosen) for batch in images.split(batch_size)]
    return {name: torch.cat([part[name] for part in parts]) for name in chosen}


def forward_to(net: nn.Module, images: Tensor, chosen: dict[str, nn.Module]) -> dict[str, Tensor]:
    """One forward pass that ends at the deepest of the `chosen` layers; what each put out, with its graph if recorded.

    Raises UserError for layers that do not run.
    """
    seen = _Seen(len(chosen))
    with _hooked(chosen, seen.note):
        try:
            net(images)
        except _Stop:
            return seen.tensors
    missing = ", ".join(chosen.keys() - seen.tensors.keys())
    raise UserError(f"layers that do not run in a forward pass: {missing}")


@contextmanager
def _hooked(chosen: dict[str, nn.Module], note) -> Iterator[None]:
    """Call `note(name, output)` whenever one of the layers finishes, within the block only."""
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, module in chosen.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
