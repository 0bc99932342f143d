"""The LightningModule: any classifier network with its optimizer, scheduler and metrics."""

import inspect
from collections.abc import Callable, Iterable, Sized
from typing import Any, cast

from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DistributedSampler
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from interp.errors import UserError

# What torch's schedulers call the number of steps of the whole training.
STEP_COUNTS = ("total_steps", "T_max", "total_iters")


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
        stages = ("train", "val", "test")
        self.metrics = nn.ModuleDict({f"{stage}_metrics": _metrics(len(class_names)) for stage in stages})
        if compile:
            net.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, J) of images (B, C, H, W) in [0, 1]."""
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return self._step(batch, "train", self._repeated(batch, index))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._step(batch, "test")

    def _repeated(self, batch: tuple[Tensor, Tensor], index: int) -> int:
        """How many images at the end of a batch another process has as well: where they do not divide, torch's sampler
        repeats some, so that every process takes as many steps.
        """
        loader: Any = self.trainer.train_dataloader
        if not isinstance(sampler := getattr(loader, "sampler", None), DistributedSampler):
            return 0
        mine = len(range(sampler.rank, len(cast(Sized, sampler.dataset)), sampler.num_replicas))
        return min(len(batch[1]), max(0, index * loader.batch_size + len(batch[1]) - mine))

    def _step(self, batch: tuple[Tensor, Tensor], stage: str, repeated: int = 0) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = cross_entropy(logits, targets)
        metrics, predicted, mean = self.metrics[f"{stage}_metrics"], logits.detach().float(), loss.detach()
        if repeated:  # they train, and count once
            predicted, targets = predicted[:-repeated], targets[:-repeated]
            mean = cross_entropy(predicted, targets)
        for name, metric in cast(Iterable[tuple[str, Metric]], cast(nn.ModuleDict, metrics).items()):
            if len(targets):
                metric.update(*((mean, len(targets)) if name == "loss" else (predicted, targets)))
            shown = name != "f1" and (stage, name) != ("train", "accuracy")
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True, prog_bar=shown)
        return loss

    def on_train_epoch_end(self) -> None:
        self._log_epoch()

    def on_validation_epoch_end(self) -> None:
        self._log_epoch()

    def _log_epoch(self) -> None:
        """Log the epoch as the number of epochs trained, as plugins count; Lightning's own starts at 0."""
        self.log("epoch", float(self.current_epoch + 1), sync_dist=False)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        accepted = inspect.signature(self.scheduler).parameters
        given = getattr(self.scheduler, "keywords", {})
        steps = int(self.trainer.estimated_stepping_batches)
        counts = {name: steps for name in STEP_COUNTS if name in accepted and given.get(name) is None}
        scheduler = self.scheduler(optimizer, **counts)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["class_names"] = list(self.class_names)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        fit_to_checkpoint(self.net, self.class_names, checkpoint)


def _metrics(classes: int) -> nn.ModuleDict:
    accuracy = MulticlassAccuracy(classes, average="micro")
    return nn.ModuleDict(
        {
            "loss": MeanMetric(nan_strategy="disable"),
            "accuracy": accuracy,
            "f1": MulticlassF1Score(classes, average="macro"),
        }
    )


def fit_to_checkpoint(net: nn.Module, class_names: tuple[str, ...], checkpoint: dict[str, Any]) -> None:
    """Raise UserError that says how `net` and its classes differ from those of the checkpoint."""
    stored = checkpoint.get("class_names", class_names)
    if len(stored) != len(class_names):
        raise UserError(
            f"the checkpoint knows {len(stored)} classes ({_some(stored)}), the data has {len(class_names)} "
            f"({_some(class_names)}): give the data set that the checkpoint was trained on"
        )
    own, weights = net.state_dict(), _weights(checkpoint)
    different = [
        k for k in own.keys() | weights.keys() if k not in own or k not in weights or own[k].shape != weights[k].shape
    ]
    if different:
        names = ", ".join(sorted(name.removeprefix("body.") for name in different)[:5])
        raise UserError(f"the checkpoint is of another network: {len(different)} weights differ ({names}, ...)")


def load_weights(net: nn.Module, class_names: tuple[str, ...], checkpoint: dict[str, Any]) -> None:
    """Give `net` the weights of a checkpoint; raises UserError where they do not fit."""
    fit_to_checkpoint(net, class_names, checkpoint)
    net.load_state_dict(_weights(checkpoint))


def _weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    return {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}


def _some(names: Any) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
