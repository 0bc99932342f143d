"""Sweeps as a user starts them."""

import json
import re
from pathlib import Path

import torch

from tests.conftest import identical
from tests.end_to_end.conftest import command
from tests.wandb_file import group

QUICK = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.size=8", "output=sweep")


def rows(sweep: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(sweep.glob("*/job.json"))]


def weights(sweep: Path) -> list[dict]:
    """The last weights of each job that finished."""
    finished = [sweep / str(row["number"]) for row in rows(sweep) if row["status"] == "finished"]
    return [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in finished]


def test_a_sweep_goes_on_after_failed_jobs_and_gathers_its_runs(tmp_path):
    options = ["seed=1,2", "+plugin=nmf", "plugin.nmf.layer=blok1,block1", *QUICK]
    done = command(tmp_path, "-m", *options, check=False)
    assert done.returncode == 1 and "error: 2 of 4 jobs failed" in done.stderr, done.stdout + done.stderr
    assert "no layer 'blok1'" in done.stderr and "Traceback" not in done.stdout + done.stderr
    sweep = tmp_path / "sweep"
    assert [row["status"] for row in rows(sweep)] == ["failed", "finished", "failed", "finished"]
    assert "no layer 'blok1'" in rows(sweep)[0]["error"] and "no layer 'blok1'" in (sweep / "0/train.log").read_text()
    groups = {group(sweep / job) for job in "13"}
    assert len(groups) == 1 and re.fullmatch(r"train-[\d_-]+", groups.pop()[0])
    for job in "13":
        assert (sweep / job / "report.html").is_file() and (sweep / job / "results/nmf/epoch=0001/groups.png").is_file()
    assert not identical(*weights(sweep))
    page = (sweep / "sweep.html").read_text()
    assert 'href="1/report.html"' in page and "did you mean &#39;block1&#39;" in page


def test_an_objective_that_no_run_has_is_named(tmp_path):
    done = command(
        tmp_path, "-m", "seed=1", "objective=[val/accuracy,nmf/relative_eror]", "logger=none", *QUICK, check=False
    )
    assert done.returncode == 1 and "no scalar 'nmf/relative_eror'" in done.stderr and "Traceback" not in done.stderr
