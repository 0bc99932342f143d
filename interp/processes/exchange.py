"""What processes that study together send each other; `interp.processes.share` is what studies use.

Exchanges run on a gloo group of their own, over the processors' memory: exact in float64 and int64 whatever the device,
and as patient as the look that they belong to, whatever the training's own group is.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist

from interp.errors import UserError
from interp.network.quiet import Disturbed
from interp.processes.signals import undivided

GRACE = 300.0  # seconds that processes wait for each other beyond the time limit of what they do
BETWEEN = 1800.0  # seconds where what they do has no limit of its own, as torch's own groups
LONGEST = timedelta(days=10_000)  # of those that have no limit
ALIKE = {kind.__name__: kind for kind in (UserError, Disturbed, torch.OutOfMemoryError)}
NOTHING = "nothing to put together: no process has any images"


class PeerFailed(RuntimeError):
    """What another process raised. UserError, Disturbed, OutOfMemoryError and KeyboardInterrupt are raised as such."""


class ProcessLost(UserError):
    """A process did not come to an exchange in time, or is gone: the others cannot go on without it."""


@contextmanager
def _reaching(limit: timedelta, what: str) -> Iterator[None]:
    """Turn what torch raises where a process is late or gone into a ProcessLost that names it, if torch does."""
    began = time.monotonic()
    try:
        yield
    except RuntimeError as error:
        named = re.search(r"Ranks? ([\d, ]+) failed to pass|keys: \S*/(\d+)$|recv from rank (\d+)\.", str(error), re.M)
        rank, size = place()
        other = f"process {1 - rank}" if size == 2 else "another process"
        who = f"process {next(filter(None, named.groups()))}" if named else other
        late = time.monotonic() - began > 0.9 * limit.total_seconds()
        hangs = f"did not come within {limit.total_seconds():g} seconds: it hangs, or waits for one that does"
        how = hangs if late else "is gone: its own output says why"
        raise ProcessLost(f"{who} {how}. The others cannot go on without it ({what})") from error


@cache  # there are no more than the limits of the studies
def _group_of(world: object, limit: timedelta) -> dist.ProcessGroup:
    return cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=limit))


def place() -> tuple[int, int]:
    """The rank of this process and the number of processes: (0, 1) of one."""
    several = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if several else (0, 1)


def meeting(what: str, seconds: float | None) -> "Study | None":
    """What all processes do together, each waiting at most `seconds` for another; None where there is one process.

    All of them must call it alike: the first call with such a limit makes their group. Raises ProcessLost.
    """
    if place()[1] == 1:
        return None
    limit = LONGEST if seconds is None else timedelta(seconds=seconds)
    with _reaching(limit, what):
        return Study(_group_of(dist.group.WORLD, limit), limit, what)


def anywhere(numbers: set[int], seconds: float = BETWEEN) -> set[int]:
    """The numbers below 128 that any process brings, in one quick exchange. Raises ProcessLost."""
    if (study := meeting("signals", seconds)) is None:
        return numbers
    flags = torch.zeros(128, dtype=torch.uint8)
    flags[list(numbers)] = 1
    with _reaching(study.limit, study.what):
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=study.group)
    return set(flags.nonzero().flatten().tolist())


@dataclass
class Study:
    """One study of all processes, on each of them.

    No time limit of a look ends an exchange in the middle: the others would take the next one for the rest of it.
    An exchange has its own, after which the process ends. Every method raises ProcessLost.
    """

    group: dist.ProcessGroup
    limit: timedelta
    what: str = ""
    told: bool = False  # that a process failed, so that all are about to leave
    alone: bool = False  # the others have done their part

    def __post_init__(self) -> None:
        self.rank, self.size = self.group.rank(), self.group.size()

    @undivided()
    def tell(self, what: str, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """Every process's `value`; raises on all of them if one brought an `error`, or not all came for `what`.

        Of several errors it is the first process's, but any KeyboardInterrupt goes before.
        """
        words: list[Any] = [None] * self.size
        what = f"{self.what}: {what}" if self.what else what
        failure = (type(error).__name__, str(error)) if error else None
        with _reaching(self.limit, what):
            dist.monitored_barrier(self.group, self.limit, wait_all_ranks=True)
            dist.all_gather_object(words, (what, value, failure), group=self.group)
        failed = {rank: failure for rank, (*_, failure) in enumerate(words) if failure}
        self.told = bool(failed) or len({what for what, *_ in words}) > 1
        if failed:
            first = min(failed, key=lambda rank: (failed[rank][0] != KeyboardInterrupt.__name__, rank))
            raise error if error and self.rank == first else _alike(first, *failed[first])
        if self.told:
            raise PeerFailed(f"the processes are at different places: {', '.join(what for what, *_ in words)}")
        return [value for _, value, _ in words]

    @undivided()
    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, exact for integers, added in float64 otherwise."""
        total = tensor.detach().to("cpu", torch.float64 if tensor.is_floating_point() else torch.int64, copy=True)
        self.tell(f"sum of {tuple(tensor.shape)}")
        with _reaching(self.limit, self.what):
            dist.all_reduce(total, group=self.group)
        return total.to(tensor)

    @undivided()
    def fold(self, mine: Tensor | None, merge: Callable[[Tensor, Tensor], Tensor], *, to_all: bool) -> Tensor:
        """`merge` of the tensors of those that have one: on all processes, or on the first, others getting rubbish.

        The first merges them in order, two in memory at once. Sent as bytes, so that no bit and no dtype changes.
        """
        shapes = self.tell("tensors", None if mine is None else (tuple(mine.shape), mine.dtype))
        if not any(shapes):
            raise ValueError(NOTHING)
        device = torch.device("cpu") if mine is None else mine.device
        merged = mine
        for source in [source for source in range(1, self.size) if shapes[source]]:
            self.tell(f"tensor of process {source}")  # none waits to send to a first that has failed
            theirs = self._sent_to_first(source, mine, *shapes[source])
            if theirs is not None:
                merged = theirs.to(device) if merged is None else merge(merged.detach(), theirs.to(device))
        return self.first(merged).to(device) if to_all else torch.empty(0) if merged is None else merged.detach()

    def _sent_to_first(self, source: int, mine: Tensor | None, shape: tuple, dtype: torch.dtype) -> Tensor | None:
        if self.rank not in (0, source):
            return None
        tensor = torch.empty(shape, dtype=dtype) if self.rank == 0 or mine is None else mine.detach().cpu()
        content = _bytes(tensor)
        with _reaching(self.limit, self.what):
            if content.numel() and self.rank:
                dist.send(content, dst=0, group=self.group)
            elif content.numel():
                dist.recv(content, src=source, group=self.group)
        return None if self.rank else tensor

    @undivided()
    def first(self, tensor: Tensor | None) -> Tensor:
        """The first process's `tensor`, on the CPU."""
        description = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
        shape, dtype = self.tell("tensor of the first", description)[0]
        mine = tensor if self.rank == 0 and tensor is not None else torch.empty(shape, dtype=dtype)
        whole = mine.detach().cpu().contiguous()
        if whole.numel():
            with _reaching(self.limit, self.what):
                dist.broadcast(_bytes(whole), src=0, group=self.group)
        return whole


def _alike(rank: int, kind: str, message: str) -> BaseException:
    """What another process raised, as this one raises it."""
    if kind == KeyboardInterrupt.__name__:
        return KeyboardInterrupt(*([int(message)] if message.isdecimal() else []))
    text = message if kind in ALIKE else f"{kind}: {message}"
    return ALIKE.get(kind, PeerFailed)(f"{text} (on process {rank})")


def _bytes(tensor: Tensor) -> Tensor:
    """The memory of `tensor`, or of a copy of it where it is not contiguous, as uint8."""
    return tensor.contiguous().flatten().view(torch.uint8)
