"""What may interrupt a piece of work in the main thread: signals, which can be held back or noted, and a time limit."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Thread, current_thread, main_thread
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


def interrupt(number: int, frame: Any) -> None:
    """A handler that raises KeyboardInterrupt with the signal's number, unless a handler over it decides."""
    if signal.getsignal(number) is interrupt:
        raise KeyboardInterrupt(number)


RAISING = (signal.default_int_handler, interrupt)


class Noted:
    """A handler that only notes the numbers of the signals: all processes end together, at the next place they share.

    A study ends at once all the same: `held_back` sees to it.
    """

    def __init__(self) -> None:
        self.numbers: set[int] = set()

    def __call__(self, number: int, frame: Any = None) -> None:
        self.numbers.add(number)


def interrupt_if_noted() -> None:
    """Raise KeyboardInterrupt where a `Noted` handler has got its signal."""
    for number in ENDING:
        if isinstance(handler := signal.getsignal(number), Noted) and number in handler.numbers:
            raise KeyboardInterrupt(int(number))


def obey_parent(worker: int = 0) -> None:
    """Let a loader's worker process live through the signals that all processes of a job get; SIGTERM from the parent
    ends it. Where the system does not say who sends a signal (macOS, Windows) nothing changes.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    for number in set(ENDING) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Thread(target=_wait_for, args=(os.getppid(),), name="signals", daemon=True).start()


def _wait_for(sender: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != sender:
        pass
    os._exit(0)  # also where the main thread hangs


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal that raised `error`: SIGINT unless it says otherwise."""
    return signal.Signals(error.args[0]) if error.args else signal.SIGINT


@contextmanager
def held_back() -> Iterator[None]:
    """Let no handler of SIGTERM and SIGUSR1 run within the block; what arrived is delivered right after it.

    Ctrl-C, and whatever else raises KeyboardInterrupt, ends the block at once, as the user wants, and further ones do
    not disturb what is put back then. By handlers, not by `pthread_sigmask`: Python runs a handler in the main thread
    whichever thread the signal reached, and torch and W&B have threads. Outside the main thread, where no handler can
    be set, nothing is held back.
    """
    if current_thread() is not main_thread():
        yield
        return
    arrived, raising = set[int](), list[int]()
    with ExitStack() as stack:  # undone in reverse: Ctrl-C comes back last, and interrupts nothing of this
        for number in ENDING:
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN):
                stack.callback(_give_back, number, before, arrived)
                raising += [number] if before in RAISING else []
                ends = before in RAISING or isinstance(before, Noted)
                signal.signal(number, partial(_end if ends else _hold, arrived))
        yield
        for number in raising:
            if number in arrived:
                raise KeyboardInterrupt(number)  # the block has swallowed it


def _hold(arrived: set[int], number: int, frame: Any) -> None:
    arrived.add(number)


def _end(arrived: set[int], number: int, frame: Any) -> None:
    if number in arrived:
        return
    arrived.add(number)
    if (late := _late.get()) is None:
        raise KeyboardInterrupt(number)
    late.append(KeyboardInterrupt(number))


def _give_back(number: int, handler: Any, arrived: set[int]) -> None:
    signal.signal(number, handler)
    if number in arrived and handler not in RAISING:
        signal.raise_signal(number)


class _TimeUp(BaseException):
    """Passes any `except Exception` within the block."""


_late: ContextVar[list[BaseException] | None] = ContextVar("late", default=None)  # what comes in `uninterrupted`


@contextmanager
def uninterrupted() -> Iterator[list[BaseException]]:
    """Let neither a time limit nor Ctrl-C in `held_back` end the block; the list holds what would have."""
    if (late := _late.get()) is not None:
        yield late
        return
    token = _late.set(late := [])
    try:
        yield late
    finally:
        _late.reset(token)


@contextmanager
def undivided() -> Iterator[None]:
    """Let neither a time limit nor Ctrl-C in `held_back` end the block in the middle: what came ends it right after."""
    outermost = _late.get() is None
    with uninterrupted() as late:
        yield
    if outermost and late:
        raise late[0]


@contextmanager
def time_limit(seconds: float | None, advice: str = "") -> Iterator[None]:
    """Raise TimeoutError where the block takes longer than `seconds`; None is no limit.

    What hangs inside a library's C code is interrupted when that comes back to Python. Outside the main thread, and
    on Windows, there is no limit.
    """
    if seconds is None or current_thread() is not main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        if (late := _late.get()) is None:
            raise _TimeUp
        late.append(_TimeUp())

    handler, began = signal.signal(signal.SIGALRM, ring), time.monotonic()
    delay, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, where a bare except swallows it

    def restore() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if delay:
            left = max(0.001, delay - (time.monotonic() - began))
            signal.setitimer(signal.ITIMER_REAL, left, interval)

    try:
        try:
            yield
        finally:
            restore()
    except _TimeUp as up:
        restore()
        raise TimeoutError(f"took longer than {seconds:g} seconds{advice}") from up
