"""Sweeps as a user starts them."""

import json
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import identical
from tests.end_to_end.conftest import ROOT, command
from tests.wandb_file import group, records

QUICK = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.size=8", "output=sweep")


def rows(sweep: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(sweep.glob("*/job.json"))]


def weights(sweep: Path) -> list[dict]:
    """The last weights of each job that finished."""
    finished = [sweep / str(row["number"]) for row in rows(sweep) if row["status"] == "finished"]
    return [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in finished]


def test_a_sweep_goes_on_after_failed_jobs_and_gathers_its_runs(tmp_path):
    options = ["seed=1,2", "+plugin=nmf", "plugin.nmf.layer=blok1,block1", "logger.wandb.artifacts=true", *QUICK]
    done = command(tmp_path, "-m", *options, check=False)
    assert done.returncode == 1 and "error: 2 of 4 jobs failed" in done.stderr, done.stdout + done.stderr
    assert "no layer 'blok1'" in done.stderr and "Traceback" not in done.stdout + done.stderr
    sweep = tmp_path / "sweep"
    assert [row["status"] for row in rows(sweep)] == ["failed", "finished", "failed", "finished"]
    assert "no layer 'blok1'" in rows(sweep)[0]["error"] and "no layer 'blok1'" in (sweep / "0/train.log").read_text()
    groups = {group(sweep / job) for job in "13"}
    ((name, job_type),) = groups
    assert re.fullmatch(r"train-[\d_-]+", name) and job_type == "sweep"
    for job in "13":
        made = [(artifact.type, *artifact.aliases) for artifact in records(sweep / job, "artifact")]
        assert made == [("model", "best", "latest"), ("model", "last", "latest"), ("results", "latest")]
        assert (sweep / job / "report.html").is_file() and (sweep / job / "results/nmf/epoch=0001/groups.png").is_file()
    assert not identical(*weights(sweep))
    page = (sweep / "sweep.html").read_text()
    assert 'href="1/report.html"' in page and "did you mean &#39;block1&#39;" in page


def test_an_objective_that_no_run_has_is_named(tmp_path):
    done = command(tmp_path, "-m", "seed=1", "objective=[val/accuracy,val/acuracy]", "logger=none", *QUICK, check=False)
    assert done.returncode == 1 and "no scalar 'val/acuracy'" in done.stderr and "Traceback" not in done.stderr


FOUR = ("-m", "seed=1,2,3,4", "+plugin=nmf", "logger=report", *QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_four_jobs_on_two_workers_are_what_they_are_one_after_another(tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher", reason="pip install 'epochscope[sweep]'")
    command(tmp_path, *FOUR)
    command(tmp_path, *FOUR, f"sweep={launcher}", "output=beside")
    one, other = tmp_path / "sweep", tmp_path / "beside"
    assert len(weights(one)) == 4 and identical(weights(one), weights(other))
    for kept in sorted(one.glob("*/results/nmf/*/result.safetensors")):
        assert kept.read_bytes() == (other / kept.relative_to(one)).read_bytes()
    for row, beside in zip(rows(one), rows(other), strict=True):
        assert row["objectives"] == beside["objectives"] and row["number"] == beside["number"]
        timed = {"nmf/seconds", "nmf/share_of_epoch"}
        assert all(row["scalars"][key] == beside["scalars"][key] for key in row["scalars"].keys() - timed)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_a_killed_worker_costs_its_job_alone(tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher", reason="pip install 'epochscope[sweep]'")
    killer = "+plugin.killer={_target_: tests.studies.Killed, seed: ${seed}}"
    done = command(tmp_path, *FOUR, killer, f"sweep={launcher}", check=False, PYTHONPATH=str(ROOT))
    assert done.returncode == 1 and "1 of 4 jobs failed. job 1: its process ended without a word" in done.stderr, (
        done.stderr
    )
    assert [row["status"] for row in rows(tmp_path / "sweep")] == ["finished", "failed", "finished", "finished"]
    assert "its process ended without a word: killed" in (tmp_path / "sweep" / "sweep.html").read_text()
    assert rows(tmp_path / "sweep")[1]["parameters"]["seed"] == "2"


@pytest.mark.slow
def test_a_search_has_several_objectives_and_survives_failed_trials(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install 'epochscope[sweep]'")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'epochscope[sweep]'")
    search = ["optimizer.lr=choice(0.001,0.01,-1)", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2"]
    search += ["objective=[val/accuracy,nmf/relative_error]", "hydra.sweeper.direction=[maximize,minimize]"]
    done = command(tmp_path, "sweep=[optuna,joblib]", "+plugin=nmf", "logger=report", *search, *QUICK, check=False)
    told = rows(tmp_path / "sweep")
    failed = [row for row in told if row["status"] == "failed"]
    assert len(told) == 4 and 0 < len(failed) < 4, done.stdout + done.stderr
    assert all("Invalid learning rate: -1" in row["error"] for row in failed) and done.returncode == 1
    found = {row["number"]: [value for value, _ in row["objectives"].values()] for row in told if "objectives" in row}
    front = {
        n for n, (a, e) in found.items() if not any((b > a and f <= e) or (b >= a and f < e) for b, f in found.values())
    }
    printed = set(map(int, re.findall(r"Pareto front: job (\d+): val/accuracy=", done.stdout + done.stderr)))
    assert front and printed == front
    best = {tuple(s["values"]) for s in OmegaConf.load(tmp_path / "sweep/optimization_results.yaml").solutions}
    assert best == {tuple(found[number]) for number in front}  # Optuna's own front
    assert 'id="scatter"' in (tmp_path / "sweep/sweep.html").read_text()
