"""Which layers of a network the answer passes through, how deep they lie, and why others are passed over."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from interp.network.cuts import Work, cuts, output_of
from interp.network.modules import layers, tensor_of, tensors_of
from interp.network.positions import Layout
from interp.network.quiet import quiet
from interp.network.tracing import Kinds, Output, kinds_of, settled


@dataclass(frozen=True)
class Candidate:
    """A tensor that a layer puts out, and what speaks against studying it."""

    name: str  # the outermost layer that puts it out; `name@2` where that runs several times
    output: Output
    work: int  # multiplications and additions of a pass until it is there
    depth: float  # their share of those of the whole pass, 0 to 1
    cut: bool  # whether every path from the image to the answer runs through it
    layout: Layout | None = None
    why: str = ""  # it will not do, '' where it will

    @property
    def positions(self) -> int:
        """How many positions it has, 0 where it has none or is a vector."""
        at = self.layout
        return at.height * at.width if at and at.kind != "vector" else 0

    @property
    def special(self) -> int:
        """Class and register tokens of each image, beside its positions."""
        return self.layout.special if self.layout else 0

    @property
    def side(self) -> int:
        """The shorter side of its grid, 0 without one."""
        return min(self.layout.height, self.layout.width) if self.layout and self.positions else 0


@dataclass(frozen=True)
class _Seen:
    """One of the tensors that a layer put out in one of its runs."""

    name: str
    run: int
    number: int
    output: Output
    work: int  # until then
    place: Any  # in the graph, None where it has none


@dataclass(frozen=True)
class _Pass:
    """What one forward pass shows."""

    candidates: list[Candidate]
    kinds: Kinds
    work: int
    classes: int
    reached: bool  # whether the graph of the answer leads to the images


def survey(net: nn.Module, images: Tensor, *, cuts_only: bool = True) -> list[Candidate]:
    """What the layers of `net` put out for `images` (B, C, H, W), each tensor once, in the order of execution.

    Candidates are cuts or, with `cuts_only` False and where the network hides its graph, all that could be studied. The
    network is left as it was.
    """
    with quiet(net, report=lambda _: None, backup=False):
        images = images.clone()  # a tensor made in inference mode has no graph
        try:
            traced = _pass(net, images.requires_grad_())
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # weights made in inference mode, functions without a derivative
            with torch.no_grad():
                traced = _pass(net, images.detach())
        cuts_only = cuts_only and traced.reached
        shapes = {c.name: c.output.shape for c in traced.candidates if c.cut or not cuts_only}
        laid = settled(net, images.detach(), shapes, traced.kinds)
    candidates = [replace(c, layout=laid.get(c.name)) for c in traced.candidates]
    candidates = [replace(c, why=_why(c, cuts_only, traced)) for c in candidates]
    equal = {work: [c for c in candidates if c.work == work and not c.why] for work in {c.work for c in candidates}}
    return [c if c.why else replace(c, why=_repeated(c, equal[c.work])) for c in candidates]


def _pass(net: nn.Module, images: Tensor) -> _Pass:
    seen: list[_Seen] = []
    runs: Counter[str] = Counter()

    def note(name: str, output: Any) -> None:
        runs[name] += 1
        for number, tensor in enumerate(tensors_of(output), 1):
            seen.append(_Seen(name, runs[name], number, Output.of(tensor), work.done, output_of(tensor)))

    with kinds_of(net) as kinds, Work() as work, ExitStack() as stack:
        for name, module in layers(net).items():
            stack.callback(module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output)).remove)
        answer = tensor_of(net(images))
    assert answer is not None  # a network puts out numbers
    if not work.done:  # nothing that has a formula: count layers instead
        seen = [replace(output, work=at) for at, output in enumerate(seen)]
    *through, reached = cuts(answer, images, [*(output.place for output in seen), output_of(answer)])
    total = work.done or len(seen)
    return _Pass([*_tensors(seen, runs, through, total)], dict(kinds), total, answer[:1].numel(), reached)


def _tensors(seen: list[_Seen], runs: Counter[str], through: list[bool], work: int) -> Iterator[Candidate]:
    """Each tensor that layers put out, once, under the name of the outermost."""
    by_place: dict[Any, list[int]] = {}
    for at, output in enumerate(seen):
        by_place.setdefault(at if output.place is None else output.place, []).append(at)
    for same in by_place.values():
        outer, first = min((seen[at] for at in same), key=lambda output: output.name.count(".")), seen[same[0]]
        run = f"@{outer.run}" if runs[outer.name] > 1 else ""
        name = f"{outer.name}{run}{f':{outer.number}' if outer.number > 1 else ''}"
        yield Candidate(name, first.output, first.work, first.work / work, through[same[0]])


def _repeated(candidate: Candidate, equal: Sequence[Candidate]) -> str:
    """Why it holds nothing that others, between which and it nothing is computed, do not hold; '' where it does."""
    place = equal.index(candidate)
    for at, other in enumerate(equal):
        shapes = other.output.shape, candidate.output.shape
        moved = shapes[0] != shapes[1] and prod(shapes[0]) == prod(shapes[1])
        before = (other.name.count("."), at) < (candidate.name.count("."), place)
        if moved and before and other.output.minimum == candidate.output.minimum:
            return f"it holds the values of {other.name} in another order"
    return "it repeats positions" if any(0 < o.positions < candidate.positions for o in equal[:place]) else ""


def _why(candidate: Candidate, cuts_only: bool, traced: _Pass) -> str:
    """Why a tensor is no candidate by itself, '' where it is one."""
    if cuts_only and not candidate.cut:
        return "part of the answer goes past it"
    if candidate.layout is None:
        shape = candidate.output.shape
        return f"it puts out {shape}: neither maps, tokens whose places follow the image's, nor vectors"
    if candidate.layout.channels(candidate.output.shape) == 1:
        return "it has a single channel"
    if candidate.work == 0:
        return "nothing is computed before it"
    if candidate.work == traced.work and candidate.layout.channels(candidate.output.shape) == traced.classes:
        return "it holds the logits themselves: nothing learnt comes after it"
    return ""
