"""The plugin contract: a study writes `analyze`, this class owns when it looks, in a training of Lightning."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from interp.lit.checkpoints.checkpoint import RunCheckpoint
from interp.lit.run_folder import claim
from interp.lit.run_folder.remains import results, set_aside
from interp.network.layers import layers
from interp.processes import share
from plugins.base.epoch import EpochStudy
from plugins.base.training import ends, network


@dataclass(kw_only=True)
class Plugin(EpochStudy, Callback):
    """A study of the network on the probe, before training (epoch 0) and after epochs.

    Training is bit-identical with and without plugins.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._epoch = 0  # the last that was trained
        self._earlier: dict[str, Any] = {}  # state of the run that is resumed

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
        self._log(trainer, self.visit(trainer, pl_module, epoch=0), epoch=0)

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
            self._log(trainer, self.visit(trainer, pl_module, self._epoch), self._epoch)
        for name, value in self._scalars.items():
            trainer.callback_metrics.setdefault(name, torch.tensor(value))
        self.summarize()
        if self.keep_looks is not None and self._last_epoch is not None:
            self.finish_drawing()
            self.thin(self._looks_of(trainer))

    def _look_once(self, trainer: Trainer, module: LightningModule) -> None:
        if self._epoch > self._looked_at and not self._disabled:
            module.log_dict(self.visit(trainer, module, self._epoch))

    def _log(self, trainer: Trainer, scalars: dict[str, float], epoch: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({**scalars, "epoch": epoch}, step=max(0, trainer.global_step - 1))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.finish_drawing()  # Lightning ends the loggers before it calls teardown
        claim.leave(Path(trainer.default_root_dir), trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.finish_drawing()
        claim.leave(Path(trainer.default_root_dir), trainer)

    def _looks_of(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "results" / self.name


def _raises_without_its_scalar(callback: Callback) -> bool:
    if isinstance(callback, ModelCheckpoint):
        return not isinstance(callback, RunCheckpoint)
    return isinstance(callback, EarlyStopping) and callback.strict
