"""A resumed run continues the results of the one before."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from interp.files import replacing
from interp.lit.checkpoint import run_folder
from interp.lit.report import metrics_line

log = logging.getLogger(__name__)


class EpochScalars(Callback):
    """Keeps the epoch's scalars in its checkpoint: Lightning writes that first, and logs them after it.

    A kill between the two would lose them to the report.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        scalars = {name: float(value) for name, value in trainer._logger_connector.metrics["log"].items()}
        checkpoint["epoch_scalars"] = {"step": trainer.global_step - 1, "scalars": scalars}


def carry_over(checkpoint: Path, content: dict[str, Any], target: Path) -> None:
    """Copy what the resumed run found up to the checkpoint's epoch, and its best checkpoint.

    In the same folder, what was found after that epoch goes: the resumed run finds it again. `content` is what
    `read_checkpoint` gives.
    """
    source, epoch = run_folder(checkpoint), content["epoch"] + 1
    if source is None:
        return
    if source.resolve() == target.resolve():
        _drop_later(target / "results", epoch)
        _add_lost_row(target / "results" / "metrics.jsonl", content)
        return

    def left_behind(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if _is_later(name, epoch) or name.endswith(".part")]

    if (source / "results").is_dir():
        shutil.copytree(source / "results", target / "results", ignore=left_behind, dirs_exist_ok=True)
        _drop_later_rows(target / "results" / "metrics.jsonl", epoch)
        _add_lost_row(target / "results" / "metrics.jsonl", content)
    if (best := checkpoint.with_name("best.ckpt")).is_file():
        with replacing(target / "checkpoints" / best.name) as path:
            shutil.copyfile(best, path)
    log.warning("resuming %s; its results are carried over", source)


def _is_later(name: str, epoch: int) -> bool:
    return name.startswith("epoch=") and int(name.removeprefix("epoch=")) > epoch


def _drop_later(results: Path, epoch: int) -> None:
    for folder in results.glob("*/epoch=*"):
        if _is_later(folder.name, epoch):
            shutil.rmtree(folder)
    _drop_later_rows(results / "metrics.jsonl", epoch)


def _drop_later_rows(metrics: Path, epoch: int) -> None:
    """Keep the rows up to `epoch`; a row that a kill has torn goes too."""
    if not metrics.is_file():
        return
    with replacing(metrics) as path:
        path.write_text("".join(f"{row}\n" for row in metrics.read_text().splitlines() if _epoch_of(row) <= epoch))


def _epoch_of(row: str) -> float:
    try:
        return float(json.loads(row)["epoch"] or 0)
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _add_lost_row(metrics: Path, content: dict[str, Any]) -> None:
    """The scalars of the checkpoint's epoch, where the run was killed before they were logged."""
    kept = content.get("epoch_scalars")
    if not kept or not metrics.is_file():
        return
    rows = [json.loads(row) for row in metrics.read_text().splitlines()]
    known = {name for row in rows if row["epoch"] == content["epoch"] + 1 for name in row["metrics"]}
    lost = {name: value for name, value in kept["scalars"].items() if name not in known}
    if line := metrics_line(lost, kept["step"]):
        with metrics.open("a") as file:
            file.write(f"{line}\n")
