"""What strangers may hand over: class names that are code or paths."""

import torch
from lightning import Callback, LightningModule, Trainer

from interp.lit.data import Splits, TensorImages

SCRIPT, PATH = "<script>alert(1)</script>", "../../x"
NAMES = (SCRIPT, PATH, "a\"' onerror=alert(1) {{ 7 * 7 }} ${oc.env:HOME} %s\n\x1b[31m")


class Broken(Callback):
    """Fails in training and tells the world all that the data were given."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise ConnectionError(f"no data for {trainer.datamodule.options}\x1b[2J")


def named(**_: object) -> Splits:
    """Noise of three classes with hostile names."""
    images = torch.randint(256, (36, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = TensorImages(images, torch.arange(36) % 3)
    return Splits(part, part, part, NAMES)
