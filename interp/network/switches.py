"""What Python, NumPy and torch keep for everybody: streams of random numbers and switches, each read and written."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import backends, get_default_device, set_default_device
from torch.utils import checkpoint


def streams(seed: int) -> Iterator[tuple]:
    """(read, write, state from `seed`) of each stream of random numbers."""
    yield random.getstate, random.setstate, random.Random(seed).getstate()
    yield partial(np.random.get_state, False), np.random.set_state, np.random.RandomState(seed % 2**32).get_state(False)
    mps = [torch.mps._get_default_mps_generator()] if backends.mps.is_available() else []
    for stream in (torch.default_generator, *torch.cuda.default_generators, *mps):  # none of a CUDA not yet in use
        yield stream.get_state, stream.set_state, torch.Generator(stream.device).manual_seed(seed).get_state()


def switches() -> Iterator[tuple]:
    """(name, read, write, value within the block or ... for as before) of what torch keeps for everybody."""
    yield "autocast cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, False  # it may be stale
    enter, leave = torch.autocast_increment_nesting, torch.autocast_decrement_nesting
    yield "autocast nesting", lambda: enter() and leave(), lambda depth: [leave() for _ in range(enter() - depth)], ...
    yield "float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, ...
    yield "default dtype", torch.get_default_dtype, torch.set_default_dtype, ...
    device, set_device = lambda: str(get_default_device()), lambda d: set_default_device(None if d == "cpu" else d)
    yield "default device", device, set_device, ...
    yield "thread count", torch.get_num_threads, torch.set_num_threads, ...
    yield "gradient mode", torch.is_grad_enabled, torch.set_grad_enabled, True
    yield "deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, ...
    yield "anomaly mode", torch.is_anomaly_enabled, torch.set_anomaly_enabled, ...
    checkpoints = partial(getattr, checkpoint, "CheckpointFunction"), partial(setattr, checkpoint, "CheckpointFunction")
    yield "checkpointing", *checkpoints, _Straight


class _Straight:
    """In place of a reentrant checkpoint, which keeps no graph of its inside: the function itself, with its graph."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *inputs: Any) -> Any:
        return function(*inputs)
