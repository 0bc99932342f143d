"""Training on two processes as a user starts it: by train.py, which starts the second, and by torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT

SMALL = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=2", "logger=report",
         "trainer.limit_train_batches=4", "data.size=16", "test=false", "+plugin=[confusion,nmf]"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]])
def test_two_processes_write_one_run(launcher, tmp_path):
    own = {key: value for key, value in os.environ.items() if key != "RUN_STAMP" and not key.startswith("WANDB")}
    command = [sys.executable, *launcher, str(ROOT / "train.py"), *SMALL]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stdout.count("Done: val/accuracy") == 1, done.stdout + done.stderr
    (run,) = (tmp_path / "outputs" / "train").iterdir()
    assert (run / "report.html").is_file() and (run / ".hydra" / "config.yaml").is_file()
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for study, picture in (("confusion", "rows"), ("nmf", "groups")):
        folders = sorted((run / "results" / study).iterdir())
        assert [folder.name for folder in folders] == ["epoch=0000", "epoch=0001", "epoch=0002"]
        assert all((folder / f"{picture}.png").is_file() for folder in folders)
    rows = [json.loads(line) for line in (run / "results" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "confusion/accuracy" in row["metrics"]] == [0, 1, 2]
    assert all(row["metrics"].get("confusion/failed", 0) == 0 for row in rows)
    assert "failed" not in (run / "train.log").read_text()


@pytest.mark.slow
def test_an_analysis_by_torchrun_finds_what_one_process_finds(tmp_path):
    own = {key: value for key, value in os.environ.items() if key != "RUN_STAMP" and not key.startswith("WANDB")}
    found = []
    for processes in ("1", "2"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
                   str(ROOT / "analyze.py"), "data.size=16", "+plugin=[confusion,dissection]", "accelerator=cpu",
                   f"output={tmp_path / processes}"]  # fmt: skip
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 and done.stdout.count("Done: results and report") == 1, done.stdout + done.stderr
        assert (tmp_path / processes / "report.html").is_file()
        read = sorted((tmp_path / processes).glob("results/*/epoch=0000/result.json"))
        found.append([json.loads(path.read_text())["scalars"] for path in read])
    assert len(found[0]) == 2 and found[0] == found[1]


@pytest.mark.slow
def test_the_script_for_clusters_runs_on_one_machine(tmp_path):
    own = {
        key: value for key, value in os.environ.items() if key != "RUN_STAMP" and not key.startswith(("WANDB", "SLURM"))
    }
    own["PATH"] = f"{Path(sys.executable).parent}:{own['PATH']}"
    train = [
        sys.executable,
        "train.py",
        "trainer.max_epochs=1",
        "data.size=16",
        "logger=none",
        f"output={tmp_path / 'run'}",
    ]
    subprocess.run(train, cwd=ROOT, env=own, check=True, timeout=300)
    dissect = ["docs/dissect_cluster.sh", str(tmp_path / "run"), f"output={tmp_path / 'found'}", "accelerator=cpu"]
    subprocess.run(dissect, cwd=ROOT, env=own, check=True, timeout=300)
    (found,) = (tmp_path / "found" / "results" / "dissection").glob("epoch=0001/result.json")
    assert json.loads(found.read_text())["scalars"]["mean_best_iou"] > 0
