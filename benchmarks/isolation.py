"""What studies cost a training: the isolation, and each plugin at its default schedule: python benchmarks/isolation.py

Two trainings: the default run (small_cnn on digits), and resnet18 on random images of CIFAR10's size and number, of
which a few batches are trained and the epoch is reckoned from them. CPU seconds, one thread; a plugin looks once at the
network after that training. Its pictures are drawn on a thread of their own while the next epoch trains: they hold
training up only by what they take beyond it, and by writing the result, which are the last column's share of the
plugin's time (by the wall clock). `--quick`: the default run alone, without the four dearest plugins.
"""

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hydra import compose, initialize_config_dir
from lightning import Callback, seed_everything
from omegaconf import DictConfig
from torch import nn

from interp.lit.hydra_versions import BASE

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import report, seconds

from conf.check import CONF
from interp.lit import build
from interp.lit.data import ImageData, Splits, TensorImages
from interp.network.quiet import quiet

DEAR = ("axis_alignment", "caricature", "feature_visualization", "robustness")
CIFAR = {"train": 45_000, "val": 5_000}  # images, with a tenth of the training set to validate


def random_cifar(**_: object) -> Splits:
    """Noise in the sizes of CIFAR10's validation and training set (of which only the first 1,000 are kept)."""
    pixels = torch.Generator().manual_seed(0)
    parts = {}
    for name, count in {"train": 1_000, "val": CIFAR["val"]}.items():
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=pixels)
        parts[name] = TensorImages(images, torch.arange(count) % 10)
    return Splits(parts["train"], parts["val"], parts["val"], tuple(map(str, range(10))))


class Clock(Callback):
    """CPU seconds of training and validation batches."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {"train": [], "val": []}

    def on_train_batch_start(self, *_: object) -> None:
        self.began = time.process_time()

    def on_train_batch_end(self, *_: object) -> None:
        self.spent["train"].append(time.process_time() - self.began)

    on_validation_batch_start = on_train_batch_start

    def on_validation_batch_end(self, *_: object) -> None:
        self.spent["val"].append(time.process_time() - self.began)

    def epoch(self, batches: dict[str, int]) -> float:
        """CPU seconds of an epoch of so many batches, from the median batch."""
        return sum(float(torch.tensor(own).median()) * batches[stage] for stage, own in self.spent.items())


def trained(cfg: DictConfig, data: ImageData, batches: dict[str, int]) -> tuple[nn.Module, float]:
    """The network after a short training, and the CPU seconds of one of its epochs."""
    module = build.classifier(cfg, build.network(cfg, data), data)
    clock = Clock()
    build.trainer(cfg, [clock]).fit(module, datamodule=data)
    return module.net, clock.epoch(batches)


def cost(plugin, net: nn.Module, data: ImageData, epoch: float, folder: Path) -> list[object]:
    """A row of the table: what one look costs, and what of it holds training up beyond the look itself."""
    began, cpu = time.perf_counter(), time.process_time()
    result = plugin.look(net, data.probe)
    looked, cpu = time.perf_counter() - began, time.process_time() - cpu
    began = time.perf_counter()
    plugin.keep(result, folder / plugin.name, [], epoch=1, step=1)
    kept = time.perf_counter() - began
    plugin.finish_drawing()
    drawn = time.perf_counter() - began - kept
    blocked = kept + max(0.0, drawn - epoch * plugin.every_n_epochs)
    share = cpu / plugin.every_n_epochs / epoch
    return [plugin.name, plugin.every_n_epochs, cpu, share, drawn, blocked / (looked + blocked)]


def training(title: str, overrides: list[str], names: list[str], batches: dict[str, int], cifar: bool) -> dict:
    """Measure one of the two trainings and print its table."""
    with TemporaryDirectory() as folder, initialize_config_dir(str(CONF), **BASE):
        bars = ["callbacks.progress_bar=null", "callbacks.model_summary=null", "+trainer.enable_progress_bar=false",
                "+trainer.enable_model_summary=false", "trainer.max_epochs=1", "logger=none"]  # fmt: skip
        cfg = compose("train", [f"+plugin=[{','.join(names)}]", f"output={folder}", "trainer=cpu", *bars, *overrides])
        seed_everything(cfg.seed, verbose=False)
        data = ImageData(random_cifar, batch_size=64) if cifar else build.data(cfg)
        net, epoch = trained(cfg, data, batches)
        nothing = seconds(lambda: guard(net), repeats=20)
        rows = []
        for plugin in build.plugins(cfg):
            rows.append(cost(plugin, net, data, epoch, Path(folder)))
            print(*rows[-1], file=sys.stderr)
    columns = ("plugin", "every n epochs", "a look, CPU s", "share of an epoch", "drawing, s", "holds up, share of it")
    told = f"{title}: an epoch {epoch:.3g} CPU s, the isolation {nothing * 1000:.3g} ms = {nothing / epoch:.2%}"
    shares = {row[0]: round(float(row[3]), 4) for row in rows}
    held = {row[0]: round(float(row[5]), 4) for row in rows}
    report(told, columns, rows)
    return {"epoch": epoch, "isolation": nothing, "isolation_share": nothing / epoch, "shares": shares, "held_up": held}


def guard(net: nn.Module) -> None:
    with quiet(net):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the default run, without the dearest plugins")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    every = sorted(path.stem for path in (CONF / "plugin").glob("*.yaml"))
    names = [name for name in every if not (quick and name in DEAR)]
    figures = {"digits": training("the default run", [], names, {"train": 34, "val": 12}, cifar=False)}
    if not quick:
        some = ["model=resnet18", "trainer.limit_train_batches=4", "trainer.limit_val_batches=2"]
        batches = {stage: -(-count // 64) for stage, count in CIFAR.items()}
        figures["cifar10"] = training("resnet18, CIFAR10's size", some, names, batches, cifar=True)
    rows = [(name, own["isolation_share"]) for name, own in figures.items()]
    report("both", ("training", "isolation, share of an epoch"), rows, **figures)


if __name__ == "__main__":
    main()
