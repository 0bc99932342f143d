"""How commands end that a signal hits, or whose processes hang, as a user starts them: one line, the right code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT

QUIET = ["data.size=16", "logger=report", "callbacks.progress_bar=null", "callbacks.model_summary=null",
         "+trainer.enable_progress_bar=false", "+trainer.enable_model_summary=false"]  # fmt: skip
LONG = [*QUIET, "trainer.max_epochs=500", "trainer.limit_train_batches=4"]
TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
SLOW = "+plugin.slow={{_target_: tests.studies.Slow, timeout: 5, flag: {0}/study, {1}}}"


class Command:
    """A command in a session of its own, whose processes can be told apart."""

    def __init__(self, folder: Path, script: str, *arguments: str, launcher=(), **environment: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "RUN_STAMP"}
        self.run = folder / "run"
        self.process = subprocess.Popen(
            [sys.executable, *launcher, ROOT / script, *arguments, f"output={self.run}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True,
            env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        )  # fmt: skip

    def wait_for(self, path: str, seconds: float = 120) -> None:
        ends = time.monotonic() + seconds
        while not (self.run.parent / path).exists() and self.process.poll() is None and time.monotonic() < ends:
            time.sleep(0.05)
        time.sleep(0.3)
        assert self.process.poll() is None, self.process.communicate()[0]

    def rank(self, number: int) -> int:
        """The process of a rank, as it says of itself when it studies."""
        return int((self.run.parent / f"study{number}").read_text())

    def end(self, send: Callable[[], None] | None = None, seconds: float = 100) -> tuple[int, str]:
        """Exit code and output after the signal that `send` sends; nothing of it may be left."""
        try:
            if send:
                send()
            output, _ = self.process.communicate(timeout=seconds)
        finally:
            left = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _session(path) == self.process.pid]
            for process in left:
                os.kill(process, signal.SIGKILL)
            self.process.wait()
        assert not left, output
        return self.process.returncode, output


def _session(process: Path) -> int | None:
    try:
        state, *_, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
        return None if state == "Z" else int(session)
    except OSError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "rank", "number", "shared"),
    [
        ((), 1, "SIGTERM", "true"),
        ((), 0, "SIGTERM", "false"),
        ((), 1, "SIGINT", "true"),
        (TORCHRUN, 1, "SIGTERM", "true"),
    ],
)
def test_a_signal_to_one_rank_in_a_study_ends_both(tmp_path, launcher, rank, number, shared):
    study = SLOW.format(tmp_path, f"seconds: 3, at_start: false, shared: {shared}")
    command = Command(tmp_path, "train.py", *TWO, *LONG, study, launcher=launcher)
    command.wait_for(f"study{rank}")
    code, output = command.end(lambda: os.kill(command.rank(rank), signal.Signals[number]))
    said = output.split("Traceback")[0].splitlines() if launcher else output.splitlines()  # torchrun adds its own
    assert len([line for line in said if line.startswith(f"Ended early by {number}")]) == 1, output
    assert launcher or (code == 128 + signal.Signals[number] and len(said) == 1), output
    assert (command.run / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "how"), [((), "stop"), (TORCHRUN, "stop"), ((), "kill")])
def test_a_rank_that_hangs_or_is_gone_in_a_study_ends_the_other(tmp_path, launcher, how):
    study = SLOW.format(tmp_path, f"seconds: 1, at_start: false, grace: 2, {how}: 1")
    code, output = Command(tmp_path, "train.py", *TWO, *LONG, study, launcher=launcher).end()
    said = "error: process 1 is gone" if how == "kill" else "error: process 1 did not come within 7 seconds: it hangs"
    assert code == 1 and output.count("error: ") == 1 and said in output, output
    assert launcher or "Traceback" not in output, output


@pytest.mark.slow
@pytest.mark.parametrize(("number", "processes"), [("SIGTERM", ["trainer=cpu"]), ("SIGTERM", TWO), ("SIGINT", TWO)])
def test_a_signal_to_all_processes_with_loader_workers_is_one_line(tmp_path, number, processes):
    command = Command(tmp_path, "train.py", *processes, *LONG, "data.num_workers=2", "+plugin=confusion")
    command.wait_for("run/checkpoints/last.ckpt")
    code, output = command.end(lambda: os.killpg(command.process.pid, signal.Signals[number]))
    assert code == 128 + signal.Signals[number] and len(output.splitlines()) == 1, output
    assert output.startswith(f"Ended early by {number}: to resume, give the same command with checkpoint=")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "launcher"), [("SIGTERM", ()), ("SIGINT", ()), ("SIGTERM", TORCHRUN)])
def test_an_analysis_that_is_ended_leaves_what_was_found(tmp_path, number, launcher):
    seconds = 6 if launcher else 60  # the other process hears of it when it has done its part
    study = SLOW.format(tmp_path, f"seconds: {seconds}, timeout: null")
    command = Command(tmp_path, "analyze.py", "data.size=16", "accelerator=cpu", "logger=report", "+plugin=confusion",
                      study, "data.num_workers=2", launcher=launcher)  # fmt: skip
    command.wait_for("study0")
    code, output = command.end(lambda: os.kill(command.rank(0), signal.Signals[number]))
    assert f"Ended early by {number}: results and report in {command.run}" in output and "plugin slow" not in output, (
        output
    )
    assert launcher or (code == 128 + signal.Signals[number] and "Traceback" not in output), output
    assert (command.run / "results/confusion/epoch=0000/rows.png").is_file()
    assert "confusion" in (command.run / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "launcher"),
    [("SIGTERM", []), ("SIGINT", []), ("SIGKILL", []), ("SIGTERM", ["sweep=joblib", "hydra.launcher.n_jobs=2"])],
)
def test_a_sweep_that_is_ended_says_so_of_its_jobs(tmp_path, number, launcher):
    command = Command(tmp_path, "train.py", "-m", "seed=1,2,3", "trainer=cpu", *LONG, *launcher)
    command.wait_for(f"run/{1 if launcher else 0}/checkpoints/last.ckpt")
    code, output = command.end(lambda: os.kill(command.process.pid, signal.Signals[number]))
    if number == "SIGKILL":
        rebuild = [sys.executable, "-m", "interp.lit.sweep", str(command.run)]
        subprocess.run(rebuild, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=100)
    else:
        assert code == 128 + signal.Signals[number] and "Traceback" not in output, output
    kept = [json.loads(path.read_text()) for path in sorted(command.run.glob("*/job.json"))]
    assert [job["status"] for job in kept] == ["killed"] * (2 if launcher else 1) and kept[0]["scalars"]
    page = (command.run / "sweep.html").read_text()
    assert page.count('class="status killed"') == len(kept) and 'class="status running"' not in page
