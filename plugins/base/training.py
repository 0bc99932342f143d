"""What a study sees of a training of Lightning."""

from lightning import LightningModule, Trainer
from torch import nn

from interp.errors import UserError
from interp.probe import Probe


def ends(trainer: Trainer) -> bool:
    """Whether the epoch that has just been trained is the last, as far as can be told before early stopping."""
    epoch, steps = trainer.current_epoch + 1, trainer.global_step
    stops = trainer.should_stop and epoch >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
    return stops or epoch == trainer.max_epochs or 0 <= trainer.max_steps <= steps


def network(module: LightningModule) -> nn.Module:
    """What is studied: the module's `net`, or the module itself, from images in [0, 1] to logits."""
    net = getattr(module, "net", module)
    return net if isinstance(net, nn.Module) else module


def probe_of(trainer: Trainer) -> Probe:
    """The probe of the trainer's DataModule; raises UserError where it has none."""
    probe = getattr(getattr(trainer, "datamodule", None), "probe", None)
    if not isinstance(probe, Probe):
        raise UserError("plugins look at `datamodule.probe`: give the trainer a DataModule with an interp.probe.Probe")
    return probe
