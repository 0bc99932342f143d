"""Name the layers of a network, choose some to look at, capture activations."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.network.bypass import Exchange
from interp.network.choice import LIMIT, Chosen, deepest, evenly
from interp.network.modules import Normalized, find_layer, frozen, layers, split, unwrap
from interp.network.positions import Layout
from interp.network.quiet import quiet
from interp.network.survey import Candidate, survey
from interp.network.tracing import Output, eager, forward_to, layouts, trace

__all__ = [
    "Layer", "Normalized", "Output", "capture", "choose_layer", "find_layer", "forward_to", "layers", "layouts",
    "spread_layers", "trace", "unwrap",
]  # fmt: skip
NO_GRID = "neither maps nor tokens whose places follow those of the image"


@dataclass(frozen=True)
class Layer:
    """A layer that can be studied position by position."""

    name: str
    layout: Layout
    non_negative: bool  # on the images that it was chosen with
    bypass: float | None = None  # share of a change of the answer that goes past it, NaN: not told, None: not asked

    @classmethod
    def named(cls, net: nn.Module, images: Tensor, name: str, *, vectors: bool = True) -> "Layer":
        """The layer `name`; raises UserError where its output has no positions. `vectors` count as having one."""
        find_layer(net, name)
        if why := _why_not(net, images, name):
            raise UserError(f"layer {name!r} cannot be used: {why}. {_others(net, images, vectors=vectors)}")
        with frozen(net), torch.no_grad(), eager():
            output = forward_to(net, images[:2], {name: find_layer(net, name)})[name]
        at = layouts(net, images, [name])[name]
        if at is None or (at.kind == "vector" and not vectors):
            why = f"its output has shape {tuple(output.shape)}: {NO_GRID}"
        elif at.channels(output.shape) == 1:
            why = "it has a single channel"
        if why or at is None:
            raise UserError(f"layer {name!r} cannot be used: {why}. {_others(net, images, vectors=vectors)}")
        return cls(name, at, bool(output.amin() >= 0))

    @property
    def about(self) -> str:
        """What a reader should know of it, '' where it is a map that the whole answer passes through."""
        said = [self.layout.about.strip(" ()")]
        if self.bypass is not None and self.bypass > LIMIT:
            said.append(f"{min(self.bypass, 1.0):.0%} of a change of the answer goes past its positions")
        return f" ({'; '.join(filter(None, said))})" if any(said) else ""

    def activations(self, net: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
        """Its activations (B, C, h, w) for `images`, tokens put back on their grid."""
        chosen = {self.name: find_layer(net, self.name)}
        with torch.no_grad(), eager():
            parts = [forward_to(net, batch, chosen)[self.name] for batch in images.split(batch_size)]
        return torch.cat([self.layout.grid(part) for part in parts])


def choose_layer(
    net: nn.Module, images: Tensor, name: str | None = None, *, grid: int = 4, signed: bool = False
) -> Layer:
    """The layer `name` if its output can be studied position by position, or one chosen by rule where `name` is None.

    The rule: the deepest layer that the whole answer passes through, with at least `grid` x `grid` positions and more
    than one channel, without negative values unless `signed`; no map of the logits. Where positions do not carry the
    whole answer, the layer whose depth times the share that they carry is largest; beside class tokens, which hold the
    rest, the deepest whose positions bear on the answer. Raises UserError that says why there is none.
    """
    images = two_of(images)
    with quiet(net, report=lambda _: None, backup=False):
        if name is not None:
            layer = Layer.named(net, images, name, vectors=False)
            return replace(layer, bypass=Exchange(net, images).bypass(name, layer.layout))
        if best := deepest(net, images, grid, signed):
            return _layer(best)
    kind = "" if signed else "non-negative "
    least = f"a grid of {grid} x {grid} or more"
    raise UserError(f"no layer has {kind}outputs on {least}. {_others(net, images, signed)}")


def spread_layers(net: nn.Module, images: Tensor, count: int = 4, grid: int = 4) -> list[Layer]:
    """Up to `count` layers that the answer passes through, evenly spread over the computation, from early to late.

    With a grid of at least `grid` x `grid` and more than one channel; where there is none, with the largest grid that
    there is; where no layer has a grid, layers that put out vectors. Raises UserError where no layer will do.
    """
    images = two_of(images)
    with quiet(net, report=lambda _: None, backup=False):
        chosen = [_layer(candidate) for candidate in evenly(net, images, count, grid)]
    if not chosen:
        raise UserError(f"no layer between the image and the answer can be studied. {_others(net, images)}")
    return chosen


def _layer(one: Chosen) -> Layer:
    assert one.candidate.layout is not None  # or it were no candidate
    return Layer(one.candidate.name, one.candidate.layout, one.candidate.output.minimum >= 0, one.bypass)


def two_of(images: Tensor) -> Tensor:
    """Two of the images (B, C, H, W) that differ; of one, or of two that are the same, the first and its negative."""
    alone = len(images) < 2 or bool((images[0] == images[1]).all())
    return torch.stack([images[0], 1 - images[0]]) if alone else images[:2]


def _why_not(net: nn.Module, images: Tensor, name: str) -> str:
    """Why there is no one output of a layer, '' where there is."""
    bare, run, _ = split(name)
    with frozen(net):
        output = trace(net, images[:2]).get(bare)
    if output is None:
        return "it does not run in a forward pass"
    if output.calls > 1 and not 0 < run <= output.calls:
        return f"it runs {output.calls} times in a forward pass: name one of them, {bare}@1 to {bare}@{output.calls}"
    return "" if output.shape else "its output holds no tensor of numbers"


def _others(net: nn.Module, images: Tensor, signed: bool = True, vectors: bool = False) -> str:
    """The layers that would do, branches where no other does, or why the last ones of the network would not."""
    candidates = survey(net, two_of(images))
    good = _gridded(candidates, signed) or _gridded(survey(net, two_of(images), cuts_only=False), signed)
    if vectors and not good and (others := [c.name for c in candidates if not c.why]):
        return f"No layer has a grid of positions; these put out vectors: {', '.join(others[:40])}"
    more = f", ... ({len(good)} in all)" if len(good) > 40 else ""
    bad = [c for c in candidates if c.side < 2 and (c.cut or not c.why)]
    reasons = dict.fromkeys(f"{c.name}: {c.why or 'vectors'}" for c in bad)
    last = f" ({'; '.join(list(reasons)[-3:])})" if reasons else ""
    return f"Layers with a grid of positions: {', '.join(good[:40]) + more if good else 'none' + last}"


def _gridded(found: Iterable[Candidate], signed: bool) -> list[str]:
    """The names of those that could be studied position by position."""
    return [one.name for one in found if not one.why and one.side > 1 and (signed or one.output.minimum >= 0)]


@torch.no_grad()
def capture(net: nn.Module, images: Tensor, names: Iterable[str], batch_size: int = 64) -> dict[str, Tensor]:
    """Activations of the named layers, each (B, ...), for `images` (B, C, H, W) in [0, 1].

    The forward pass ends at the deepest of them. `batch_size` images at a time bound the memory. Raises UserError for
    an unknown name, and where batches cannot be joined since the first axis of an output is not that of the images.
    """
    chosen = {name: find_layer(net, name) for name in names}
    outputs = [forward_to(net, batch, chosen) for batch in images.split(batch_size)]
    if len(outputs) == 1:
        return outputs[0]
    for name in chosen:
        if sum(len(output[name]) for output in outputs) != len(images):
            shape = tuple(outputs[0][name].shape)
            raise UserError(f"layer {name!r} puts out {shape}, not one row an image: give all images in one batch")
    return {name: torch.cat([output[name] for output in outputs]) for name in chosen}
