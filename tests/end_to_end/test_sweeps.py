"""Sweeps as a user starts them."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import identical
from tests.end_to_end.conftest import ROOT, command
from tests.typed import typed
from tests.wandb_file import group, records

QUICK = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.size=8", "output=sweep")


def rows(sweep: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(sweep.glob("*/job.json"))]


def weights(sweep: Path) -> list[dict]:
    """The last weights of each job that finished."""
    finished = [sweep / str(row["number"]) for row in rows(sweep) if row["status"] == "finished"]
    return [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in finished]


def test_a_sweep_goes_on_after_failed_jobs_and_gathers_its_runs(tmp_path):
    options = ["seed=1,2", "+plugin=nmf", "plugin.nmf.layer=blok1,block1", "logger.wandb.artifacts=true", *QUICK,
               "plugin.nmf.icon_steps=0", "plugin.nmf.restarts=0"]  # fmt: skip
    ended = typed(tmp_path, "-m", *options)
    assert ended.code == 1 and "error: 2 of 4 jobs failed" in ended.said, ended.said
    assert "no layer 'blok1'" in ended.said and "Traceback" not in ended.said
    sweep = tmp_path / "sweep"
    assert [row["status"] for row in rows(sweep)] == ["failed", "finished", "failed", "finished"]
    assert "no layer 'blok1'" in rows(sweep)[0]["error"] and "no layer 'blok1'" in (sweep / "0/train.log").read_text()
    groups = {group(sweep / job) for job in "13"}
    ((name, job_type),) = groups
    assert re.fullmatch(r"train-[\d_-]+", name) and job_type == "sweep"
    for job in "13":
        made = [(artifact.type, *sorted(artifact.aliases)) for artifact in records(sweep / job, "artifact")]
        assert made == [("model", "best", "latest"), ("model", "last", "latest"), ("results", "latest")]
        assert (sweep / job / "report.html").is_file() and (sweep / job / "results/nmf/epoch=0001/groups.png").is_file()
    assert not identical(*weights(sweep))
    page = (sweep / "sweep.html").read_text()
    assert 'href="1/report.html"' in page and "did you mean &#39;block1&#39;" in page


def test_an_objective_that_no_run_has_is_named(tmp_path):
    ended = typed(tmp_path, "-m", "seed=1", "objective=[val/accuracy,val/acuracy]", "logger=none", *QUICK)
    assert ended.code == 1 and "'val/acuracy'; did you mean 'val/accuracy'?" in ended.said
    assert "Traceback" not in ended.said


FOUR = ("-m", "seed=1,2,3,4", "+plugin=nmf", "logger=report", *QUICK)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # as Ray gives its workers: sums in another order are other sums


@pytest.fixture(params=["joblib", "submitit", "ray"])
def on_two_workers(request):
    """`command` with each launcher; Ray listens on every network interface, so it gets a network of its own."""
    launcher = request.param
    needed = {"submitit": "-e '.[sweep]'", "ray": "ray"}
    if launcher in needed:
        pytest.importorskip(launcher, reason=f"pip install {needed[launcher]}")
    if launcher != "ray":
        yield partial(command, **ONE_THREAD), [f"sweep={launcher}"]
        return
    with network_of_its_own() as inside, tempfile.TemporaryDirectory(prefix="ray") as short:  # a socket's path is short
        alone = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": short}
        yield (
            partial(command, before=inside, **ONE_THREAD, **alone),
            ["sweep=ray", "+hydra.launcher.ray.init.num_cpus=2"],
        )


@contextmanager
def network_of_its_own():
    """The command that runs another where there is no network but the machine's own; skips where that cannot be."""
    name = f"epochscope{os.getpid()}"
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces: apt-get install iproute2")
    if (made := subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)).returncode:
        pytest.skip(f"no network namespaces: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield ["ip", "netns", "exec", name]
    finally:
        left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True).stdout
        for process in left.split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.slow
def test_four_jobs_on_two_workers_are_what_they_are_one_after_another(tmp_path, on_two_workers):
    run, launcher = on_two_workers
    command(tmp_path, *FOUR, **ONE_THREAD)
    run(tmp_path, *FOUR, *launcher, "output=beside")
    one, other = tmp_path / "sweep", tmp_path / "beside"
    assert len(weights(one)) == 4 and identical(weights(one), weights(other))
    for kept in sorted(one.glob("*/results/nmf/*/result.safetensors")):
        assert kept.read_bytes() == (other / kept.relative_to(one)).read_bytes()
    for row, beside in zip(rows(one), rows(other), strict=True):
        assert row["objectives"] == beside["objectives"] and row["number"] == beside["number"]
        timed = {"nmf/seconds", "nmf/share_of_epoch"}
        assert all(row["scalars"][key] == beside["scalars"][key] for key in row["scalars"].keys() - timed)


@pytest.mark.slow
def test_a_killed_worker_costs_its_job_alone(tmp_path, on_two_workers):
    run, launcher = on_two_workers
    killer = "+plugin.killer={_target_: tests.studies.Killed, seed: ${seed}}"
    done = run(tmp_path, *FOUR, killer, *launcher, check=False, PYTHONPATH=str(ROOT))
    assert done.returncode == 1 and "1 of 4 jobs failed. job 1: its process ended without a word" in done.stderr, (
        done.stderr
    )
    assert [row["status"] for row in rows(tmp_path / "sweep")] == ["finished", "failed", "finished", "finished"]
    assert "its process ended without a word: killed" in (tmp_path / "sweep" / "sweep.html").read_text()
    assert rows(tmp_path / "sweep")[1]["parameters"]["seed"] == "2"


@pytest.mark.slow
def test_a_search_has_several_objectives_and_survives_failed_trials(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install -e '.[sweep]'")
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
