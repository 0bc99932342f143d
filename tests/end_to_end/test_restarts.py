"""Commands that start at one moment, and processes that are started again: one run a folder all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interp.lit.run_folder.remains import about
from interp.looks import looks
from tests.end_to_end.conftest import ROOT
from tests.typed import TINY

OWN = {key: value for key, value in os.environ.items() if key != "RUN_STAMP" and not key.startswith("WANDB")}
OWN |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [sys.executable, *before, str(ROOT / "train.py"), *TINY, *arguments]
    return subprocess.Popen(command, cwd=folder, env=OWN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ends(*processes: subprocess.Popen) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=300)[0] for process in processes]
    return sorted(zip((process.returncode for process in processes), said, strict=True))


@pytest.mark.slow
def test_of_commands_that_start_at_one_moment_one_has_the_folder(tmp_path):
    first, *others = ends(*(start(tmp_path, "output=run", "trainer.max_epochs=3", f"seed={n}") for n in range(3)))
    assert first[0] == 0 and all(code == 1 for code, _ in others), (first, others)
    assert all("error: " in said and ("is in use by" in said or "holds another run" in said) for _, said in others)
    assert about(tmp_path / "run")["ended"] == "finished"
    rows = ends(*(start(tmp_path, "checkpoint=run", "output=run", "trainer.max_epochs=6") for _ in range(3)))
    told = ("is in use by", "is finished", "resuming")
    assert [code for code, _ in rows].count(0) >= 1 and all(any(word in said for word in told) for _, said in rows)
    assert sum("resuming" in said for _, said in rows) == 1, rows


@pytest.mark.slow
@pytest.mark.parametrize("output", ["output=run", ""])
def test_what_torchrun_starts_again_goes_on_from_its_own_checkpoint(tmp_path, output):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--max-restarts=1", "--nproc-per-node=2")
    asked = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=4", "logger=report"]
    dies = "+plugin.dies={_target_: tests.studies.DiesOnce}"
    ((code, said),) = ends(start(tmp_path, *asked, dies, *filter(None, [output]), before=torchrun))
    (run,) = [tmp_path / "run"] if output else (tmp_path / "outputs" / "train").iterdir()
    assert code == 0 and said.count(f"resuming {run} after epoch 1: with the same settings") == 1, said
    assert [epoch for epoch, _ in looks(run / "results" / "dies")] == [0, 1, 2, 3, 4]
    rows = [json.loads(line) for line in (run / "results" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "val/accuracy" in row["metrics"]] == [1, 2, 3, 4]
    if output:  # another command is not taken for a restart of that one
        ((code, said),) = ends(start(tmp_path, *asked, output, before=torchrun))
        assert code == 1 and said.count("error: output=run holds another run") == 2
