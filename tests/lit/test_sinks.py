"""Loggers: where W&B goes with and without a login, what TensorBoard receives."""

import os
from dataclasses import dataclass
from pathlib import Path
from unittest import TestCase

import numpy as np
import pytest
import torch
import wandb
from PIL import Image

from interp.draw.policy import guarded
from interp.lit import sinks
from interp.lit.data import ImageData
from interp.lit.data.shapes import shapes
from interp.lit.models import small_cnn
from interp.lit.wandb import file as wandb_file
from interp.lit.wandb import logger as wandb_logger
from interp.result import Result
from plugins.base.sinks import show
from plugins.class_attribution import ClassAttributionPlugin
from plugins.confusion import ConfusionPlugin
from plugins.dissection import DissectionPlugin, DissectionResult
from tests.wandb_file import config, history, only, table


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_a_login_is_found_in_the_environment_and_in_netrc(nobody, monkeypatch):
    assert not wandb_logger.logged_in()
    nobody.write_text("machine api.wandb.ai login user password 0123\n")
    nobody.chmod(0o600)
    assert wandb_logger.logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not wandb_logger.logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert wandb_logger.logged_in()
    nobody.write_text("this is no netrc file")
    monkeypatch.delenv("WANDB_API_KEY")
    assert not wandb_logger.logged_in()


@pytest.mark.parametrize(
    ("mode", "key", "expected"),
    [(None, None, "offline"), ("offline", "0123", "offline"), ("disabled", None, "disabled")],
)
def test_without_a_login_or_by_choice_it_stays_offline(nobody, monkeypatch, tmp_path, mode, key, expected):
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        if value:
            monkeypatch.setenv(name, value)
    assert wandb_logger.wandb(str(tmp_path), project="x")._wandb_init["mode"] == expected
    assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path))


def test_a_server_that_refuses_costs_a_warning_and_keeps_the_run(wandb_server, tmp_path, caplog):
    refused = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "3"}
    os.environ |= refused  # until `wandb_server` restores it
    wandb_logger.wandb(str(tmp_path), project="x").log_metrics({"value": 3.0}, step=1)
    said = wandb_logger.close_wandb()
    assert "W&B cannot be reached" in caplog.text and "wandb sync" in said
    assert any(row.get("value") == 3.0 for row in history(tmp_path))


def test_tensorboard_receives_the_picture(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    logger = sinks.TensorBoard(str(tmp_path), name="tensorboard", version="")
    logger.log_image(key="nmf/groups", images=[Image.fromarray(pixels)], step=5, caption=["what it shows"])
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (event,) = events.Images("nmf/groups")
    assert event.step == 5 and event.width == 30 and event.height == 20


@dataclass(frozen=True)
class Explorable(Result):
    def widgets(self) -> dict[str, str]:
        return {"explorer": "<p>ä widget</p>"}


@pytest.fixture(scope="module")
def received(tmp_path_factory):
    """The folder of an offline run that was sent a widget and the tables of three studies."""
    folder = tmp_path_factory.mktemp("received")
    with pytest.MonkeyPatch.context() as patch, TestCase().assertNoLogs(level="WARNING"):
        for name in [name for name in os.environ if name.startswith("WANDB")]:
            patch.delenv(name)
        patch.setenv("WANDB_MODE", "offline")
        wandb.teardown()  # which forgets the environment of others
        patch.setattr(DissectionResult, "pictures", Result.pictures)  # charts take their time, and tables count here
        send(folder)
    wandb.teardown()
    return folder


def send(folder: Path) -> None:
    board = sinks.TensorBoard(str(folder), name="tensorboard", version="")
    loggers = [board, wandb_logger.wandb(str(folder), project="x")]
    loggers[1].log_hyperparams({"seed": 1, "account": {"password": "hush", "user": "me"}})
    loggers[1].log_metrics({"value": 3.0}, step=1)
    show(Explorable(), folder / "results", "nmf", loggers, epoch=2, step=7)
    torch.manual_seed(0)
    data = ImageData(shapes, train=1, val=40, test=1, size=32)
    for study in (
        DissectionPlugin(name="dissection", layers=["block1", "block2"], shuffles=0, shown=1),
        ClassAttributionPlugin(name="class_attribution"),
        ConfusionPlugin(name="confusion"),
    ):
        result = study.look(small_cnn(data, widths=(8, 16)).eval(), data.probe)
        show(result, folder / "results", study.name, loggers, epoch=3, step=9)
    wandb_logger.close_wandb()


def test_wandb_receives_the_widget_as_it_is(received):
    (row,) = (row for row in history(received) if "nmf/explorer_widget/path" in row)
    assert row["epoch"] == 2 and row["trainer/global_step"] == 7 and row["nmf/explorer_widget/_type"] == "html-file"
    (sent,) = received.glob(f"wandb/offline-run-*/files/{row['nmf/explorer_widget/path']}")
    assert sent.read_bytes() == "<p>ä widget</p>".encode()
    assert (received / "results" / "explorer.html").read_text(encoding="utf-8") == guarded("<p>ä widget</p>")


def test_a_run_that_was_killed_while_writing_can_be_read(received, tmp_path):
    whole = only(received).read_bytes()
    path = tmp_path / "run-torn.wandb"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    rows = list(wandb_file.history(path))
    assert 0 < len(rows) < len(history(received)) and rows == history(received)[: len(rows)]


def test_wandb_receives_no_secrets(received):
    assert config(received)["account"] == {"password": "(hidden)", "user": "me"}
    assert b"hush" not in only(received).read_bytes()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("dissection/units", "layer, unit, best concept, category, IoU, detector, since look, peaks in"),
        ("class_attribution/labels", "layer, image, class, factor, label, logits, where"),
        ("confusion/pairs", "true class, predicted as, images, share of the true class, example"),
    ],
)
def test_wandb_receives_tables_with_numbers_to_sort_and_pictures_to_see(received, name, columns):
    key = f"{name}_table"
    (row,) = (row for row in history(received) if f"{key}/_type" in row)
    assert row["epoch"] == 3 and row[f"{key}/_type"] == "table-file"
    names, rows = table(received, row, key)
    assert ", ".join(names) == columns and len(rows) == row[f"{key}/nrows"] > 0
    assert len(rows) == 24 or not name.startswith("dissection")  # all units of both layers
    for column, cells in zip(names, zip(*rows, strict=True), strict=True):
        numbers = column in ("unit", "IoU", "image", "factor", "logits", "images", "share of the true class")
        pictures = column in ("peaks in", "where", "example")
        expected = int | float if numbers else dict if pictures else str
        assert all(isinstance(cell, expected) for cell in cells), column
        if pictures:
            assert {(cell["_type"], cell["width"], cell["height"]) for cell in cells} == {("image-file", 64, 64)}
