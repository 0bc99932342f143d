"""Weights that anybody has saved, matched to a network by names and shapes.

They lie in a dictionary of tensors, perhaps in a nested one ({'model': ..., 'optimizer': ...}), under the network's
names with a constant prefix before them: `module.`, `model.`, `_orig_mod.`, whatever it is. A place is both: the keys
that lead to the tensors, and the prefix.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LEVELS, DICTIONARIES, LETTERS = 4, 1000, 300  # at most that are looked at: a stranger's file may hold any number
AVERAGED = re.compile(r"(^|[._])(ema|avg|averaged|shadow)([._]|$)")
MASKS = ("attn_mask",)  # that some networks keep and others work out


@dataclass(frozen=True)
class Fit:
    """What of a file fits a network."""

    place: str  # as it is told: "model_ema: module."
    alike: tuple[str, ...]  # other places that fit as well
    matched: dict[str, Tensor]  # by the network's names
    wrong: dict[str, tuple[torch.Size, torch.Size]]  # by the network's names: the file's shape and the network's
    missing: tuple[str, ...]  # names of the network, but for those of counters and indices, which stay as built
    left_over: tuple[str, ...]  # names in the file
    blocks_left: tuple[str, ...]  # of these, in the file: layers like those of the network, which is thus another one

    @property
    def whole(self) -> bool:
        """Whether the network answers with these weights as the one that they were saved from."""
        return bool(self.matched) and not (self.wrong or self.missing or self.blocks_left)


@dataclass(frozen=True)
class _Place:
    keys: str  # that lead to the dictionary
    prefix: str  # in the file
    inside: str  # of the network, which the file has not
    fitting: int  # tensors, by name and shape
    named: int  # tensors, by name

    @property
    def told(self) -> str:
        return ": ".join(filter(None, (self.keys, self.prefix)))

    @property
    def rank(self) -> tuple[int, int, int, bool, int]:
        """The most that fit; of the same tensors all wrappings taken off, so that blocks are the network's own.

        Then averaged weights, which are what is published of a training that has both; then the shortest place.
        """
        averaged = bool(AVERAGED.search(f"{self.keys}.{self.prefix}"))
        return self.fitting, self.named, len(self.inside), averaged, -len(self.told)


def dictionaries(content: Any) -> dict[str, dict[str, Tensor]]:
    """All dictionaries in `content` that hold tensors by name, and these tensors, by the keys that lead there."""
    found, todo = {}, [("", content, 0)]
    for keys, value, level in todo:
        if not isinstance(value, Mapping):
            continue
        if tensors := {name: tensor for name, tensor in value.items() if _is_name(name) and _is_dense(tensor)}:
            found[keys] = tensors
        if level < LEVELS and len(todo) < DICTIONARIES:
            todo += [(f"{keys}.{name}".lstrip("."), item, level + 1) for name, item in value.items()][:DICTIONARIES]
    return found


def best_fit(state: Mapping[str, Tensor], content: Any) -> Fit | None:
    """How the tensors in `content` fit a network with the `state` dictionary, at the place where most do.

    None where `content` holds no tensors by name.
    """
    stored = dictionaries(content)
    places = [place for keys, tensors in stored.items() for place in _places(state, tensors, keys)]
    if not places:
        return None
    best = max(places, key=lambda place: place.rank)
    return _fit_at(best, state, stored[best.keys], places)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LETTERS


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested)
    )


def _places(state: Mapping[str, Tensor], stored: Mapping[str, Tensor], keys: str) -> Iterator[_Place]:
    """Where in a dictionary weights of the network may be, with how many; at least one place."""
    named, fitting = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for inside in _wrappings(state):
        for name, tensor in stored.items():
            for prefix in _prefixes(name):
                if (ours := state.get(inside + name[len(prefix) :])) is not None:
                    named[prefix, inside] += 1
                    fitting[prefix, inside] += ours.shape == tensor.shape
    for prefix, inside in named or [("", "")]:
        yield _Place(keys, prefix, inside, fitting[prefix, inside], named[prefix, inside])


def _wrappings(state: Mapping[str, Tensor]) -> list[str]:
    """Prefixes that at least half of the network's names have: of modules that wrap a network."""
    counts = Counter(prefix for name in state for prefix in _prefixes(name))
    return [prefix for prefix, count in counts.items() if 2 * count >= len(state)]


def _prefixes(name: str) -> list[str]:
    """
    >>> _prefixes("net.body.weight")
    ['', 'net.', 'net.body.']
    """
    return ["", *(name[: dot.end()] for dot in re.finditer(r"\.", name))]


def _fit_at(place: _Place, state: Mapping[str, Tensor], stored: Mapping[str, Tensor], places: list[_Place]) -> Fit:
    here = {place.inside + name.removeprefix(place.prefix): name for name in stored if name.startswith(place.prefix)}
    shared = {ours: stored[theirs] for ours, theirs in here.items() if ours in state}
    wrong = {ours: (t.shape, state[ours].shape) for ours, t in shared.items() if t.shape != state[ours].shape}
    used = {here[ours] for ours in shared}
    blocks = {_block(name, place.inside) for name in state if name.startswith(place.inside)}
    left = {ours: theirs for ours, theirs in here.items() if ours not in state and _counts(theirs, stored[theirs])}
    return Fit(
        place=place.told,
        alike=_alike(place, places),
        matched={ours: tensor.detach() for ours, tensor in shared.items() if ours not in wrong},
        wrong=wrong,
        missing=tuple(name for name, tensor in state.items() if name not in shared and tensor.is_floating_point()),
        left_over=tuple(name for name in stored if name not in used),
        blocks_left=tuple(theirs for ours, theirs in left.items() if _block(ours, place.inside) in blocks),
    )


def _alike(place: _Place, places: list[_Place]) -> tuple[str, ...]:
    rivals = [p for p in places if p != place and (p.fitting, p.inside) == (place.fitting, place.inside)]
    return tuple(rival.told for rival in rivals if rival.fitting)


def _counts(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is one that a network computes with, no counter, index or mask."""
    return tensor.is_floating_point() and tensor.numel() > 1 and name.rpartition(".")[2] not in MASKS


def _block(name: str, inside: str) -> str:
    """The outermost module of a tensor, its number left out.

    >>> _block("body.layer4.0.conv1.weight", "body.")
    'layer'
    """
    return name.removeprefix(inside).partition(".")[0].rstrip("0123456789")
