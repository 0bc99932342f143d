"""Look at a network without disturbing it: what is done within `with quiet(net):` is undone when the block ends.

Not undone: warning filters (imports extend them for good), lists among attributes, changes to classes, what others own.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, is_
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, backends, nn

from interp.network.switches import streams, switches

_Report = Callable[[list[str]], None]
_Pass = Callable[[], object]  # a forward pass
_Found = dict[str, list[str]]  # what was left, and where: {"gradient left on @": ["fc.weight", "fc.bias"]}
_CALLED = (lambda switch: switch[0](), lambda switch, value: switch[1](value))  # how a row is read and written
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}  # compared bit by bit


class Disturbed(RuntimeError):
    """Something could not be put back as it was: training must not go on."""


@contextmanager
def quiet(
    net: nn.Module, *, seed: int = 0, report: _Report | None = None, backup: bool = True, plain: _Pass | None = None
) -> Iterator[nn.Module]:
    """Yield `net` in eval mode, not compiled, without autocast, gradients possible, random numbers from `seed`.

    Reentrant checkpoints, through which most gradients do not pass, are not made. Afterwards all is as before:
    gradients, which are set aside meanwhile, and with `backup` weights and buffers too. `report` gets what the block
    left changed, else one warning tells; nothing is told of what `plain`, one forward pass, changes by itself: counters
    and caches of the network. Raises Disturbed if something is not restored.
    """
    found, failed = _Found(), list[Exception]()
    with ExitStack() as stack:
        stack.callback(_tell, found, failed, report, partial(_by_itself, net, plain) if plain else dict)
        stack.enter_context(_undone(net, seed, backup, found, failed))
        yield net


@contextmanager
def _undone(net: nn.Module, seed: int, backup: bool, found: _Found, failed: list[Exception]) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # Lightning validates in it, and enable_grad does not end it
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for kept in _everything(net, seed, backup):
            for _ in range(2):  # the second goes on where Ctrl-C ended the first
                stack.callback(kept.undo, found, failed)
            kept.enter()
        yield


def _by_itself(net: nn.Module, plain: _Pass) -> _Found:
    """What a `plain` forward pass leaves changed."""
    found, failed = _Found(), list[Exception]()
    with _undone(net, 0, True, found, failed), torch.no_grad(), suppress(Exception):  # if it cannot run: nothing
        plain()
    _tell({}, failed, None, dict)
    return found


def _tell(found: _Found, failed: list[Exception], report: _Report | None, by_itself: Callable[[], _Found]) -> None:
    if failed:
        raise Disturbed(f"not restored: {'; '.join(map(repr, failed))}") from failed[0]
    usual = by_itself() if found else {}
    left = {what: [name for name in at if name not in usual.get(what, ())] for what, at in reversed(found.items())}
    changes = [what.replace("@", shorten(", ".join(at[::-1]), 99)) for what, at in left.items() if at]
    if changes and report:
        report(changes)
    elif changes:
        warnings.warn(f"left behind and undone: {'; '.join(changes)}", stacklevel=2)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(map(is_, a.values(), b.values()))
    return a is b or (isinstance(a, bool | int | str | tuple) and type(a) is type(b) and a == b)


@dataclass
class _Kept:
    """One thing of each owner that can be read, written and compared; what it is before the block and within."""

    left: str  # what to say of a change left behind: @ is the owner, {0} the value or entry, {1} the verb; '': nothing
    owners: dict[str, Any]
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], object]
    within: Any = ...  # as before
    same: Callable[[Any, Any], bool] = _same

    def __post_init__(self) -> None:
        self.before = self.now()
        self.inside = dict(self.before) if self.within is ... else dict.fromkeys(self.owners, self.within)

    def now(self) -> dict[str, Any]:
        values: dict[str, Any] = dict.fromkeys(self.owners)
        for name, owner in self.owners.items():
            with suppress(Exception):  # torch refuses to read precisions that contradict each other
                values[name] = self.read(owner)
        return values

    def enter(self) -> None:
        for name, value in self.inside.items():
            if value is not self.before[name] and not self.same(value, self.before[name]):
                self.write(self.owners[name], value)

    def undo(self, found: _Found, failed: list[Exception]) -> None:
        now = self.now() if self.before else {}
        while self.before:
            name = next(reversed(self.before))
            try:
                self.put_back(name, now[name], found)
            except Exception as error:  # the rest must be undone all the same
                failed.append(error)
            del self.before[name]

    def put_back(self, name: str, now: Any, found: _Found) -> None:
        before, inside = self.before[name], self.inside[name]
        clean = self.same(now, inside)
        if not clean or inside is not before:
            self.write(self.owners[name], before)
        for what in [] if clean or not self.left else _changes(self.left, inside, now):
            found.setdefault(what, []).append(name)


def _changes(left: str, inside: Any, now: Any) -> list[str]:
    if not isinstance(inside, dict):
        return [left.format(now)]
    keys = [key for key in inside | now if inside.get(key, ...) is not now.get(key, ...)]
    loud = [key for key in keys if key[0].endswith("_hooks") or "_hook" not in str(key)]  # torch adds others to hooks
    nouns = {key: key[0].strip("_<>")[:-1].replace("_", " ") + f" {key[1]!r}" * isinstance(key[1], str) for key in loud}
    return [left.format(noun, "left on" if key in now else "removed from") for key, noun in nouns.items()]


def _everything(net: nn.Module, seed: int, backup: bool) -> Iterator[_Kept]:
    yield from (_Kept("", {"": switch}, *_CALLED, switch[2]) for switch in streams(seed))
    units = ("cudnn.conv", "cudnn.rnn", "cuda.matmul", "mkldnn.conv", "mkldnn.rnn", "mkldnn.matmul", "cudnn", "mkldnn")
    precisions = {unit: attrgetter(unit)(backends) for unit in units} | {"all": backends}
    yield _Kept("", precisions, *_attribute("fp32_precision"))  # undone after the flags, which rewrite them
    for flag in ("enabled", "deterministic", "benchmark", "allow_tf32"):
        yield _Kept(f"@ {flag} set to {{0}}", {"cudnn": backends.cudnn, "mkldnn": backends.mkldnn}, *_attribute(flag))
    devices = {f"{device} autocast": device for device in ("cpu", "cuda", "mps", "xpu")}
    yield _Kept("@ set to {0}", devices, torch.is_autocast_enabled, torch.set_autocast_enabled, False)
    yield _Kept("@ dtype set to {0}", devices, torch.get_autocast_dtype, torch.set_autocast_dtype)
    yield from (_Kept("@ set to {0}", {name: switch}, *_CALLED, switch[2]) for name, *switch in switches())
    modules = {path or "the network": module for path, module in net.named_modules()}
    hooks = {key: value for key, value in vars(nn.modules.module).items() if key.startswith("_global")}
    tables = {"every module": hooks} | {name: vars(module) for name, module in modules.items()}
    yield _Kept("{0} {1} @", tables, _contents, _refill)
    yield _Kept("class of @", modules, *_attribute("__class__"))
    yield _Kept("training mode of @", modules, *_attribute("training"), False)
    own = {f"{at}.{key}": v for at, table in tables.items() for key, v in table.items() if isinstance(v, Tensor)}
    yield from _tensors("tensor", own, backup)
    yield from _tensors("buffer", dict(net.named_buffers()), backup)
    yield from _tensors("parameter", dict(net.named_parameters()), backup)


def _attribute(name: str) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    return attrgetter(name), lambda owner, value: setattr(owner, name, value)


def _contents(table: dict[str, Any]) -> dict[tuple, Any]:
    """By (dict, key) the attributes, and what is in the dicts among them: hooks, submodules, parameters, buffers."""
    dicts = {"<attributes>": table} | {name: value for name, value in table.items() if isinstance(value, dict)}
    return {(name, key): value for name, entries in dicts.items() for key, value in entries.items()}


def _refill(table: dict[str, Any], contents: dict[tuple, Any]) -> None:
    table.clear()
    for (name, key), value in contents.items():  # a dict comes before its entries
        (table if name == "<attributes>" else table[name])[key] = value
        if name == "<attributes>" and isinstance(value, dict):
            value.clear()


def _tensors(kind: str, tensors: dict[str, Tensor], backup: bool) -> Iterator[_Kept]:
    leaves = {name: tensor for name, tensor in tensors.items() if tensor.is_leaf}  # others warn when asked for .grad
    yield _Kept("gradient left on @", leaves, *_attribute("grad"), None)
    for of in map(attrgetter, ("_backward_hooks", "_post_accumulate_grad_hooks")):  # None does not empty the latter
        read = partial(lambda of, tensor: tuple((of(tensor) or {}).items()), of)
        write = partial(lambda of, tensor, hooks: (of(tensor).clear(), of(tensor).update(hooks)), of)
        yield _Kept("gradient hook left on @", leaves, read, write, ())
    yield _Kept("requires_grad of @", leaves, *_attribute("requires_grad"))
    yield _Kept("graph left on @", leaves, attrgetter("is_leaf"), lambda tensor, _: tensor.detach_())
    plain = {n: t for n, t in tensors.items() if t.layout is torch.strided and type(t.data) is Tensor and not t.is_meta}
    yield (place := _Kept(f"{kind} @ replaced", plain, *_attribute("data"), same=Tensor.is_set_to))
    bits = {name: home.view(_INTEGERS[home.element_size()]) for name, home in place.before.items() if backup}
    yield (content := _Kept(f"{kind} @ changed in place", bits, Tensor.detach, Tensor.copy_, same=torch.equal))
    content.before = content.inside = {name: home.clone() for name, home in bits.items()}
