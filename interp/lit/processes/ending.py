"""How a training on many processes ends: a signal to one ends all at the same place, none waits for one lost."""

import atexit
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities.exceptions import SIGTERMException

from interp.processes.share import PeerFailed, ProcessLost, anywhere, from_first, place
from interp.processes.signals import RAISING, Noted

LEAVE = 10.0  # seconds that the processes that this one started have to end by themselves
FAREWELL = 60.0  # seconds that processes wait for the first, which writes what a run leaves


class EndTogether(Callback):
    """Lets all processes of a training look, after each batch, which signals any of them has got, and obey them there.

    Lightning's own handlers make the processes meet wherever each of them is: one that has not got the signal is
    elsewhere, and both wait. Ctrl-C, which would end one process alone, waits for the next batch as well. On one
    process all is left to Lightning.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1 and not isinstance(trainer._signal_connector, _Agreeing):
            trainer._signal_connector = _Agreeing(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._obey(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._obey(trainer)  # not between its batches, of which processes may have different numbers

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._obey(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._obey(trainer)

    def _obey(self, trainer: Trainer) -> None:
        if isinstance(connector := trainer._signal_connector, _Agreeing):
            connector.obey()
            if trainer.received_sigterm:
                raise SIGTERMException

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the processes that Lightning has started out of its hands: it kills this one with the first that ends,
        the report half written, and leaves one that hangs alone.
        """
        if children := getattr(trainer.strategy.launcher, "procs", []):
            atexit.register(_end, children.copy())
            children.clear()


@contextmanager
def unobserved(trainer: Trainer) -> Iterator[None]:
    """Within it Lightning does not watch the processes that it has started.

    It looks every 5 seconds, and kills all with the first that is gone; a study notices that itself, and tells.
    """
    children = getattr(trainer.strategy.launcher, "procs", [])
    watched, children[:] = children.copy(), list(map(_StillThere, children))
    try:
        yield
    finally:
        children[:] = watched


class _StillThere:
    """A process that, to Lightning's observer, runs; signals that Lightning passes on reach it."""

    returncode = None

    def __init__(self, process: Any) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def poll(self) -> None:
        return None


def note_signals() -> None:
    """Let Ctrl-C and SIGTERM end a study of many processes on all of them, and wait elsewhere until all can end."""
    if place()[1] > 1:
        noted = Noted()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, noted)


def wait_for_first() -> None:
    """Let this process live until the first has written all: torchrun ends the others with the one that ends before."""
    with suppress(ProcessLost, PeerFailed):
        from_first(None, FAREWELL)


class _Agreeing(_SignalConnector):
    """Lightning's connector with handlers that only note; what they are for is done on all processes at once."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self.noted = Noted()

    def register_signal_handlers(self) -> None:
        super().register_signal_handlers()
        if signal.getsignal(signal.SIGINT) in RAISING:
            self._register_signal(signal.SIGINT, self.noted)

    def _sigterm_notifier_fn(self, signum: int, _: Any) -> None:
        self.noted(signum)

    def _slurm_sigusr_handler_fn(self, signum: int, _: Any) -> None:
        self.noted(signum)

    def obey(self) -> None:
        """What Lightning's handlers do of the signals that any process has got. Raises KeyboardInterrupt of Ctrl-C."""
        numbers = anywhere(self.noted.numbers)
        self.noted.numbers -= numbers
        if signal.SIGINT in numbers:
            raise KeyboardInterrupt(int(signal.SIGINT))
        frame: Any = None  # which they do not look at
        for number in numbers - {signal.SIGTERM}:  # SLURM's: save and be queued again
            super()._slurm_sigusr_handler_fn(number, frame)
        if signal.SIGTERM in numbers:
            super()._sigterm_notifier_fn(signal.SIGTERM, frame)


def _end(children: list[subprocess.Popen]) -> None:
    """Give `children` the time to end by themselves, and kill those that do not."""
    for child in children:
        try:
            child.wait(LEAVE)
        except subprocess.TimeoutExpired:
            child.kill()
