"""Several gloo processes on this machine, each running one function of a test."""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from pathlib import Path
from threading import Barrier
from typing import Any, cast

import torch
from torch import distributed as dist
from torch import multiprocessing

from interp.processes import share
from interp.processes.background import Background
from interp.processes.exchange import Study


def on_processes(size: int, function: Callable[..., Any], folder: Path, *given: Any, seconds: float = 120) -> list[Any]:
    """What `function(rank, *given)` returned on each of `size` processes; they hand it over through files in `folder`.

    Raises what one of them raised, and TimeoutError where they are not done after so many `seconds`. Forked, since
    importing everything anew costs each some 15 s.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    work = (size, port, function, str(folder), given, seconds)
    context = multiprocessing.start_processes(_one, work, nprocs=size, join=False, start_method="fork")
    ends = time.monotonic() + seconds
    try:
        while not context.join(timeout=1, grace_period=5):
            if time.monotonic() > ends:
                raise TimeoutError(f"{size} processes are not done after {seconds} s")
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def unite(states: Sequence[Any]) -> None:
    """Call `unite()` of the states of as many processes, which are threads here: many times faster to start."""
    size, barrier = len(states), Barrier(len(states), timeout=60)
    sent: list[Any] = [None] * size

    def one(rank: int, state: Any) -> None:
        share._under_way.set(cast(Study, _Thread(rank, size, barrier, sent)))
        state.unite()

    with ThreadPoolExecutor(size) as threads:
        list(threads.map(one, range(size), states))


@dataclass
class _Thread:
    """What `unite` needs of a `Study`."""

    rank: int
    size: int
    barrier: Barrier
    sent: list[Any]
    alone: bool = False

    def _all(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.sent[self.rank] = tensor
        self.barrier.wait()
        everyones = list(self.sent)
        self.barrier.wait()
        return everyones

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return sum(self._all(tensor))

    def fold(self, mine: torch.Tensor, merge: Callable, *, to_all: bool) -> torch.Tensor:
        return reduce(merge, self._all(mine))


def _one(rank: int, size: int, port: int, function: Callable, folder: str, given: tuple, seconds: float) -> None:
    torch.set_num_threads(1)
    if base := sys.modules.get("plugins.base.keeping"):
        base._drawing = Background("drawing")  # threads do not survive a fork
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": size}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} | {k: str(v) for k, v in ranks.items()}
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=seconds))
    try:
        torch.save(function(rank, *given), Path(folder) / f"{rank}.pt")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
