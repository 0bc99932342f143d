"""The LightningModule: any classifier network with its optimizer, scheduler and metrics."""

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DistributedSampler

from interp.errors import UserError
from interp.lit.checkpoints.content import check_content
from interp.lit.checkpoints.schedule import Plan, check_end, go_on, lay, plan_of
from interp.lit.checkpoints.weights_file import load_foreign, read_weights
from interp.lit.scores import Scores
from interp.network.layers import Normalized


class Classifier(LightningModule):
    """Trains `net` (images in [0, 1] to logits) by cross entropy; logs loss, accuracy and macro F1 of each stage.

    `optimizer` takes parameters; `scheduler` takes an optimizer and steps with every batch: a parameter of it that
    counts the steps of the whole training is filled in. `compile` compiles the network in place.
    """

    net: nn.Module

    def __init__(
        self,
        net: nn.Module,
        class_names: tuple[str, ...],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.class_names = net, class_names
        self.optimizer, self.scheduler = optimizer, scheduler
        self.plan, self.resumed = Plan.of(optimizer, scheduler), ""  # in words: what became of the schedule
        self._checkpoint: dict[str, Any] | None = None  # of the run that is resumed
        self.train_scores, self.val_scores, self.test_scores = (Scores(len(class_names)) for _ in range(3))
        self._validated: dict[str, Tensor] = {}  # the last scores of a validation
        if compile:
            net.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, J) of images (B, C, H, W) in [0, 1]."""
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return self._step(batch, self.train_scores, self._repeated(batch, index))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._step(batch, self.val_scores)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._step(batch, self.test_scores)

    def _repeated(self, batch: tuple[Tensor, Tensor], index: int) -> int:
        """How many images at the end of a batch another process has as well: where they do not divide, torch's sampler
        repeats some, so that every process takes as many steps.
        """
        loader: Any = self.trainer.train_dataloader
        if not isinstance(sampler := getattr(loader, "sampler", None), DistributedSampler):
            return 0
        mine = len(range(sampler.rank, len(cast(Sized, sampler.dataset)), sampler.num_replicas))
        return min(len(batch[1]), max(0, index * loader.batch_size + len(batch[1]) - mine))

    def _step(self, batch: tuple[Tensor, Tensor], scores: Scores, repeated: int = 0) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = cross_entropy(logits, targets)
        mean, detached = loss.detach(), logits.detach()
        if repeated:  # they train, and count once
            detached, targets = detached[:-repeated], targets[:-repeated]
            mean = cross_entropy(detached, targets)
        if len(targets):
            scores.update(mean, detached, targets)
        return loss

    def on_train_epoch_start(self) -> None:
        """Early stopping would count an epoch without validation as no better: let it see none."""
        for name in [name for name in self.trainer.callback_metrics if name.startswith("val/")]:
            self._validated[name] = self.trainer.callback_metrics.pop(name)

    def on_train_end(self) -> None:
        for name, value in self._validated.items():
            self.trainer.callback_metrics.setdefault(name, value)

    def on_train_epoch_end(self) -> None:
        """Raises UserError where the loss is NaN or infinite, before the weights of the epoch are kept."""
        loss = self._log_scores("train", self.train_scores)["loss"]
        self._log_epoch()
        if not torch.isfinite(loss):
            raise UserError(
                f"the training loss is {float(loss)} in epoch {self.current_epoch + 1}: lower optimizer.lr, or set "
                "trainer.gradient_clip_val=1. The checkpoints of earlier epochs are kept"
            )

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val", self.val_scores)
        self._log_epoch()

    def on_test_epoch_end(self) -> None:
        self._log_scores("test", self.test_scores)

    def _log_scores(self, stage: str, scores: Scores) -> dict[str, Tensor]:
        """Log the scores of an epoch, the same on every process, and begin anew."""
        values = scores.compute()
        scores.reset()
        for name, value in values.items():
            in_bar = name != "f1" and (stage, name) != ("train", "accuracy")
            self.log(f"{stage}/{name}", value, prog_bar=in_bar, sync_dist=False)
        return values

    def _log_epoch(self) -> None:
        """Log the epoch as the number of epochs trained, as plugins count; Lightning's own starts at 0."""
        self.log("epoch", float(self.current_epoch + 1), sync_dist=False)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        check_end(self.scheduler, self.trainer)
        scheduler, self.plan = lay(self.scheduler, optimizer, self.plan, self.trainer)
        if (checkpoint := self._checkpoint) is not None:
            self._checkpoint = None
            then, bound = plan_of(checkpoint, self.plan, scheduler), self.trainer.max_steps
            self.plan, self.resumed = go_on(checkpoint, then, self.plan, optimizer, scheduler, bound)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"class_names": list(self.class_names), "plan": self.plan.kept()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit; Lightning restores it when the optimizers are there."""
        fit_to_checkpoint(self.net, self.class_names, checkpoint)
        if self._trainer is not None:
            callbacks: list[Callback] = vars(self.trainer)["callbacks"]
            known = {callback.state_key for callback in callbacks}  # Lightning warns of all others
            states = checkpoint.get("callbacks", {}).items()
            checkpoint["callbacks"] = {key: state for key, state in states if key in known}
            self._checkpoint = checkpoint if self.trainer.state.fn == TrainerFn.FITTING else None


def fit_to_checkpoint(net: nn.Module, class_names: tuple[str, ...], checkpoint: dict[str, Any]) -> None:
    """Raise UserError that says how `net` and its classes differ from those of the checkpoint."""
    stored = checkpoint.get("class_names", class_names)
    if len(stored) != len(class_names):
        raise UserError(
            f"the checkpoint knows {len(stored)} classes ({_some(stored)}), the data has {len(class_names)} "
            f"({_some(class_names)}): give the data set that the checkpoint was trained on"
        )
    state, weights = net.state_dict(), _weights(net, checkpoint)
    different = [
        k
        for k in state.keys() | weights.keys()
        if k not in state or k not in weights or state[k].shape != weights[k].shape
    ]
    if different:
        names = ", ".join(sorted(name.removeprefix("body.") for name in different)[:5])
        raise UserError(f"the checkpoint is of another network: {len(different)} weights differ ({names}, ...)")


def load_weights(net: nn.Module, class_names: tuple[str, ...], checkpoint: dict[str, Any]) -> None:
    """Give `net` the weights of a checkpoint; raises UserError where they do not fit."""
    fit_to_checkpoint(net, class_names, checkpoint)
    net.load_state_dict(_weights(net, checkpoint))


def load_file(net: nn.Module, class_names: tuple[str, ...], path: Path, head: str | None = None) -> None:
    """Give `net` the weights of a file, of a run of ours or anybody's; `head` "new" leaves its last layer as it is.

    Raises UserError where they do not fit.
    """
    content = read_weights(path)
    if head is None and {"class_names", "state_dict"} <= content.keys():
        check_content(content, path)
        load_weights(net, class_names, content)
    else:
        load_foreign(net, len(class_names), content, path, head)


def _weights(net: nn.Module, checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of `net` in a checkpoint of a training, or in the plain `state_dict` of what `Normalized` wraps."""
    stored = checkpoint["state_dict"]
    if any(name.startswith("net.") for name in stored):
        return {name.removeprefix("net."): value for name, value in stored.items() if name.startswith("net.")}
    inside = "body." if isinstance(net, Normalized) else ""
    return {f"{inside}{name.removeprefix('module.')}": value for name, value in stored.items()}


def _some(names: Any) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
