"""What may interrupt a piece of work in the main thread: signals held back, a time limit."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import current_thread, main_thread
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


@contextmanager
def held_back() -> Iterator[None]:
    """Let no handler of SIGTERM and SIGUSR1 run within the block; what arrived is delivered right after it.

    Ctrl-C ends the block at once by KeyboardInterrupt, as the user wants, and further ones do not disturb what is put
    back then. By handlers, not by `pthread_sigmask`: Python runs a handler in the main thread whichever thread the
    signal reached, and torch and W&B have threads. Outside the main thread, where no handler can be set, nothing is
    held back.
    """
    if current_thread() is not main_thread():
        yield
        return
    arrived: set[int] = set()

    def hold(number: int, frame: Any) -> None:
        arrived.add(number)

    def interrupt(number: int, frame: Any) -> None:
        if number not in arrived:
            arrived.add(number)
            raise KeyboardInterrupt

    with ExitStack() as stack:  # undone in reverse: Ctrl-C comes back last, and interrupts nothing of this
        for number in ENDING:
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN):
                stack.callback(_give_back, number, before, arrived)
                signal.signal(number, interrupt if before is signal.default_int_handler else hold)
        yield
        if signal.SIGINT in arrived and signal.getsignal(signal.SIGINT) is interrupt:
            raise KeyboardInterrupt  # the block has swallowed it


def _give_back(number: int, handler: Any, arrived: set[int]) -> None:
    signal.signal(number, handler)
    if number in arrived and handler is not signal.default_int_handler:
        signal.raise_signal(number)


class _TimeUp(BaseException):
    """Passes any `except Exception` within the block."""


_late: ContextVar[list[bool] | None] = ContextVar("late", default=None)  # what `undivided` notes


@contextmanager
def undivided() -> Iterator[None]:
    """Let no time limit end the block in the middle; one that was reached meanwhile ends it right after."""
    if _late.get() is not None:
        yield
        return
    late: list[bool] = []
    token = _late.set(late)
    try:
        yield
    finally:
        _late.reset(token)
    if late:
        raise _TimeUp


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
        late.append(True)

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
