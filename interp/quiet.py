"""Look at a network without disturbing it: what is done within `with quiet(net):` is undone when the block ends.

All that can be put back is a `_Setting`: a value that is read, written and compared. Not undone: warning filters
(imports extend them for good), lists among attributes, changes to classes, what others own (optimizers, loaders).
"""

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, is_
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor, backends, get_default_device, nn, set_default_device
from torch.backends import cudnn, mkldnn

_Report = Callable[[list[str]], None]
_Found = dict[str, list[str]]  # what was left, and where: {"gradient left on @": ["fc.weight", "fc.bias"]}
_SILENT = ("_is_full_backward_hook", "_with_kwargs", "_always_called", "_buffers_set")  # torch adds them to others


class Disturbed(RuntimeError):
    """Something could not be put back as it was: training must not go on."""


@contextmanager
def quiet(net: nn.Module, *, seed: int = 0, report: _Report | None = None, backup: bool = True) -> Iterator[nn.Module]:
    """Yield `net` in eval mode, not compiled, without autocast, gradients possible, random numbers from `seed`.

    Afterwards all is as before: gradients, which are set aside meanwhile, and with `backup` weights and buffers too.
    `report` gets what the block left changed, else one warning tells. Raises Disturbed if something is not restored.
    """
    found: _Found = {}
    failed: list[Exception] = []
    with ExitStack() as stack:
        stack.callback(_tell, found, failed, report)
        stack.enter_context(torch.inference_mode(False))  # Lightning validates in it, and enable_grad does not end it
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for setting in _settings(net, seed, backup):
            stack.callback(setting.undo, found, failed)  # before the change: an interrupt in between loses nothing
            if not (setting.within is setting.before or setting.same(setting.within, setting.before)):
                setting.write(setting.within)
        yield net


def _tell(found: _Found, failed: list[Exception], report: _Report | None) -> None:
    if failed:
        raise Disturbed(f"not restored: {'; '.join(map(repr, failed))}") from failed[0]
    changes = [what.replace("@", shorten(", ".join(at[::-1]), 99)) for what, at in reversed(found.items())]
    if changes and report:
        report(changes)
    elif changes:
        warnings.warn(f"left behind and undone: {'; '.join(changes)}", stacklevel=2)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return len(a) == len(b) and all(map(is_, (*a, *a.values()), (*b, *b.values())))
    return a is b or (isinstance(a, bool | int | str | tuple) and type(a) is type(b) and a == b)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}[a.element_size()]
    return torch.equal(a.view(integer), b.view(integer))


@dataclass
class _Setting:
    """A value that can be read, written and compared; what it is before the block and within."""

    left: str  # what to say of a change left behind: @ is `where`, {0} the value or key, {1} the verb; '' says nothing
    where: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    within: Any = ...  # as before
    same: Callable[[Any, Any], bool] = _same

    def __post_init__(self) -> None:
        self.before = self.now()
        self.within = self.before if self.within is ... else self.within

    def now(self) -> Any:
        with suppress(Exception):  # torch refuses to read precisions that contradict each other
            return self.read()
        return None

    def undo(self, found: _Found, failed: list[Exception]) -> None:
        try:
            now = self.now()
            changes = [] if self.same(now, self.within) else self.changes(now)
            if not self.same(now, self.before):
                self.write(self.before)
            for what in filter(None, changes):
                found.setdefault(what, []).append(self.where)
        except Exception as error:  # the rest must be undone all the same
            failed.append(error)

    def changes(self, now: Any) -> list[str]:
        if not isinstance(self.within, dict):
            return [self.left.format(now)]
        keys = [key for key in self.within | now if self.within.get(key, ...) is not now.get(key, ...)]
        verbs = {key: "left on" if key in now else "removed from" for key in keys if not str(key).endswith(_SILENT)}
        return [self.left.format(key, verb) for key, verb in verbs.items()]


def _settings(net: nn.Module, seed: int, backup: bool) -> Iterator[_Setting]:
    """All that is saved, in the reverse of the order in which it is undone."""
    yield from (_Setting("", "", *row) for row in _random_states(seed))
    yield from (_Setting("@ set to {0}" if row[0] else "", *row) for row in _states_of_torch())
    yield from _attributes("every module", {k: v for k, v in vars(nn.modules.module).items() if k[:7] == "_global"})
    for path, module in net.named_modules():
        yield from _attributes(where := path or "the network", vars(module))
        yield _Setting("class of @", where, *_attribute(module, "__class__"))
        yield _Setting("training mode of @", where, *_attribute(module, "training"), within=False)
    for kind, name, tensor in _tensors(net):
        yield from _tensor(kind, name, tensor, backup)


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return partial(getattr, owner, name), partial(setattr, owner, name)


def _random_states(seed: int) -> Iterator[tuple]:
    """(read, write, seeded state) of each stream; torch.manual_seed would also visit a CUDA that nobody uses."""
    yield random.getstate, random.setstate, random.Random(seed).getstate()
    yield partial(np.random.get_state, False), np.random.set_state, np.random.RandomState(seed).get_state(False)
    mps = [torch.mps._get_default_mps_generator()] if backends.mps.is_available() else []
    for stream in (torch.default_generator, *torch.cuda.default_generators, *mps):  # none of a CUDA not yet in use
        yield stream.get_state, stream.set_state, torch.Generator(stream.device).manual_seed(seed).get_state()


def _states_of_torch() -> Iterator[tuple]:
    """(name, read, write[, value within the block]) of what torch keeps for everybody."""
    units = attrgetter("cudnn.conv", "cudnn.rnn", "cuda.matmul", "mkldnn.conv", "mkldnn.rnn", "mkldnn.matmul")
    for unit in (*units(backends), cudnn, mkldnn, backends):
        yield "", *_attribute(unit, "fp32_precision")  # undone after the flags below, which rewrite them
    for flag in ("enabled", "deterministic", "benchmark", "allow_tf32"):
        yield f"cudnn {flag}", *_attribute(cudnn, flag)
    yield "mkldnn enabled", *_attribute(mkldnn, "enabled")
    for device in ("cpu", "cuda", "mps", "xpu"):
        is_on, switch = partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device)
        yield f"{device} autocast", is_on, switch, False
        dtype, cast = partial(torch.get_autocast_dtype, device), partial(torch.set_autocast_dtype, device)
        yield f"{device} autocast dtype", dtype, cast
    yield "autocast cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, False  # it may be stale
    enter, leave = torch.autocast_increment_nesting, torch.autocast_decrement_nesting
    yield "autocast nesting", lambda: enter() and leave(), lambda depth: [leave() for _ in range(enter() - depth)]
    yield "float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield "default dtype", torch.get_default_dtype, torch.set_default_dtype
    yield "default device", lambda: str(get_default_device()), lambda d: set_default_device(None if d == "cpu" else d)
    yield "thread count", torch.get_num_threads, torch.set_num_threads
    yield "gradient mode", torch.is_grad_enabled, torch.set_grad_enabled, True
    yield "deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    yield "anomaly mode", torch.is_anomaly_enabled, torch.set_anomaly_enabled


def _attributes(where: str, table: dict[str, Any]) -> Iterator[_Setting]:
    """The attributes, and what is in the dicts among them: hooks, submodules, parameters, buffers."""
    yield _Setting("attribute {0!r} {1} @", where, partial(dict, table), partial(_refill, table))
    for key, value in list(table.items()):
        noun = key.removeprefix("_global").strip("_").removesuffix("s").replace("_", " ")
        left = "" if key.endswith(_SILENT) else noun + (" {1} @" if key.endswith("hooks") else " {0!r} {1} @")
        if isinstance(value, dict):
            yield _Setting(left, where, partial(dict, value), partial(_refill, value))


def _refill(table: dict, items: dict) -> None:
    table.clear()
    table.update(items)


def _tensors(net: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    yield from (("parameter", *named) for named in net.named_parameters())
    yield from (("buffer", *named) for named in net.named_buffers())
    own = ((f"{path}.{key}", value) for path, module in net.named_modules() for key, value in vars(module).items())
    yield from (("tensor", name.lstrip("."), value) for name, value in own if isinstance(value, Tensor))


def _tensor(kind: str, name: str, tensor: Tensor, backup: bool) -> Iterator[_Setting]:
    if tensor.is_leaf:  # asking any other for its gradient warns
        yield _Setting("gradient left on @", name, *_attribute(tensor, "grad"), within=None)
        for key in ("_backward_hooks", "_post_accumulate_grad_hooks"):  # torch forgets neither when set to None
            read = partial(lambda key: dict(getattr(tensor, key) or {}), key)
            write = partial(lambda key, hooks: _refill(getattr(tensor, key), hooks), key)
            yield _Setting("gradient hook left on @", name, read, write, within={})
        wanted = partial(attrgetter("requires_grad", "is_leaf"), tensor)
        yield _Setting("requires_grad of @", name, wanted, lambda state: tensor.detach_().requires_grad_(state[0]))
    if tensor.layout is torch.strided and not (tensor.is_meta or hasattr(tensor, "__tensor_flatten__")):
        yield _Setting(f"{kind} @ replaced", name, *_attribute(tensor, "data"), same=Tensor.is_set_to)
        home = tensor.detach()  # written in place, because optimizers hold the tensor
        content = _Setting(f"{kind} @ changed in place", name, lambda: home, home.copy_, same=_same_bits)
        content.before = content.within = home.clone() if backup else home
        yield content
