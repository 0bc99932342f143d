"""Loggers: where W&B goes with and without a login, what TensorBoard receives."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from interp.lit import sinks
from tests.wandb_file import history

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_a_login_is_found_in_the_environment_and_in_netrc(nobody, monkeypatch):
    assert not sinks.logged_in()
    nobody.write_text("machine api.wandb.ai login user password 0123\n")
    nobody.chmod(0o600)
    assert sinks.logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not sinks.logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert sinks.logged_in()
    nobody.write_text("this is no netrc file")
    monkeypatch.delenv("WANDB_API_KEY")
    assert not sinks.logged_in()


@pytest.mark.parametrize(
    ("mode", "key", "expected"),
    [(None, None, "offline"), ("offline", "0123", "offline"), ("disabled", None, "disabled")],
)
def test_without_a_login_or_by_choice_it_stays_offline(nobody, monkeypatch, tmp_path, mode, key, expected):
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        if value:
            monkeypatch.setenv(name, value)
    assert sinks.wandb(str(tmp_path), project="x")._wandb_init["mode"] == expected
    assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path))


UNREACHABLE = """
import logging, sys
logging.basicConfig(level=logging.WARNING)
from interp.lit.sinks import close_wandb, wandb
logger = wandb(sys.argv[1], project="x")
logger.log_metrics({"value": 3.0}, step=1)
print(close_wandb())
"""


def test_a_server_that_refuses_costs_a_warning_and_keeps_the_run(nobody, tmp_path):
    refused = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "3"}
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=120,
        env={**os.environ, **refused},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "W&B cannot be reached" in done.stderr and "wandb sync" in done.stdout
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


WIDGET = """
import sys
from pathlib import Path
from interp.lit.sinks import TensorBoard, close_wandb, wandb
from interp.result import Result
from plugins.sinks import show

class Explorable(Result):
    def widgets(self):
        return {"explorer": "<p>\\u00e4 widget</p>"}

loggers = [TensorBoard(sys.argv[1], name="tensorboard", version=""), wandb(sys.argv[1], project="x")]
loggers[1].log_metrics({"value": 3.0}, step=1)
show(Explorable(), Path(sys.argv[1]) / "results", "nmf", loggers, epoch=2, step=7)
close_wandb()
"""


def test_wandb_receives_the_widget_as_it_is(nobody, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WIDGET, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=120,
        env={**os.environ, "WANDB_MODE": "offline"},
    )  # fmt: skip
    assert done.returncode == 0 and "could not" not in done.stderr, done.stderr
    (row,) = (row for row in history(tmp_path) if "nmf/explorer_widget/path" in row)
    assert row["trainer/global_step"] == 7 and row["nmf/explorer_widget/_type"] == "html-file"
    (sent,) = tmp_path.glob(f"wandb/offline-run-*/files/{row['nmf/explorer_widget/path']}")
    assert sent.read_bytes() == (tmp_path / "results" / "explorer.html").read_bytes() == "<p>ä widget</p>".encode()
