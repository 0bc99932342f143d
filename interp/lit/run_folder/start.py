"""What happens before Hydra writes its first file: the folder of the command is claimed, or the command refused."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from interp.errors import UserError
from interp.lit.run_folder import claim
from interp.lit.run_folder.rank import first_process
from interp.lit.run_folder.remains import about, refuse

log = logging.getLogger(__name__)
_restarted = dict[str, bool]()  # by folder: asked before it is claimed anew


class OwnFolder(Callback):
    """Hydra's callback that claims the folder of a run or of a sweep; its jobs claim theirs when they train.

    Raises SystemExit with what to do where the folder is another run's: Hydra makes warnings of other exceptions.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """A folder that holds a run is only for the command that resumes it."""
        with mendable():
            folder, name = Path(config.hydra.run.dir), config.hydra.job.config_name
            goes_on = restarted(folder) or in_place(config.get("checkpoint"), folder)
            _claim(folder, f"{name}.py", goes_on and name == "train")
            if "TORCHELASTIC_RUN_ID" in os.environ:
                from interp.lit.processes.torchrun import meet

                meet(folder)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A folder that holds a run or a sweep is for no other sweep."""
        with mendable():
            _claim(Path(config.hydra.sweep.dir), "a sweep")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Give the sweep's folder back."""
        claim.end(Path(config.hydra.sweep.dir))


def _claim(folder: Path, command: str, goes_on: bool = False) -> None:
    if not first_process():
        return
    taken = claim.take(folder, command)
    try:
        if not goes_on:
            refuse(folder, resumable=command == "train.py", known=taken.earlier)
    except UserError:
        taken.withdraw()
        raise


@contextmanager
def mendable() -> Iterator[None]:
    """What the user can mend ends the command in one line; what Hydra is about to run into is left to it."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
    except (OSError, OmegaConfBaseException) as error:
        log.debug("the folder is not claimed yet: %s", error)


def in_place(checkpoint: Any, folder: Path) -> bool:
    """Whether `checkpoint`, a file or a run's folder, belongs to the run in `folder`."""
    if not isinstance(checkpoint, str):
        return False
    given = Path(checkpoint).expanduser().resolve()
    return folder.resolve() == (given if given.is_dir() else given.parent.parent)


def restarted(folder: Path) -> bool:
    """Whether torchrun or SLURM has started this process again, for the run that is already in `folder`."""
    path = str(folder.resolve())
    if path not in _restarted:
        if int(os.environ.get("SLURM_RESTART_COUNT") or 0):
            _restarted[path] = about(folder).get("job") == os.environ.get("SLURM_JOB_ID")
        elif "TORCHELASTIC_RUN_ID" in os.environ:
            from interp.lit.processes.torchrun import claimed

            _restarted[path] = claimed() == path
    return _restarted.get(path, False)
