"""A command as it is typed, in this process: what is imported already need not be imported again."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from conf.check import launch

# Of a training that takes a second.
TINY = ("data.size=8", "model.widths=[2,4,4]", "trainer=cpu", "trainer.limit_train_batches=2", "logger=none",
        "trainer.limit_val_batches=1", "test=false", "callbacks.progress_bar=null", "callbacks.model_summary=null",
        "+trainer.enable_progress_bar=false", "+trainer.enable_model_summary=false")  # fmt: skip


@dataclass
class Ended:
    """How a command has ended: its exit code, and what it said on either stream."""

    code: int
    said: str


def typed(folder: Path, *arguments: str, script: str = "train", **environment: str) -> Ended:
    """Run `python train.py ARGUMENTS` in `folder`."""
    own = {key: value for key, value in os.environ.items() if key != "RUN_STAMP"} | environment
    said, code = StringIO(), 0
    with (
        chdir(folder), patch.object(sys, "argv", [f"{script}.py", *arguments]), patch.dict(os.environ, own, clear=True),
        patch.object(sys, "path", [*sys.path]), redirect_stdout(said), redirect_stderr(said),
        logging_kept(),
    ):  # fmt: skip
        try:
            launch(getattr(import_module(script), script))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            said.write("" if isinstance(end.code, int) else f"{end.code}\n")
    return Ended(code or 0, said.getvalue())


@contextmanager
def logging_kept() -> Iterator[None]:
    """Hydra and the commands set logging up for a process of their own."""
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        for handler in logging.root.handlers:
            if handler not in handlers:
                handler.close()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
