"""Runs that log to a W&B server which fails meanwhile: what they are held up, how their end arrives."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Callback

from tests.end_to_end.conftest import ROOT, command
from tests.fake_wandb import FakeWandb, clock
from tests.studies import ConfidencePlugin, Explorable

SMALL = ("data.size=16", "trainer=cpu", "trainer.limit_train_batches=4", "callbacks.progress_bar=null",
         "callbacks.model_summary=null", "logger=[report,wandb]")  # fmt: skip


@dataclass(frozen=True)
class Tabled(Explorable):
    """Has a table with pictures, too."""

    def tables(self):
        return {"units": (["unit", "peaks in"], [[unit, self.pictures()["bars"]] for unit in range(3)])}


@dataclass(kw_only=True)
class TabledPlugin(ConfidencePlugin):
    """Makes one."""

    def analyze(self, net, probe):
        return Tabled(super().analyze(net, probe).highest)


class Switch(Callback):
    """Lets the server fail in every second epoch and measures each epoch; a batch takes 50 ms more in all of them."""

    server: ClassVar[FakeWandb]
    fault: ClassVar[dict[str, Any] | None]
    seconds: ClassVar[dict[bool, list[float]]]

    def __init__(self) -> None:
        self.context, self.began, self.failing = None, 0.0, False

    def on_train_epoch_start(self, trainer, pl_module):
        now = clock()
        if trainer.current_epoch > 2:  # before, everything is done for the first time
            self.seconds[self.failing].append(now - self.began)
        if self.context:
            self.context.__exit__(None, None, None)
        self.failing, self.context = trainer.current_epoch % 2 == 1, None
        if self.failing:
            self.context = self.server.failing(**self.fault) if self.fault else gone(self.server)
            self.context.__enter__()
        self.began = clock()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        time.sleep(0.05)

    def on_fit_end(self, trainer, pl_module):
        if self.context:
            self.context.__exit__(None, None, None)


@contextmanager
def gone(server):
    """Within, nothing listens."""
    server.go_away()
    try:
        yield
    finally:
        server.start()


@pytest.fixture
def server():
    made = FakeWandb()
    yield made
    made.go_away()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # W&B's own, of pictures in tables
@pytest.mark.parametrize(
    "fault",
    [None, {"hang": True}, {"status": 500}, {"status": 403}, {"delay": 2.0}, {"paths": "PUT", "status": 403}],
    ids=str,
)
def test_training_is_held_up_by_less_than_5_percent(wandb_server, train, tmp_path, fault):
    Switch.server, Switch.fault, Switch.seconds = wandb_server, fault, {True: [], False: []}
    run = train(
        tmp_path, "logger=wandb", "test=false", "trainer.max_epochs=16", "trainer.limit_train_batches=20",
        "trainer.limit_val_batches=1",
        f"+plugin.study={{_target_: {__name__}.TabledPlugin}}", f"+callbacks.switch={{_target_: {__name__}.Switch}}",
    )  # fmt: skip
    with_fault, without = median(Switch.seconds[True]), median(Switch.seconds[False])
    print(f"{fault}: {with_fault:.4f} s an epoch with the fault, {without:.4f} s without, {with_fault / without:.3f}")
    assert run.folder.is_dir() and len(Switch.seconds[True]) > 5
    assert with_fault < 1.05 * without


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_arrives_as_the_exit_code(server, tmp_path, number):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *SMALL, f"output={tmp_path / 'run'}", "trainer.max_epochs=1000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env={**clean, **server.environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until = time.monotonic() + 120
    while not any("val/accuracy" in row for run in server.runs.values() for row in run.history):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    (run,) = server.runs.values()
    assert run.exit_code == 128 + number, said
    assert f"Ended early by {number.name}" in said and "incomplete" not in said


@pytest.mark.slow
def test_crashes_arrive_as_failures(server, tmp_path):
    quick = ("trainer.max_epochs=2", "test=false")
    crash = "+plugin.study={_target_: tests.studies.Interrupted}"
    done = command(tmp_path, *SMALL, *quick, crash, "output=crash", check=False, **server.environment)
    assert done.returncode == 1 and [run.exit_code for run in server.runs.values()] == [1], done.stderr
    server.runs.clear()
    jobs = ("output=sweep", crash, "++plugin.study.epoch=1,2,3")
    done = command(tmp_path, "-m", *SMALL, *quick, *jobs, check=False, **server.environment)
    assert sorted(run.exit_code for run in server.runs.values()) == [0, 1, 1], done.stderr
    server.runs.clear()
    for study, code in (("Failing, after: 0", 1), ("ConfidencePlugin", 0)):
        arguments = (
            "checkpoint=sweep/2",
            f"+plugin.study={{_target_: tests.studies.{study}}}",
            "logger=[report,wandb]",
        )
        done = command(tmp_path, *arguments, f"output=a{code}", script="analyze.py", check=False, **server.environment)
        assert done.returncode == code, done.stderr
        (run,) = server.runs.values()
        assert run.exit_code == code
        server.runs.clear()
