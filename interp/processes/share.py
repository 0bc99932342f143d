"""Several processes study one network: each a share of the images, and what they find is put together.

On one process, and outside `together`, every function here gives back what it was given. What one process raises all
raise at the next exchange: nobody waits for a process that has given up, nor longer than the limit that `together` gets
for one that hangs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.processes.exchange import BETWEEN, NOTHING, PeerFailed, ProcessLost, Study, anywhere, meeting, place
from interp.processes.signals import uninterrupted

__all__ = ["PeerFailed", "ProcessLost", "anywhere", "before", "buffers_of_first", "everyones", "folded",
           "from_first", "gathered", "go_on_alone", "handed_in", "is_first", "part", "place", "summed",
           "together", "whole"]  # fmt: skip
T = TypeVar("T")
SHARDED = {"DTensor", "FlatParameter", "FullyShardedDataParallel", "FSDPModule"}  # named: importing them takes seconds
_under_way: ContextVar[Study | None] = ContextVar("study", default=None)  # not on the thread that draws


class _Helped(BaseException):
    """Leaves a study of which this process has done its part."""


def together(
    study: Callable[[], T], *, shared: bool = True, name: str = "", seconds: float | None = BETWEEN
) -> T | None:
    """What `study` returns, run by all processes; None on those that only helped the first.

    `shared` says that it divides its work with what follows here; otherwise the first process runs it alone. Returns or
    raises on all processes alike: what the first of those that failed raised (elsewhere as `PeerFailed`), Ctrl-C first
    of all. Raises ProcessLost where an exchange waits for a process longer than `seconds` (None: as long as it takes),
    with the `name` of the study.
    """
    if (mine := meeting(name, seconds)) is None:
        return study()
    token = _under_way.set(mine)
    try:
        with catch_warnings():
            if mine.rank:
                simplefilter("ignore")  # the first process warns for all
            result = _part_of(study, shared)
        _end(mine)
        return result
    except (Exception, KeyboardInterrupt) as error:
        if not mine.told and not isinstance(error, ProcessLost):
            _end(mine, error)
        raise
    finally:
        _under_way.reset(token)


def _end(study: Study, error: BaseException | None = None) -> None:
    with uninterrupted():  # from here on this process does as the others; signals are looked at after it
        study.tell("end", error=error)


def _part_of(study: Callable[[], T], shared: bool) -> T | None:
    try:
        if not shared:
            go_on_alone()
        return study()
    except _Helped:
        return None


def part(count: int, size: int = 1) -> range:
    """Which of `count` things, read `size` at a time, are this process's; see `portion`."""
    study = _sharing()
    return range(count) if study is None else portion(count, size, study.rank, study.size)


def portion(count: int, size: int, rank: int, processes: int) -> range:
    """Which of `count` things, read `size` at a time, are of process `rank`: the batches are those of one process.

    Portions follow each other in the order of the processes; with few batches the last ones are empty.
    """
    batches = -(-count // size)
    start, stop = (min(count, -(-batches * first // processes) * size) for first in (rank, rank + 1))
    return range(start, stop)


def is_first() -> bool:
    """Whether this process is the one that warns, draws and writes."""
    study = _under_way.get()
    return study is None or study.rank == 0


def go_on_alone() -> None:
    """Let the first process do the rest by itself: on the others the study ends here."""
    if (study := _sharing()) is None:
        return
    if study.rank:
        raise _Helped
    study.alone = True


def summed(tensor: Tensor) -> Tensor:
    """The sum of every process's `tensor`, in its dtype: exact for integers, added in float64 otherwise."""
    study = _sharing()
    return tensor if study is None else study.sum(tensor)


def gathered(parts: Sequence[Tensor]) -> Tensor:
    """The `parts` of all processes joined along their first dimension, in the order of the processes.

    A process may have none. Raises ValueError where no process has any.
    """
    return _joined(parts, to_all=True)


def handed_in(*columns: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Each column `gathered`, on the first process, which goes on alone: on the others the study ends here."""
    joined = tuple(_joined(parts, to_all=False) for parts in columns)
    go_on_alone()
    return joined


def before(count: int) -> int:
    """How many things the processes before this one have, where it has `count`."""
    study = _sharing()
    return 0 if study is None else sum(study.tell("counts", count)[: study.rank])


def folded(mine: Tensor, merge: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`merge` of the tensors of all processes, of any shapes, one after the other."""
    study = _sharing()
    return mine if study is None else study.fold(mine, merge, to_all=True)


def everyones(value: T) -> list[T]:
    """The values of all processes, in order: plain numbers, texts, tuples, lists and dicts."""
    study = _sharing()
    return [value] if study is None else study.tell("values", value)


def from_first(value: T, seconds: float | None = BETWEEN) -> T:
    """The first process's `value`, of plain numbers, texts, tuples, lists and dicts; also outside `together`, where
    it raises ProcessLost after `seconds` (None: as long as it takes).
    """
    if _under_way.get() is not None:
        return everyones(value)[0]
    study = meeting("value of the first", seconds)
    return value if study is None else study.tell("", value)[0]


def whole(net: nn.Module) -> None:
    """Raise UserError where weights of `net` lie in parts on several processes, as with FSDP and DTensor."""
    for name, part in (*net.named_modules(), *net.named_parameters()):
        if kinds := SHARDED.intersection(kind.__name__ for kind in type(part).__mro__):
            raise UserError(
                f"{name or type(part).__name__} is a {min(kinds)}: its weights are spread over processes, and studies "
                "need them whole; train with trainer.strategy=ddp, or study the finished checkpoint on one process"
            )


@contextmanager
def buffers_of_first(net: nn.Module) -> Iterator[None]:
    """Within the block `net` has the first process's buffers: batch-norm statistics differ between processes."""
    if (study := _sharing()) is None:
        yield
        return
    values = [buffer.clone() for buffer in net.buffers()]
    try:
        for buffer in net.buffers():
            buffer.copy_(study.first(buffer))
        yield
    finally:
        for buffer, before in zip(net.buffers(), values, strict=True):
            buffer.copy_(before)


def _sharing() -> Study | None:
    study = _under_way.get()
    return None if study is None or study.alone else study


def _joined(tensors: Sequence[Tensor], to_all: bool) -> Tensor:
    study, mine = _sharing(), torch.cat([tensor.detach() for tensor in tensors]) if tensors else None
    if study is not None:
        return study.fold(mine, lambda first, second: torch.cat([first, second]), to_all=to_all)
    if mine is None:
        raise ValueError(NOTHING)
    return mine
