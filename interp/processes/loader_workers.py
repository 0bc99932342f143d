"""Worker processes of loaders, which live through the signals that all processes of a job get."""

import multiprocessing
import os
import signal
from multiprocessing.context import BaseContext

from interp.processes.signals import obey_parent

__all__ = ["obey_parent", "worker_context"]

if hasattr(os, "fork") and hasattr(signal, "sigwaitinfo"):
    from multiprocessing.context import ForkContext, ForkProcess

    class _Deaf(ForkProcess):
        """Begins with SIGTERM blocked: torch starts threads in a worker before `obey_parent` has its turn there, and
        one thread that does not block the signal is enough for it to end the process.
        """

        def start(self) -> None:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    class _DeafContext(ForkContext):
        Process = _Deaf


def worker_context(workers: int) -> BaseContext | None:
    """What a loader of so many `workers` makes them with, beside `obey_parent` in each; None for torch's own way.

    Processes that are not forked (macOS, Windows, Python 3.14) have no threads of torch's yet when it is called.
    """
    forks = "_DeafContext" in globals() and multiprocessing.get_start_method() == "fork"
    return _DeafContext() if workers and forks else None
