"""A resumed run continues the results of the one before."""

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from interp.errors import UserError
from interp.files import replacing
from interp.lit.checkpoints.checkpoint import read_checkpoint
from interp.lit.checkpoints.find import run_folder
from interp.lit.report.logger import metrics_line
from interp.lit.run_folder import claim
from interp.lit.run_folder.files import rows
from interp.lit.run_folder.remains import set_aside
from interp.looks import looks

log = logging.getLogger(__name__)


class EpochScalars(Callback):
    """Keeps the epoch's scalars in its checkpoint: Lightning writes that first, and logs them after it.

    A kill between the two would lose them to the report.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        scalars = {name: float(value) for name, value in trainer._logger_connector.metrics["log"].items()}
        checkpoint["epoch_scalars"] = {"step": trainer.global_step - 1, "scalars": scalars}


class Continuity(Callback):
    """Keeps the run's settings in its checkpoints, for the run that resumes it; says at the start what has changed.

    `folder` is the run's; `settings` and `options` are plain; `said` are the words so far, nothing where no run is
    resumed. Where early stopping `stopped` that run, it does not go on.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], options: dict[str, Any], said: str = "", stopped: bool = False
    ) -> None:
        self.folder, self.settings, self.options, self.said, self.stopped = folder, settings, options, said, stopped

    def state_dict(self) -> dict[str, Any]:
        return {"settings": self.settings, "options": self.options}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning would take the patience of the checkpoint, whatever is asked for now."""
        for stopping in (one for one in vars(trainer)["callbacks"] if isinstance(one, EarlyStopping)):
            if state := checkpoint["callbacks"].get(stopping.state_key):
                state["patience"] = stopping.patience

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.said and trainer.is_global_zero:
            log.warning("%s", "; ".join(filter(None, (self.said, getattr(pl_module, "resumed", "")))))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.stopped

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            claim.begin(self.folder)


def carry_over(checkpoint: Path, content: dict[str, Any], target: Path) -> None:
    """Copy what the resumed run found up to the checkpoint's epoch, the checkpoint and the best one until then.

    In the same folder, what was found after that epoch goes: the resumed run finds it again. `content` is what
    `read_checkpoint` gives.
    """
    source, epoch = run_folder(checkpoint), content["epoch"] + 1
    if source is None:
        return
    best = checkpoint.with_name("best.ckpt")
    if source.resolve() == target.resolve():
        set_aside(target, [best] if _epoch(best) > epoch else [])
        _forget_after(epoch, target / "results")
        _mend_rows(target / "results" / "metrics.jsonl", content)
        return

    def left_behind(folder: str, names: list[str]) -> list[str]:
        paths = {name: Path(folder) / name for name in names}
        odd = [name for name, path in paths.items() if path.is_symlink() or not (path.is_dir() or path.is_file())]
        # Not links, since the copy would hold what they lead to.
        later = [path.name for number, path in looks(Path(folder)) if number > epoch]
        return odd + later + [name for name in names if name.endswith(".part")]

    if (source / "results").is_dir():
        results = source / "results", target / "results"
        shutil.copytree(*results, ignore=left_behind, copy_function=_copy_whole, dirs_exist_ok=True)
        _mend_rows(target / "results" / "metrics.jsonl", content)
    if 0 < _epoch(best) <= epoch:
        _copy_whole(best, target / "checkpoints" / best.name)
    _copy_whole(checkpoint, target / "checkpoints" / "last.ckpt")  # at the end: where it lies, all is carried over


def _forget_after(epoch: int, results: Path) -> None:
    for number, folder in (look for study in results.glob("*") for look in looks(study)):
        if number > epoch and not folder.is_symlink():
            shutil.rmtree(folder)


def _epoch(checkpoint: Path) -> int:
    """How many epochs lie behind a checkpoint; 0 where there is none, or it cannot be read, which is said."""
    try:
        return read_checkpoint(checkpoint).get("epoch", -1) + 1 if checkpoint.is_file() else 0
    except UserError as error:
        log.warning("%s", error)
        return 0


def _copy_whole(source: str | Path, target: str | Path) -> None:
    with replacing(Path(target)) as path:
        shutil.copyfile(source, path)


def _mend_rows(metrics: Path, content: dict[str, Any]) -> None:
    """Keep the rows up to the checkpoint that are whole, and add what a kill has cost of its epoch."""
    if not metrics.is_file():
        return
    epoch, steps = content["epoch"] + 1, content.get("global_step", math.inf)
    whole = rows(metrics, [], metrics.parents[1])  # and not what a kill has torn
    kept_rows = [row for row in whole if (row["epoch"] or 0) <= epoch and (row["step"] or 0) < steps]
    lines = [json.dumps(row) for row in kept_rows]
    if kept := content.get("epoch_scalars"):
        known = {name for row in kept_rows if row["epoch"] == epoch for name in row["metrics"]}
        lost = {name: value for name, value in kept["scalars"].items() if name not in known}
        lines += [line] if (line := metrics_line(lost, kept["step"])) else []
    with replacing(metrics) as path:
        path.write_text("".join(f"{line}\n" for line in lines))
