"""The plugin contract: a study writes `analyze`, this class owns when, isolation, errors, cost, files and loggers."""

import logging
import math
import re
import time
import traceback
import warnings
from abc import abstractmethod
from concurrent.futures import Future
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from interp.errors import UserError, unknown
from interp.lit.checkpoints.checkpoint import RunCheckpoint
from interp.lit.ending import unobserved
from interp.lit.run_folder import claim, failures
from interp.lit.run_folder.remains import results, set_aside
from interp.looks import look_folder, looks, thin
from interp.network.layers import find_layer, layers
from interp.network.quiet import Disturbed, quiet
from interp.probe import Probe
from interp.processes import exchange, share
from interp.processes.background import Background
from interp.processes.signals import held_back, time_limit
from interp.result import Result
from plugins.sinks import print_tables, show

log = logging.getLogger(__name__)
# One thread draws for all plugins: pictures never hold training up, and memory stays bounded by one look a plugin.
_drawing = Background("drawing")
COST = ("failed", "seconds", "share_of_epoch")  # what is logged of every study; with CUDA also its peak memory
PATIENCE = 300.0  # seconds that a hanging picture or sink may hold the training up, at most


class NoScalar(UserError):
    """A callback monitors a scalar that a study does not have: it is told at the first look, whenever that is."""


@dataclass(kw_only=True)
class Plugin(Callback):
    """A study of the network on the probe, before training (epoch 0) and after epochs.

    Subclasses are dataclasses whose fields are the keys of their YAML, and write `analyze`. A field called `layer`
    is checked before training starts. Training is bit-identical with and without plugins.
    """

    shares: ClassVar[bool] = (
        False  # whether many processes study together (interp.processes.share); else the first does it alone
    )

    name: str  # of its scalars, its results folder and its pictures
    every_n_epochs: int = 1
    at_start: bool = True  # also look at the untrained network
    on_error: str = "warn"  # warn: say so and go on; disable: and look no more; raise: end the training
    seed: int = 0  # of the random numbers that the study draws
    batch_size: int = 64  # images at once; halved when memory runs out
    timeout: float | None = 3600.0  # seconds of one look, then it is skipped; None: no limit
    keep_looks: int | None = None  # on disk, at most: the first, the last and evenly between; None: all

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise UserError(f"plugin name {self.name!r}: use letters, digits, '_', '-' and '.'")
        if self.on_error not in (allowed := ("warn", "disable", "raise")):
            raise UserError(f"plugin.{self.name}.on_error={self.on_error!r}: choose from {', '.join(allowed)}")
        for key in ("every_n_epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise UserError(f"plugin.{self.name}.{key}={getattr(self, key)}: must be at least 1")
        if self.timeout is not None and not self.timeout > 0:
            raise UserError(f"plugin.{self.name}.timeout={self.timeout}: seconds above 0, or null for no limit")
        if self.keep_looks is not None and self.keep_looks < 2:
            raise UserError(
                f"plugin.{self.name}.keep_looks={self.keep_looks}: must be at least 2, the first look and the last, or "
                "null for all"
            )
        self._take_short_forms()
        self._pending: Future | None = None
        self._drawn: set[str] = set()  # names of the files of its pictures and widgets
        self._last_epoch: int | None = None  # of a look that was kept
        self._last: Result | None = None
        self._epoch_began = time.perf_counter()
        self._disabled = False
        self._told: set[object] = set()  # errors whose traceback has been shown, and parts that were left out
        self.outcomes: dict[int, str] = {}  # of each epoch's look, why it failed, '' where it did not
        self._epoch = self._looked_at = 0  # the last epoch that was trained, and that was looked at
        self._scalars: dict[str, float] = {}  # of the last look, and of those before what it lacks
        self._earlier: dict[str, Any] = {}  # state of the run that is resumed

    def _take_short_forms(self) -> None:
        """One thing is a list of one where a list is wanted; layers of an nn.Sequential are called 0, 1, ..."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default_factory is not MISSING and isinstance(value, str | int | float):
                value = [value]
            if field.name == "layer" and value is not None:
                value = str(value)
            setattr(self, field.name, list(map(str, value)) if field.name == "layers" else value)

    @abstractmethod
    def analyze(self, net: nn.Module, probe: Probe) -> Result:
        """Study `net`: in eval mode, on its device, gradients possible, random numbers seeded with `seed`.

        The probe's tensors are on the same device. Whatever it changes is undone afterwards. Raises UserError for
        settings that do not fit the network or the data, which ends the run before the first epoch.
        """

    def check(self, net: nn.Module) -> None:
        """Raise UserError where settings do not fit the network, before anything is written."""
        if layer := getattr(self, "layer", None):
            find_layer(net, layer)

    def look(self, net: nn.Module, probe: Probe) -> Result | None:
        """Run the study without disturbing `net` (in its own precision, autocast off); needs no trainer.

        Signals that may end the process wait until all is put back. Raises TimeoutError after `timeout` seconds.

        Of many processes all must call it. None on those that only helped the first. Raises ProcessLost where one of
        them does not come within `timeout` and a grace.
        """
        while True:
            try:
                with held_back():
                    return share.together(
                        partial(self._look, net, probe), shared=self.shares, name=self.name, seconds=self._patience()
                    )
            except torch.OutOfMemoryError:  # on all processes alike
                if self.batch_size == 1:
                    raise
                self.batch_size = max(1, self.batch_size // 2)
                log.warning("plugin %s ran out of memory: trying batch_size=%d", self.name, self.batch_size)

    def _patience(self, pictures: float = 0.0) -> float | None:
        """Seconds that a process waits for another at most: one look, with what is written of the last."""
        return None if self.timeout is None else self.timeout + exchange.GRACE + pictures

    def _look(self, net: nn.Module, probe: Probe) -> Result:
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        advice = f": give plugin.{self.name}.timeout more, or null for no limit"
        with (
            share.buffers_of_first(net),
            quiet(net, seed=self.seed, report=self._warn_of_changes, plain=lambda: net(probe.images[:1].to(device))),
            time_limit(self.timeout, advice),
        ):
            result = self.analyze(net, probe.agreed().to(device))
        if not isinstance(result, Result):
            raise TypeError(f"analyze returned {type(result).__name__}, which is no interp.result.Result")
        if left_out := [text for text in result.left_out if text.partition(" (")[0] not in self._told]:
            self._told |= {text.partition(" (")[0] for text in left_out}
            log.warning("plugin %s leaves out %s", self.name, "; ".join(left_out))
        return result

    def _warn_of_changes(self, changes: list[str]) -> None:
        warnings.warn(f"plugin {self.name} left changes behind, undone: {'; '.join(changes)}", stacklevel=2)

    @property
    def state_key(self) -> str:
        """Lightning's key for the state in checkpoints: several plugins of one class can stand side by side."""
        return f"{type(self).__qualname__}:{self.name}"

    def state_dict(self) -> dict[str, Any]:
        """The layers that it looks at: those it has chosen itself are looked at in a resumed run, too."""
        names = {key: getattr(self, key, None) for key in ("layer", "layers")}
        return {key: name if isinstance(name, str) else list(name) for key, name in names.items() if name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until training starts, when the network is known."""
        self._earlier = state_dict

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.check(network(pl_module))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """In somebody's own Trainer, what an earlier one has left in its folder is not of this one, unless it resumes.

        Raises UserError where another goes on there.
        """
        folder = Path(trainer.default_root_dir)
        new = trainer.is_global_zero and claim.join(folder, trainer)
        if new and not trainer.ckpt_path and trainer.current_epoch == 0:
            set_aside(folder, results(folder))

    def _choose_as_before(self, net: nn.Module) -> None:
        """Look where the run that is resumed did, unless that is set, or not in the network any more."""
        for key in ("layer", "layers"):
            value = self._earlier.get(key)
            names = value if isinstance(value, list) else [value]
            if not getattr(self, key, True) and all(isinstance(name, str) and name in layers(net) for name in names):
                setattr(self, key, value)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_began = time.perf_counter()
        share.whole(trainer.model or pl_module)
        self._choose_as_before(network(pl_module))
        if trainer.global_step > 0 or not self.at_start:
            return
        self._log(trainer, self._visit(trainer, pl_module, epoch=0), epoch=0)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_began = time.perf_counter()
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        needed = {callback.monitor for callback in callbacks if _raises_without_its_scalar(callback)}
        for name in self._scalars.keys() - needed:  # early stopping would count an epoch without a look as no better
            trainer.callback_metrics.pop(name, None)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch = trainer.current_epoch + 1
        if self._epoch % self.every_n_epochs == 0 or ends(trainer):
            self._look_once(trainer, pl_module)

    def on_last_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look where early stopping, which runs after plugins, has just ended the training.

        `RunCheckpoint` calls it before it writes; with other checkpoints the look comes after.
        """
        if ends(trainer):
            self._look_once(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._epoch > self._looked_at and not self._disabled:  # nothing is logged through the module any more
            self._log(trainer, self._visit(trainer, pl_module, self._epoch), self._epoch)
        for name, value in self._scalars.items():
            trainer.callback_metrics.setdefault(name, torch.tensor(value))
        self.summarize()
        if self.keep_looks is not None and self._last_epoch is not None:
            self.finish_drawing()
            self._thin(self._looks_of(trainer))

    def _look_once(self, trainer: Trainer, module: LightningModule) -> None:
        if self._epoch > self._looked_at and not self._disabled:
            module.log_dict(self._visit(trainer, module, self._epoch))

    def _log(self, trainer: Trainer, scalars: dict[str, float], epoch: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({**scalars, "epoch": epoch}, step=max(0, trainer.global_step - 1))

    def summarize(self) -> None:
        """Print the tables of the last result, where this process made one; what goes wrong is reported."""
        try:
            if self._last:
                print_tables(self._last, self.name)
        except Exception as error:
            log.warning("plugin %s: its tables could not be printed: %r", self.name, error, exc_info=error)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.finish_drawing()  # Lightning ends the loggers before it calls teardown
        claim.leave(Path(trainer.default_root_dir), trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.finish_drawing()
        claim.leave(Path(trainer.default_root_dir), trainer)

    def _visit(self, trainer: Trainer, module: LightningModule, epoch: int) -> dict[str, float]:
        """Look, keep, show; the scalars, the same on every process, named `<plugin>/<scalar>`."""
        self._looked_at = epoch
        with unobserved(trainer):
            outcome = self._study(trainer, module, epoch)
            patience = self._patience(2 * PATIENCE)  # it may wait for pictures in `keep`
            scalars, failure = share.from_first(outcome, patience)
        if failure and (failure[0] or self.on_error == "raise"):
            raise UserError(failure[1]) if failure[0] else RuntimeError(failure[1])
        if failure and self.on_error == "disable":
            self._disabled = True
        named = {f"{self.name}/{key}": float(value) for key, value in scalars.items()}
        self._scalars |= named
        return named

    def _study(self, trainer: Trainer, module: LightningModule, epoch: int) -> tuple[dict, tuple[bool, str] | None]:
        """Scalars of one look, and (is it the user's to mend before training?, message) if it failed."""
        began, history = time.perf_counter(), Path(trainer.default_root_dir) / "results" / self.name
        try:
            result = self.look(network(module), probe_of(trainer))
            if result is None or not trainer.is_global_zero:
                return {}, None
            step = max(0, trainer.global_step - 1)
            if not self._scalars:
                self._check_monitors(trainer, result)
            result = self.continued(result, history, epoch)
            self.keep(result, look_folder(history, epoch), trainer.loggers, epoch=epoch, step=step)
            scalars = self.finite(result.scalars(), epoch)
            self.note(history, epoch)
            self._last_epoch = epoch
            self._thin(history, training=True)
        except (Disturbed, share.ProcessLost):  # training itself would no longer be what it was
            raise
        except share.PeerFailed as error:
            return {"failed": 1.0}, self._failure(error, epoch, history) if trainer.is_global_zero else None
        except Exception as error:
            return {"failed": 1.0}, self._failure(error, epoch, history if trainer.is_global_zero else None)
        return {**scalars, **self._cost(began, epoch)}, None

    def _check_monitors(self, trainer: Trainer, result: Result) -> None:
        """Raise NoScalar where a callback monitors a scalar that neither this look has nor one that follows it."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        monitors = (str(getattr(callback, "monitor", None)) for callback in callbacks)
        wanted = sorted({name for name in monitors if name.startswith(f"{self.name}/")})
        cost = (*COST, "peak_memory_gb") if torch.cuda.is_available() else COST
        named = {f"{self.name}/{key}" for key in (*result.scalars(), *cost)}
        if not named.issuperset(wanted):
            named |= {f"{self.name}/{key}" for key in result.following(result).scalars()}
        for name in set(wanted) - named:
            raise NoScalar(str(unknown("scalar to monitor", name, sorted(named))))

    def finite(self, scalars: dict[str, float], epoch: int) -> dict[str, float]:
        """The scalars that can be logged and monitored, and whether any could not."""
        bad = {key: value for key, value in scalars.items() if not math.isfinite(value)}
        self.outcomes[epoch] = ", ".join(f"{key} is {value}" for key, value in bad.items())
        if bad:
            log.warning("plugin %s at epoch %d: %s: not logged", self.name, epoch, self.outcomes[epoch])
        return {**{key: value for key, value in scalars.items() if key not in bad}, "failed": float(bool(bad))}

    def note(self, history: Path, epoch: int, error: Exception | None = None) -> None:
        """Keep beside the results, which are in the folder `history`, how the look at `epoch` went."""
        if error:
            self.outcomes[epoch] = f"{type(error).__name__}: {shorten(str(error), 200, placeholder=' ...')}"
        try:
            failures.keep(history.parent, history.name, epoch, self.outcomes[epoch])
        except OSError as problem:
            log.warning("plugin %s: %s cannot be written: %s", self.name, history.parent / failures.FILE, problem)

    def _cost(self, began: float, epoch: int) -> dict[str, float]:
        """Seconds of the look, its share of the epoch so far, and the device's peak memory where it is counted."""
        now = time.perf_counter()
        cost = {"seconds": now - began}
        if epoch > 0:
            cost["share_of_epoch"] = cost["seconds"] / (now - self._epoch_began)
        if torch.cuda.is_available():
            cost["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 2**30
        return cost

    def _failure(self, error: Exception, epoch: int, history: Path | None) -> tuple[bool, str]:
        message = f"plugin {self.name} failed at epoch {epoch}: {type(error).__name__}: {error}"
        settings_are_wrong = isinstance(error, UserError) and (epoch == 0 or isinstance(error, NoScalar))
        if not settings_are_wrong:
            log.warning("%s%s", message, self.traceback(error))
        if history and not settings_are_wrong:
            self.note(history, epoch, error)
        return settings_are_wrong, message if not settings_are_wrong else f"plugin.{self.name}: {error}"

    def _looks_of(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "results" / self.name

    def _thin(self, history: Path, training: bool = False) -> None:
        """Leave `keep_looks` of the looks in the folder `history`; what goes wrong is reported."""
        try:
            if self.keep_looks is not None and self._last_epoch is not None:
                thin(history, self.name, self.keep_looks, self._last_epoch, self._drawn, training=training)
        except OSError as error:
            log.warning("plugin %s: old looks in %s could not be removed: %s", self.name, history, error)

    def traceback(self, error: BaseException) -> str:
        """Its traceback, after a line break, unless one of the same kind from the same place has been shown before."""
        cause = error
        while cause.__cause__:
            cause = cause.__cause__
        place = (type(cause), *[(at.filename, at.lineno) for at in traceback.extract_tb(cause.__traceback__)[-1:]])
        shown, self._told = place in self._told, self._told | {place}
        return "" if shown else "\n" + "".join(traceback.format_exception(error))

    def continued(self, result: Result, history: Path, epoch: int) -> Result:
        """`result` following the last one before `epoch` that is kept in the folder `history`, if there is one."""
        for folder in (path for number, path in reversed(looks(history)) if number < epoch):
            try:
                return result.following(type(result).load(folder))
            except Exception as error:  # of files that may be torn or anybody's
                log.warning("plugin %s: %s cannot be read (%s), looking further back", self.name, folder, error)
        return result

    def keep(self, result: Result, folder: Path, loggers: list, *, epoch: int, step: int) -> None:
        """Write the result into `folder` now; draw it and send its pictures to the loggers on the drawing thread."""
        self.finish_drawing()
        self._last = result
        result.save(folder, plugin=self.name, epoch=epoch, step=step)
        self._pending = _drawing.submit(
            partial(show, result, folder, self.name, loggers, epoch=epoch, step=step, files=self._drawn)
        )

    def finish_drawing(self) -> None:
        """Wait for the pictures of the last look; what went wrong with them is reported, with the traceback.

        They have `PATIENCE` seconds: `timeout` is for what holds the training up, and they are drawn beside it.
        """
        if self._pending is None:
            return
        error = _drawing.outcome(self._pending, PATIENCE)
        self._pending = None  # not before: Ctrl-C may come while it waits, and the end of the run waits again
        if error:
            log.warning("plugin %s: its pictures could not be shown: %s%s", self.name, error, self.traceback(error))


def ends(trainer: Trainer) -> bool:
    """Whether the epoch that has just been trained is the last, as far as can be told before early stopping."""
    epoch, steps = trainer.current_epoch + 1, trainer.global_step
    stops = trainer.should_stop and epoch >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
    return stops or epoch == trainer.max_epochs or 0 <= trainer.max_steps <= steps


def _raises_without_its_scalar(callback: Callback) -> bool:
    if isinstance(callback, ModelCheckpoint):
        return not isinstance(callback, RunCheckpoint)
    return isinstance(callback, EarlyStopping) and callback.strict


def network(module: LightningModule) -> nn.Module:
    """What is studied: the module's `net`, or the module itself, from images in [0, 1] to logits."""
    net = getattr(module, "net", module)
    return net if isinstance(net, nn.Module) else module


def probe_of(trainer: Trainer) -> Probe:
    """The probe of the trainer's DataModule; raises UserError where it has none."""
    probe = getattr(getattr(trainer, "datamodule", None), "probe", None)
    if not isinstance(probe, Probe):
        raise UserError("plugins look at `datamodule.probe`: give the trainer a DataModule with an interp.probe.Probe")
    return probe
