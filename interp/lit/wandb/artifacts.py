"""Checkpoints and results as W&B artifacts: W&B then knows which run made a checkpoint and which runs used it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from interp.lit.checkpoints.find import run_folder
from interp.lit.guard import Guard
from interp.lit.safety.secrets import hide
from interp.lit.wandb.logger import Wandb

AS_IT_IS: dict[str, Any] = {"policy": "immutable", "skip_cache": True}  # recorded where it lies, without copies


@rank_zero_only
def keep(loggers: list, folder: Path) -> None:
    """Record the checkpoints (type `model`) and results (type `results`) of the run in `folder` as what it made.

    What W&B cannot take is reported.
    """
    for logger in wanting(loggers):
        complaint = f"W&B could not take the artifacts of {folder}"
        logger.later(Guard().attempt, complaint, _record_made, logger, folder)


@rank_zero_only
def use(loggers: list, path: Path) -> None:
    """Record that the run used the checkpoint at `path`; W&B knows it by its content, whoever sent it first."""
    for logger in wanting(loggers):
        complaint = f"W&B could not take the artifact of {path}"
        logger.later(Guard().attempt, complaint, _record_used, logger, path)


def _record_made(logger: Wandb, folder: Path) -> None:
    for path in sorted(folder.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime):
        logger.experiment.log_artifact(checkpoint(path), aliases=["latest", path.stem])
    if (folder / "results").is_dir():
        logger.experiment.log_artifact(results(folder))


def _record_used(logger: Wandb, path: Path) -> None:
    # As `use_artifact` does, which would wait until the server has the file, and refuses offline.
    logger.experiment._log_artifact(checkpoint(path), is_user_created=True, use_after_commit=True)


def wanting(loggers: list) -> Iterator[Wandb]:
    """The W&B loggers that are to have artifacts: by choice, or because they are online."""
    for logger in loggers:
        if isinstance(logger, Wandb) and logger.mode in ("online", "offline"):
            wanted = logger.mode == "online" if logger.artifacts is None else logger.artifacts
            if wanted:
                yield logger


def checkpoint(path: Path) -> Any:
    """The checkpoint with its run's configuration, laid out as a run folder, so that analyze.py takes the download."""
    from wandb import Artifact

    folder = run_folder(path)
    artifact = Artifact(f"checkpoint-{identity(folder) if folder else _safe(path.stem)}", "model")
    artifact.add_file(str(path), name=f"checkpoints/{path.name}", **AS_IT_IS)
    _add_configuration(artifact, folder)
    return artifact


def results(folder: Path) -> Any:
    """The results, pictures and report of the run in `folder`, with its configuration."""
    from wandb import Artifact

    artifact = Artifact(f"results-{identity(folder)}", "results")
    artifact.add_dir(str(folder / "results"), name="results", **AS_IT_IS)
    if (folder / "report.html").is_file():
        artifact.add_file(str(folder / "report.html"), name="report.html", **AS_IT_IS)
    _add_configuration(artifact, folder)
    return artifact


def identity(folder: Path) -> str:
    """The id of the last W&B run in a run's folder; the folder's name where there is none."""
    runs = {path.name.removeprefix("offline-"): path for path in folder.glob("wandb/*run-*-*") if path.is_dir()}
    if not runs:
        return _safe(folder.name)
    name, path = max(runs.items())
    file = next(path.glob("run-*.wandb"), None)  # the folder of a second run in one second has a number behind the id
    return file.stem.removeprefix("run-") if file else name.split("-", 2)[2]


def _add_configuration(artifact: Any, folder: Path | None) -> None:
    if folder and (path := folder / ".hydra" / "config.yaml").is_file():
        with artifact.new_file(".hydra/config.yaml", encoding="utf-8") as file:
            file.write(hide(path.read_text(encoding="utf-8")))


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)
