"""One forward pass, layer by layer: what each puts out, and where its positions lie."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.network.evidence import CLEAR_AGREEMENT, changed, evidence, follows, told
from interp.network.modules import Note, find_layer, frozen, layers, tensors_of, unwrap, watched
from interp.network.positions import Layout, layout

Kinds = Mapping[tuple[int, ...], set[str]]  # by the shape of one image's tensor what known types of layers make of it


@dataclass(frozen=True)
class Output:
    """What a layer put out in one forward pass."""

    shape: tuple[int, ...]  # of its last output, () where that holds no tensor of numbers
    minimum: float
    calls: int

    @classmethod
    def of(cls, tensor: Tensor | None, calls: int = 1) -> "Output":
        """What is kept of the `tensor` that a layer put out in its latest run of `calls`."""
        if tensor is None or not tensor.numel():
            return cls(() if tensor is None else tuple(tensor.shape), 0.0, calls)
        return cls(tuple(tensor.shape), float(tensor.detach().amin()), calls)


@torch.no_grad()
def trace(net: nn.Module, images: Tensor) -> dict[str, Output]:
    """Each layer's output for `images` (B, C, H, W), in the order in which the layers finish."""
    outputs: dict[str, Output] = {}

    def note(name: str, tensor: Tensor | None) -> None:
        calls = outputs.pop(name).calls + 1 if name in outputs else 1
        outputs[name] = Output.of(tensor, calls)

    with watched(layers(net), note), eager():
        net(images)
    return outputs


def eager() -> AbstractContextManager:
    """Without compilation: hooks on a compiled network's layers run, and may end the pass."""
    return torch.compiler.set_stance("force_eager")


class Stop(Exception):
    """Ends a forward pass once everything wanted has been seen."""


def forward_to(net: nn.Module, images: Tensor, chosen: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """One forward pass that ends at the deepest of the `chosen` layers; what each put out, with its graph if recorded.

    Raises UserError for layers that do not run or put out no tensor of numbers.
    """
    tensors: dict[str, Tensor] = {}

    def note(name: str, tensor: Tensor | None) -> None:
        if tensor is None:
            raise UserError(f"layer {name!r} puts out no such tensor of numbers")
        tensors[name] = tensor.clone()  # a later ReLU(inplace=True) would rewrite it
        if len(tensors) == len(chosen):
            raise Stop

    with watched(chosen, note):
        try:
            net(images)
        except Stop:
            return tensors
    missing = ", ".join(chosen.keys() - tensors.keys())
    raise UserError(f"layers that do not run in a forward pass: {missing}")


@torch.no_grad()
def layouts(net: nn.Module, images: Tensor, names: Iterable[str]) -> dict[str, Layout | None]:
    """Where the positions of the named layers lie, None where they have none, for images of the size of `images`.

    From one pass of an image, and another of it changed in several places where the types of layers leave it open.
    Passes end at the deepest of the layers. Raises UserError for layers that do not run.
    """
    chosen = {name: find_layer(net, name) for name in names}
    with frozen(net), torch.no_grad(), eager(), kinds_of(net) as kinds:
        outputs = {name: tuple(t.shape) for name, t in forward_to(net, images[:1], chosen).items()}
    return settled(net, images[:1], outputs, kinds)


@contextmanager
def kinds_of(net: nn.Module) -> Iterator[Kinds]:
    """What layers of known types read and write in the passes within the block."""
    kinds: dict[tuple[int, ...], set[str]] = defaultdict(set)

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        for tensor in (*tensors_of(inputs), *tensors_of(output)):
            kinds[tuple(tensor.shape[1:])].add(told(module))

    with ExitStack() as stack:
        for module in net.modules():
            if told(module):
                stack.callback(module.register_forward_hook(note).remove)
        yield kinds


def settled(
    net: nn.Module, images: Tensor, shapes: Mapping[str, tuple[int, ...]], kinds: Kinds
) -> dict[str, Layout | None]:
    """The layouts of layers that put out tensors of `shapes` for `images`."""
    layout_of = {name: _by_type(shape, len(images), kinds) for name, shape in shapes.items()}
    left = [name for name, at in layout_of.items() if at is None and len(shapes[name]) in (3, 4)]
    moving = _moving(net, images[0], left) if left else {}
    for name, (at, agreement) in moving.items():
        shape = shapes[name]
        mapped = len(shape) == 4 and "channels_first" in kinds.get(shape[1:], ())  # whichever of the two kinds
        if isnan(agreement) and shape[0] == len(images):  # it does not change with the image
            layout_of[name] = layout(shape, unwrap(net))
        elif mapped or follows(at, agreement, images.shape[2:]):
            layout_of[name] = at
    unclear = {name: shapes[name][1:] for name in left if layout_of[name] is None and shapes[name][0] == len(images)}
    alike = _clear(net, images[0], {*unclear.values()}) if unclear else {}
    return layout_of | {name: alike.get(shape) for name, shape in unclear.items()}


def _by_type(shape: tuple[int, ...], count: int, kinds: Kinds) -> Layout | None:
    """The layout of a tensor for `count` images where its dimensions, or layers of known types, leave no doubt."""
    if len(shape) == 2 and shape[0] == count:
        return Layout("vector", 1, 1)
    if len(shape) == 4 and shape[0] == count and kinds.get(shape[1:]) == {"channels_first"}:
        return Layout("channels_first", *shape[2:])
    return None


def _moving(net: nn.Module, image: Tensor, names: Sequence[str]) -> dict[str, tuple[Layout | None, float]]:
    """Layouts by what moves in each layer where `image` (C, H, W) is changed, and how well they agree."""
    layout_of: dict[str, tuple[Layout | None, float]] = {}
    earlier: dict[torch.Size, Layout | None] = {}  # layers with tensors of one shape are mostly laid out alike

    def note(name: str, tensor: Tensor | None) -> None:
        assert tensor is not None  # it was one for the image itself
        layout_of[name] = evidence(tensor, image.shape[1:], earlier.get(tensor.shape))
        earlier[tensor.shape] = layout_of[name][0]
        if len(layout_of) == len(names):
            raise Stop

    _changing(net, image, {name: find_layer(net, name) for name in names}, note)
    return layout_of


def _clear(net: nn.Module, image: Tensor, shapes: Collection[tuple[int, ...]]) -> dict[tuple[int, ...], Layout | None]:
    """The layouts of the first layers with tensors of `shapes` (of one image) that follow the image clearly.

    Of others with such tensors, such as what attention adds to tokens, nothing else can be said.
    """
    layout_of: dict[tuple[int, ...], Layout | None] = {}

    def note(_name: str, tensor: Tensor | None) -> None:
        if tensor is None or (shape := tuple(tensor.shape[1:])) not in shapes or shape in layout_of:
            return
        at, agreement = evidence(tensor, image.shape[1:])
        if agreement > CLEAR_AGREEMENT and follows(at, agreement, image.shape[1:]):
            layout_of[shape] = at
        if len(layout_of) == len(shapes):
            raise Stop

    _changing(net, image, layers(net), note)
    return layout_of


@torch.no_grad()
def _changing(net: nn.Module, image: Tensor, chosen: Mapping[str, nn.Module], note: Note) -> None:
    with frozen(net), torch.no_grad(), eager(), watched(chosen, note), suppress(Stop):
        net(changed(image))
