"""Checkpoints that are never half-written and resume bit for bit."""

import logging
import random
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from interp.errors import UserError
from interp.lit.checkpoints.content import check_content
from interp.lit.checkpoints.file import check_archive, matches_checksum, whole_beside, write_checkpoint
from interp.lit.checkpoints.find import others
from interp.processes import share

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


def read_content(path: Path) -> Any:
    """What `torch.save` has written, on the CPU; nothing but tensors and plain values is ever unpickled.

    Raises UserError that names the file, and those that can be used instead, where it is missing, does not match its
    checksum (older and foreign files have none), would grow beyond its file or holds anything else.
    """
    if not path.is_file():
        raise UserError(
            f"{f'{path} is no regular file' if path.exists() else f'no checkpoint {path}'}{others(path.parent)}"
        )
    if matches_checksum(path) is False:
        raise UserError(f"the checkpoint {path} is damaged: it does not match its checksum" + whole_beside(path))
    try:
        check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        what = f"cannot read the checkpoint {path}: damaged, or more than weights ({_refused(error)})"
        raise UserError(what + whole_beside(path)) from error


def _refused(error: Exception) -> str:
    """Why torch does not read a file: the class or function in it that would have to be called, where it names one."""
    if name := re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", str(error)):
        return f"it needs {name[1]}, and no code is run for a file: save net.state_dict() alone"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, as `read_content` gives it; raises UserError where it is none."""
    checkpoint = read_content(path)
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
