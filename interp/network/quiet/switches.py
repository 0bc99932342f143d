"""What Python, NumPy and torch keep for everybody: streams of random numbers and switches, as rows that restore."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import backends, get_default_device, set_default_device
from torch.utils import checkpoint

from interp.network.quiet.kept import AS_BEFORE, Kept, attribute

UNITS = ("cudnn.conv", "cudnn.rnn", "cuda.matmul", "mkldnn.conv", "mkldnn.rnn", "mkldnn.matmul", "cudnn", "mkldnn")
SET = "{owners} set to {value}"


def streams(seed: int) -> Iterator[Kept]:
    """Each stream of random numbers, which starts from `seed` within the block."""
    yield _switch("", random.getstate, random.setstate, random.Random(seed).getstate())
    numpys = np.random.RandomState(seed % 2**32).get_state(False)
    yield _switch("", partial(np.random.get_state, False), np.random.set_state, numpys)
    mps = [torch.mps._get_default_mps_generator()] if backends.mps.is_available() else []
    for stream in (torch.default_generator, *torch.cuda.default_generators, *mps):  # none of a CUDA not yet in use
        seeded = torch.Generator(stream.device).manual_seed(seed).get_state()
        yield _switch("", stream.get_state, stream.set_state, seeded)


@contextmanager
def random_numbers_kept(seed: int) -> Iterator[None]:
    """Within, each stream of random numbers starts from `seed`; afterwards it goes on as if nothing had been drawn."""
    with ExitStack() as stack:
        for kept in streams(seed):
            stack.callback(kept.undo, {}, [])
            kept.enter()
        yield


def switches() -> Iterator[Kept]:
    """What else is kept for everybody: precisions, autocast, defaults and modes of torch."""
    units = {unit: attrgetter(unit)(backends) for unit in UNITS} | {"all": backends}
    yield attribute("fp32_precision", units)  # undone after the flags, which rewrite them
    for flag in ("enabled", "deterministic", "benchmark", "allow_tf32"):
        libraries = {"cudnn": backends.cudnn, "mkldnn": backends.mkldnn}
        yield attribute(flag, libraries, f"{{owners}} {flag} set to {{value}}")
    devices = {f"{device} autocast": device for device in ("cpu", "cuda", "mps", "xpu")}
    yield Kept(devices, torch.is_autocast_enabled, torch.set_autocast_enabled, within=False, wording=SET)
    yield Kept(devices, torch.get_autocast_dtype, torch.set_autocast_dtype, wording="{owners} dtype set to {value}")
    cache = torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled
    yield _switch("autocast cache", *cache, False)  # it may be stale
    yield _switch("autocast nesting", _nesting, _set_nesting)
    yield _switch("float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    yield _switch("default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield _switch("default device", lambda: str(get_default_device()), _set_device)
    yield _switch("thread count", torch.get_num_threads, torch.set_num_threads)
    yield _switch("gradient mode", torch.is_grad_enabled, torch.set_grad_enabled, True)
    yield _switch("deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode)
    yield _switch("anomaly mode", torch.is_anomaly_enabled, torch.set_anomaly_enabled)
    yield attribute("CheckpointFunction", {"checkpointing": checkpoint}, SET, within=_Straight)


def _switch(name: str, read: Callable[[], Any], write: Callable[[Any], object], within: Any = AS_BEFORE) -> Kept:
    """What there is once; without a name it is not told that it was changed."""
    once: dict[str, Any] = {name: None}
    return Kept(once, lambda _: read(), lambda _, value: write(value), within=within, wording=name and SET)


def _nesting() -> int:
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _set_nesting(depth: int) -> None:
    for _ in range(torch.autocast_increment_nesting() - depth):
        torch.autocast_decrement_nesting()


def _set_device(device: str) -> None:
    set_default_device(None if device == "cpu" else device)


class _Straight:
    """In place of a reentrant checkpoint, which keeps no graph of its inside: the function itself, with its graph."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *inputs: Any) -> Any:
        return function(*inputs)
