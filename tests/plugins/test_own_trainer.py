"""Studies as callbacks in somebody's own Trainer: its folder, too, belongs to one training at a time."""

import json
from pathlib import Path

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from interp.errors import UserError
from interp.lit.report.logger import Report
from interp.lit.run_folder import claim
from interp.lit.run_folder.lock import Lock
from interp.looks import looks
from interp.probe import Probe
from tests.studies import ConfidencePlugin

DATA = TensorDataset(torch.rand(8, 1, 4, 4), torch.arange(8) % 2)


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(LightningDataModule):
    probe = Probe(DATA.tensors[0][:2], torch.tensor([0, 1]), ("a", "b"), torch.arange(2))

    def train_dataloader(self):
        return DataLoader(DATA, 4)


def trainer(folder: Path, epochs: int, *more, **options) -> Trainer:
    quiet = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
    studies = [ConfidencePlugin(name="first"), ConfidencePlugin(name="second"), *more]
    return Trainer(default_root_dir=folder, max_epochs=epochs, callbacks=studies, logger=Report(folder),
                   accelerator="cpu", num_sanity_val_steps=0, log_every_n_steps=1, **quiet | options)  # fmt: skip


def epochs(folder: Path) -> dict[str, list[int]]:
    return {study.name: [epoch for epoch, _ in looks(study)] for study in folder.glob("results/*") if study.is_dir()}


def steps(folder: Path) -> set[int]:
    return {json.loads(line)["step"] for line in (folder / "results" / "metrics.jsonl").read_text().splitlines()}


def test_a_second_training_in_one_folder_sets_the_first_aside(tmp_path, caplog):
    first = trainer(tmp_path, 3)
    first.fit(Module(), datamodule=Data())
    first.fit_loop.max_epochs = 4
    first.fit(Module(), datamodule=Data())  # it goes on
    first.save_checkpoint(tmp_path / "fourth.ckpt")
    trainer(tmp_path, 5).fit(Module(), datamodule=Data(), ckpt_path=tmp_path / "fourth.ckpt", weights_only=True)
    assert epochs(tmp_path) == {"first": [*range(6)], "second": [*range(6)]} and "has left" not in caplog.text
    trainer(tmp_path, 1).fit(Module(), datamodule=Data())
    assert epochs(tmp_path) == {"first": [0, 1], "second": [0, 1]} and steps(tmp_path) == {0, 1}
    assert f"has left in {tmp_path} now lies in {tmp_path}/earlier/1" in caplog.text
    assert epochs(tmp_path / "earlier" / "1")["second"] == [*range(6)]
    assert not (tmp_path / ".run.json").exists() and not claim._held


def test_a_training_beside_another_one_in_its_folder_is_refused(tmp_path):
    other = Lock(tmp_path / ".run.json")
    with pytest.raises(UserError, match="wait for it to end, or give this Trainer another default_root_dir"):
        trainer(tmp_path, 1).fit(Module(), datamodule=Data())
    other.release()
    inner: list[str] = []

    class Starts(ConfidencePlugin):
        def on_train_epoch_start(self, *_):
            with pytest.raises(UserError) as caught:
                trainer(tmp_path, 1).fit(Module(), datamodule=Data())
            inner.append(str(caught.value))

    trainer(tmp_path, 1, Starts(name="starts")).fit(Module(), datamodule=Data())
    assert len(inner) == 1 and "in use by another run of this process" in inner[0] and not claim._held


def test_a_training_that_fails_gives_its_folder_back(tmp_path):
    with pytest.raises(RuntimeError, match="plugin breaks failed"):
        broken = ConfidencePlugin(name="breaks", on_error="raise")
        broken.analyze = lambda *_: 1 / 0
        trainer(tmp_path, 1, broken).fit(Module(), datamodule=Data())
    assert not claim._held and not (tmp_path / ".run.json").exists()
