"""What processes that study together send each other; `interp.share` is what studies use.

Exchanges run on a gloo group of their own, over the processors' memory: exact in float64 and int64 whatever the device,
and patient whatever the training's own group is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist

from interp.errors import UserError
from interp.quiet import Disturbed
from interp.signals import undivided

PATIENCE = timedelta(days=2)  # of processes that wait while the first studies alone
ALIKE = {kind.__name__: kind for kind in (UserError, Disturbed, torch.OutOfMemoryError)}
NOTHING = "nothing to put together: no process has any images"


class PeerFailed(RuntimeError):
    """What another process raised. UserError, Disturbed and OutOfMemoryError are raised as what they are instead."""


@lru_cache(maxsize=1)
def _group_beside(world: object) -> dist.ProcessGroup:
    return cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))


def all_processes() -> dist.ProcessGroup | None:
    """The group of all processes, made by all of them at the first call; None where there is one process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    return _group_beside(dist.group.WORLD)


@dataclass
class Study:
    """One study of all processes, on each of them.

    No time limit ends an exchange in the middle: the others would take the next one for the rest of it.
    """

    group: dist.ProcessGroup
    told: bool = False  # that a process failed, so that all are about to leave
    alone: bool = False  # the others have done their part

    def __post_init__(self) -> None:
        self.rank, self.size = self.group.rank(), self.group.size()

    @undivided()
    def tell(self, what: str, value: Any = None, error: Exception | None = None) -> list[Any]:
        """Every process's `value`; raises on all of them if one brought an `error`, or not all came for `what`."""
        words: list[Any] = [None] * self.size
        failure = (type(error).__name__, str(error)) if error else None
        dist.all_gather_object(words, (what, value, failure), group=self.group)
        failed = {rank: failure for rank, (*_, failure) in enumerate(words) if failure}
        self.told = bool(failed) or len({what for what, *_ in words}) > 1
        if error and self.rank == next(iter(failed)):
            raise error
        for rank, (kind, message) in failed.items():
            text = message if kind in ALIKE else f"{kind}: {message}"
            raise ALIKE.get(kind, PeerFailed)(f"{text} (on process {rank})")
        if self.told:
            raise PeerFailed(f"the processes are at different places: {', '.join(what for what, *_ in words)}")
        return [value for _, value, _ in words]

    @undivided()
    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, exact for integers, added in float64 otherwise."""
        total = tensor.detach().to("cpu", torch.float64 if tensor.is_floating_point() else torch.int64, copy=True)
        self.tell(f"sum of {tuple(tensor.shape)}")
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
        found = mine
        for source in [source for source in range(1, self.size) if shapes[source]]:
            self.tell(f"tensor of process {source}")  # none waits to send to a first that has failed
            if self.rank == source and mine is not None and mine.numel():
                dist.send(_bytes(mine.detach().cpu()), dst=0, group=self.group)
            if self.rank == 0:
                theirs = torch.empty(shapes[source][0], dtype=shapes[source][1])
                if theirs.numel():
                    dist.recv(_bytes(theirs), src=source, group=self.group)
                found = theirs.to(device) if found is None else merge(found.detach(), theirs.to(device))
        return self.first(found).to(device) if to_all else torch.empty(0) if found is None else found.detach()

    @undivided()
    def first(self, tensor: Tensor | None) -> Tensor:
        """The first process's `tensor`, on the CPU."""
        about = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
        shape, dtype = self.tell("tensor of the first", about)[0]
        mine = tensor if self.rank == 0 and tensor is not None else torch.empty(shape, dtype=dtype)
        whole = mine.detach().cpu().contiguous()
        if whole.numel():
            dist.broadcast(_bytes(whole), src=0, group=self.group)
        return whole


def _bytes(tensor: Tensor) -> Tensor:
    """The memory of `tensor`, or of a copy of it where it is not contiguous, as uint8."""
    return tensor.contiguous().flatten().view(torch.uint8)
