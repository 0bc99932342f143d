"""Work on one background thread that can be given up."""

import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

_Work = tuple[Future, Callable[[], Any]]


class Background:
    """Does one piece of work after the other, on a daemon thread: what hangs does not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._queue: SimpleQueue[_Work] | None = None
        self._process = os.getpid()

    def submit(self, work: Callable, *arguments: Any, **options: Any) -> Future:
        """A future of what `work(*arguments, **options)` returns or raises, begun when all before it is done."""
        future: Future = Future()
        if self._process != os.getpid():  # a fork has the queue without the thread
            self._queue, self._process = None, os.getpid()
        (self._queue or self._start()).put((future, partial(work, *arguments, **options)))
        return future

    def outcome(self, future: Future, seconds: float) -> BaseException | None:
        """What went wrong with a piece of work, if anything; a TimeoutError where it hangs longer than `seconds`.

        What hangs is left to itself, and what waits behind it is done on a new thread.
        """
        while not wait([future], seconds).done:
            hangs = future.running()  # else something before it does
            self._move_on()
            if hangs:
                return TimeoutError(f"not done after {seconds:g} seconds: given up")
        return future.exception()

    def _start(self) -> "SimpleQueue[_Work]":
        self._queue = SimpleQueue()
        Thread(target=_work, args=(self._queue,), name=self.name, daemon=True).start()
        return self._queue

    def _move_on(self) -> None:
        stuck, queue = self._queue, self._start()
        with suppress(Empty):
            while stuck is not None:
                queue.put(stuck.get_nowait())


def _work(queue: "SimpleQueue[_Work]") -> None:
    while True:
        future, work = queue.get()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
