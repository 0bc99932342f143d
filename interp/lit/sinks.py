"""Lightning loggers as the harness wants them: W&B that never asks or hangs, TensorBoard that takes pictures."""

from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from interp.lit.guard import Guard
from interp.lit.wandb.logger import Wandb


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoard logger with the `log_image` that it lacks."""

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
        """Log PIL images under `key`; captions have no place in TensorBoard."""
        import numpy as np

        for index, image in enumerate(images):
            tag = key if len(images) == 1 else f"{key}/{index}"
            self.experiment.add_image(tag, np.asarray(image), step, dataformats="HWC")


CALLS = ("log_metrics", "log_hyperparams", "log_graph", "log_image", "log_table", "log_text", "save",
         "after_save_checkpoint", "finalize")  # fmt: skip
FAILURES_IN_A_ROW = 3  # until no more calls are made: each may have waited for a network


def forgiving(logger: Logger) -> Logger:
    """`logger`, of which a call that fails is left out while training goes on; those to W&B are made on its thread.

    The first failure is reported; after three in a row of one kind of call nothing more is logged, but `finalize`
    keeps what there is.
    """
    folder, name = Path(getattr(logger, "save_dir", None) or "."), type(logger).__name__
    guard, last = Guard(once=True, patience=FAILURES_IN_A_ROW, folder=folder), Guard(folder=folder)
    for what in CALLS:
        if call := getattr(logger, what, None):
            attempt = partial((last if what == "finalize" else guard).attempt, f"{name} failed in {what}", call)
            if isinstance(logger, Wandb):
                attempt = partial(guard.attempt, f"{name} failed to begin", logger.later, attempt)
            setattr(logger, what, attempt)
    return logger
