"""What counting loss, accuracy and F1 costs a batch: python benchmarks/scores.py

The validation and training loop of Lightning with our module against a bare one (the same network and loss, which logs
the loss alone), and with torchmetrics' metrics, as they were logged before. A linear network, 300 batches of 32 images;
CPU seconds, one thread, the least of five. `--full`: torchmetrics with 1,000 classes as well, which takes minutes.
"""

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import report

from interp.lit.classifier import Classifier

BATCHES = 300
SGD = partial(torch.optim.SGD, lr=0.1)


class Bare(LightningModule):
    """Logs the loss alone; `metrics` beside it."""

    def __init__(self, net: nn.Module, classes: int, metrics: bool = False) -> None:
        super().__init__()
        kinds = {"accuracy": MulticlassAccuracy(classes, average="micro"), "f1": MulticlassF1Score(classes)}
        self.net, self.metrics = net, nn.ModuleDict(kinds if metrics else {})

    def training_step(self, batch, index):
        return self.step(batch, on_step=False, on_epoch=True)

    def validation_step(self, batch, index):
        self.step(batch)

    def step(self, batch, **how):
        logits = self.net(batch[0])
        loss = cross_entropy(logits, batch[1])
        self.log("loss", loss, **how)
        for name, metric in self.metrics.items():
            metric.update(logits.detach(), batch[1])
            self.log(name, metric, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return SGD(self.parameters())


def modules(classes: int, *, dear: bool) -> dict[str, Callable[[], LightningModule]]:
    """What is compared; torchmetrics where it is not too `dear`."""
    names = tuple(map(str, range(classes)))

    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

    kinds: dict[str, Callable[[], LightningModule]] = {
        "bare": lambda: Bare(net(), classes),
        "ours": lambda: Classifier(net(), names, SGD),
    }
    return kinds | ({} if dear else {"torchmetrics": lambda: Bare(net(), classes, metrics=True)})


def milliseconds(module: LightningModule, loop: str, classes: int) -> float:
    """CPU time a batch of one epoch of `loop`, fit or validate."""
    stream = torch.Generator().manual_seed(0)
    batches = [(torch.rand(32, 1, 8, 8, generator=stream), torch.randint(classes, (32,), generator=stream))] * BATCHES
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, deterministic="warn", **off)
    began = time.process_time()
    loader = DataLoader(batches, batch_size=None)
    trainer.fit(module, loader) if loop == "fit" else trainer.validate(module, loader, verbose=False)
    return (time.process_time() - began) / BATCHES * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    full = parser.parse_args().full
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = []
    for classes in (10, 1000):
        for loop in ("validate", "fit"):
            kinds = modules(classes, dear=classes > 10 and not full)
            best = [min(milliseconds(make(), loop, classes) for _ in range(5)) for make in kinds.values()]
            rows.append([classes, loop, *best])
    columns = ["classes", "loop", "bare, ms", "ours, ms", "torchmetrics, ms"]
    report("a batch of 32 images", columns, rows, milliseconds=rows)


if __name__ == "__main__":
    main()
