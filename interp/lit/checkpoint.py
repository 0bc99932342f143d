"""Checkpoints that are never half-written and resume bit for bit."""

import logging
import random
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from interp import share
from interp.errors import UserError
from interp.lit.checkpoint_content import check_content
from interp.lit.checkpoint_file import check_archive, matches_checksum, whole_beside, write_checkpoint
from interp.lit.remains import about

CONNECTOR = "checkpoint_connector.py"  # of Lightning, which reads the state of a training back

log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that are whole or absent, and refuses to load one that is damaged or runs code.

    Lightning writes to the temporary folder and moves the file: killed on the way, or on a full disk, that leaves a
    truncated file in place of the last good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """What `read_checkpoint` gives, whatever `weights_only` says; Lightning moves it to the device."""
        return read_checkpoint(Path(path))


class RandomState(Callback):
    """Keeps the random streams in the checkpoint, so that a resumed run draws what the uninterrupted one would.

    Those of the first process lie as those of a single one do; of many, `processes` holds every one's, in order.
    """

    def state_dict(self) -> dict[str, Any]:
        """Every stream as tensors, lists and numbers, which load without pickle; all processes must call it."""
        everyones = share.together(partial(share.everyones, _streams()), name="random streams of a checkpoint") or []
        return everyones[0] | ({"processes": everyones} if len(everyones) > 1 else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's streams; where there were fewer processes, those of one of them, with a warning."""
        (rank, size), states = share.place(), state.get("processes", [state])
        if len(states) != size and rank == 0:
            log.warning(
                "the checkpoint holds the random streams of %d process(es), and this run has %d: they take these in "
                "turn, and the run does not go on bit for bit as the one before",
                len(states), size,
            )  # fmt: skip
        _restore_streams(states[rank % len(states)])


def _streams() -> dict[str, Any]:
    algorithm, keys, *rest = cast(tuple, np.random.get_state())  # noqa: NPY002
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.default_generator.get_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [algorithm, torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": [version, list(words), next_gauss],
    }


def _restore_streams(state: dict[str, Any]) -> None:
    torch.default_generator.set_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([stream.cpu() for stream in state["cuda"]])
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, next_gauss = state["python"]
    random.setstate((version, tuple(words), next_gauss))


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint for runs that may be resumed in a new folder: the best so far stays the best.

    It chooses among the epochs that have the scalar which it monitors: not those without a look of its plugin. Where
    early stopping has just ended the training, plugins look before it writes.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.callbacks if trainer.should_stop else []:  # type: ignore[attr-defined]
            if last_look := getattr(callback, "on_last_epoch_end", None):
                last_look(trainer, pl_module)
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state with the paths of this folder, where the best checkpoint was carried over to.

        Where that is lost, its score is still the one to beat.
        """

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else ""

        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU; nothing but tensors and plain values is ever unpickled.

    Raises UserError that names the file, and those that can be used instead, where it is missing, does not match its
    checksum (older and foreign files have none), would grow beyond its file or holds anything else.
    """
    if not path.is_file():
        raise UserError(
            f"{f'{path} is no regular file' if path.exists() else f'no checkpoint {path}'}{_others(path.parent)}"
        )
    if matches_checksum(path) is False:
        raise UserError(f"the checkpoint {path} is damaged: it does not match its checksum" + whole_beside(path))
    try:
        check_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"cannot read the checkpoint {path}: damaged, or more than weights ({reason})"
        raise UserError(what + whole_beside(path)) from error
    if isinstance(checkpoint, dict) and checkpoint and all(isinstance(v, torch.Tensor) for v in checkpoint.values()):
        checkpoint = {"state_dict": checkpoint}  # weights alone, which can be analysed
    check_content(checkpoint, path)
    return checkpoint


@contextmanager
def restoring(path: str | None) -> Iterator[None]:
    """Within, what goes wrong while Lightning takes over the state of the checkpoint at `path` is a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        names = [f.name for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(CONNECTOR)]
        if not any(name.lstrip("_").startswith(("resume", "restore")) for name in names):
            raise
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"cannot resume from {path}: its state is damaged or of another training ({what})") from error


def _others(folder: Path) -> str:
    """The checkpoints in a folder, or else the latest runs in it."""
    if files := ", ".join(sorted(path.name for path in folder.glob("*.ckpt") if path.is_file())):
        return f"; {folder} has: {files}"
    runs = sorted((path.parent for path in folder.glob("*/checkpoints")), key=lambda run: run.stat().st_mtime)
    return f"; the latest runs in {folder}: {', '.join(run.name for run in runs[:-4:-1])}" if runs else ""


def find_checkpoint(path: Any, names: tuple[str, ...], key: str = "checkpoint") -> Path:
    """A checkpoint file, or the first of `names` in a run folder's checkpoints/; absolute.

    Raises UserError where there is none, or for anything but one path; `key` is the setting that gives it.
    """
    path = str(path) if isinstance(path, int) else path  # a folder that is called as a number
    if not isinstance(path, str):
        raise UserError(f"{key}={path}: give a checkpoint file or a run folder")
    if "://" in path:
        raise UserError(f"{key}={path}: addresses are not read; download the file if you know who made it")
    given = Path(path).expanduser().absolute()
    if not given.is_dir():
        return given
    for name in names:
        if (given / "checkpoints" / name).is_file():
            return given / "checkpoints" / name
    if files := ", ".join(sorted(file.name for file in given.glob("*.ckpt"))):
        run = f"the folder of the run, {given.parent}, or " if given.name == "checkpoints" else ""
        raise UserError(f"{key}={path} is a folder of checkpoints: give {run}one of its files: {files}")
    if within := next((parent for parent in given.parents if [*parent.glob("checkpoints/*.ckpt")]), None):
        raise UserError(f"{key}={path} lies in a run: give the run, {key}={within}")
    if about(given).get("command") == "analyze.py":
        raise UserError(f"{key}={path} is an analysis, which has no checkpoint: give a run of train.py")
    begun = about(given).get("command") == "train.py"
    advice = f": that run has finished no epoch, begin it anew with output={path} instead" if begun else _others(given)
    raise UserError(f"no {' or '.join(names)} in {given / 'checkpoints'}{advice}")


def named_checkpoints(given: Any, names: tuple[str, ...]) -> dict[str, Path | None]:
    """Checkpoints by name: of None (a network without one), a path, several paths, or paths that have names.

    Paths without names get the shortest end of their run's folder that tells them apart. Raises UserError.
    """
    if given is None or isinstance(given, str | int):
        return {"": None if given is None else find_checkpoint(given, names)}
    if isinstance(given, Mapping):
        paths = {str(name): None if path is None else find_checkpoint(path, names) for name, path in given.items()}
        if wrong := [name for name in paths if not re.fullmatch(r"\w[\w.-]*", name)]:
            raise UserError(f"checkpoint name {wrong[0]!r}: use letters, digits, '_', '-' and '.'")
        if paths:
            return paths
    found = [find_checkpoint(path, names) for path in given]
    if not found:
        raise UserError("checkpoint=[] is empty: name some, or give null for a network without one")
    if len(set(found)) < len(found):
        raise UserError(f"checkpoint={list(given)}: the same checkpoint twice")
    return dict(zip(_short_names(found), found, strict=True))


def _short_names(paths: list[Path]) -> list[str]:
    """The run's folder, with the file's name and the folder above where it takes them to tell the paths apart."""
    folders = [path.parent.parent if path.parent.name == "checkpoints" else path.parent for path in paths]
    forms = [
        [folder.name for folder in folders],
        [f"{folder.name}_{path.stem}" for folder, path in zip(folders, paths, strict=True)],
        [f"{folder.parent.name}_{folder.name}_{path.stem}" for folder, path in zip(folders, paths, strict=True)],
    ]
    clean = [[re.sub(r"[^\w.-]", "-", name).lstrip(".-") for name in names] for names in forms]
    apart = [names for names in clean if len(set(names)) == len(names) and all(names)]
    return apart[0] if apart else [f"checkpoint{number}" for number in range(1, len(paths) + 1)]


def run_folder(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to, None where it lies elsewhere."""
    folder = checkpoint.parent.parent
    return folder if checkpoint.parent.name == "checkpoints" and (folder / ".hydra").is_dir() else None
