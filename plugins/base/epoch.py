"""A study that looks at an epoch of a training: whatever goes wrong with a look costs that look alone."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import LightningModule, Trainer

from interp.errors import UserError, unknown
from interp.lit.processes.ending import unobserved
from interp.network.quiet import Disturbed
from interp.processes import share
from interp.result import Result
from plugins.base.keeping import PICTURES, KeptStudy
from plugins.base.training import network, probe_of

log = logging.getLogger(__name__)
COST = ("failed", "seconds", "share_of_epoch")  # what is logged of every study; with CUDA also its peak memory


class NoScalar(UserError):
    """A callback monitors a scalar that a study does not have: it is told at the first look, whenever that is."""


@dataclass(kw_only=True)
class EpochStudy(KeptStudy):
    """A study with what it has found so far in a training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._looked_at = 0  # the last epoch that was looked at
        self._epoch_began = time.perf_counter()
        self._disabled = False
        self._scalars: dict[str, float] = {}  # of the last look, and of those before what it lacks

    def visit(self, trainer: Trainer, module: LightningModule, epoch: int) -> dict[str, float]:
        """Look, keep, show; the scalars, the same on every process, named `<plugin>/<scalar>`."""
        self._looked_at = epoch
        with unobserved(trainer):
            outcome = self._study(trainer, module, epoch)
            patience = self.patience(2 * PICTURES)  # it may wait for pictures in `keep`
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
            scalars = self.keep(result, history, trainer.loggers, epoch=epoch, step=step)
            self._last_epoch = epoch
            self.thin(history, training=True)
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
