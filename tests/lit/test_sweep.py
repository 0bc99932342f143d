"""sweep.html: what it says of every job, and that it is a whole page in a browser."""

import json
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import interp
from interp.errors import UserError
from interp.lit.report.logger import Report
from interp.lit.sweep.gather import ENDED, Gather, left, main, stop, write
from interp.lit.sweep.job_process import started, this_process
from interp.lit.sweep.jobs import LOST, job_folders, keep, lost
from interp.lit.sweep.page import KILLED, columns, front, pareto, read_job
from tests.lit.test_report import EVIL, block, figure


def job(
    sweep: Path, number: int, *, error: Exception | None = None, overrides=(), objective=0.5, direction="", **scalars
):
    """A job as Hydra runs it, with the callback around it; its folder."""
    folder = sweep / str(number)
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps([f"seed={number}", "data=digits", *overrides]))
    config = OmegaConf.create(
        {
            "objective": "val/accuracy",
            "hydra": {"mode": RunMode.MULTIRUN, "job": {"num": number}, "sweep": {"dir": str(sweep)},
                      "sweeper": {"direction": direction or None}, "runtime": {"output_dir": str(folder)}},
        }
    )  # fmt: skip
    callback = Gather()
    callback.on_job_start(config)
    assert read_job(folder, sweep).status == "running"
    if error is None:
        for epoch in (0, 1):
            target = figure(folder, epoch=epoch, caption=f"job {number} at epoch {epoch}", size=(60 + number, 40))
            (target / "explorer.html").write_text(f"<p>widget of job {number} at epoch {epoch}</p>")
        Report(folder).log_metrics({"val/accuracy": objective, **scalars, "epoch": 1}, step=9)
        Report(folder, title="one").finalize("success")
    done = JobReturn(status=JobStatus.FAILED if error else JobStatus.COMPLETED)
    done.return_value = error or objective
    callback.on_job_end(config, done)
    assert done.status is JobStatus.COMPLETED and done.return_value is (None if error else objective)
    return config


@pytest.mark.parametrize(
    ("launcher", "instead"), [("joblib", "joblib"), ("submitit_local", "submitit"), ("ray", "ray"), ("basic", None)]
)
def test_a_launcher_that_ends_with_its_first_killed_job_is_told(launcher, instead, caplog):
    choices = {"hydra/launcher": launcher}
    Gather().on_multirun_start(OmegaConf.create({"hydra": {"runtime": {"choices": choices}}}))
    assert (f"take sweep={instead}" in caplog.text) == (instead is not None)


def test_a_launcher_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.syspath_prepend(Path(interp.__file__).parent / "lit" / "sweep" / "launchers")
    launchers = import_module("hydra_plugins.epochscope")
    monkeypatch.setattr(launchers, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"hydra_submitit_launcher is not installed.*pip install -e '\.\[sweep\]'"):
        launchers.SubmititLauncher().launch([["seed=1"]], 0)


def four_jobs(folder: Path) -> Path:
    """Two that finished, one that failed, one whose process was killed."""
    for number in (0, 1):
        job(folder, number, objective=0.9 - number / 4, **{"nmf/relative_error": 0.5 - number / 5})
    job(folder, 2, error=UserError("no layer 'blok1'; did you mean 'block1'?"))
    keep(folder / "3", number=3, status="running")
    return folder


@pytest.fixture
def sweep(tmp_path) -> Path:
    return four_jobs(tmp_path)


def test_jobs_are_kept_with_what_they_found_and_how_they_ended(sweep):
    lost(sweep / "3")
    jobs = write(sweep)
    assert [job.status for job in jobs] == ["finished", "finished", "failed", "failed"]
    assert jobs[0].parameters == {"seed": 0.0, "data": "digits"} and jobs[0].objectives == {"val/accuracy": 0.9}
    assert jobs[1].scalars["nmf/relative_error"] == 0.3 and jobs[0].files["report"] == "0/report.html"
    assert jobs[2].error.startswith("no layer 'blok1'") and jobs[3].error == LOST
    assert [shot[:4] for shot in jobs[1].figures[0]["shots"]] == [
        (epoch, f"1/results/nmf/epoch%3D000{epoch}/groups.png", 61, 40) for epoch in (0, 1)
    ]
    page = (sweep / "sweep.html").read_text()
    assert "did you mean &#39;block1&#39;" in page and LOST in page
    assert 'href="0/report.html"' in page and "unsafe" not in page.split("<style>")[0]


def test_the_end_of_a_sweep_names_lost_jobs_and_ends_with_an_error(sweep):
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}})
    with pytest.raises(SystemExit, match=r"2 of 4 jobs failed. job 2: no layer .*; job 3: its process ended"):
        Gather().on_multirun_end(config)
    assert [read_job(path, sweep).status for path in job_folders(sweep)] == ["finished"] * 2 + ["failed"] * 2


def test_a_job_whose_process_is_gone_was_killed(sweep, capsys):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    here = this_process()
    processes = {
        "killed": [here | {"pid": ended.pid}, here | {"started": "1"}],  # gone, and given to another
        "running": [here, here | {"host": "elsewhere", "pid": ended.pid}, {}, here | {"pid": -1}],
    }
    for status, of_status in processes.items():
        for process in of_status:
            keep(sweep / "3", number=3, status="running", process=process)
            assert [job.status for job in write(sweep)][3] == status, process
    keep(sweep / "3", number=3, status="running", process=processes["killed"][0])
    main([str(sweep)])
    kept = json.loads((sweep / "3" / "job.json").read_text())
    assert kept["status"] == "killed" and kept["error"] == KILLED and KILLED in (sweep / "sweep.html").read_text()


def test_what_ends_a_sweep_ends_its_jobs(sweep):
    with subprocess.Popen(["sleep", "60"]) as other:
        left(sweep / "2", sweep)
        keep(
            sweep / "3",
            number=3,
            status="running",
            process=this_process() | {"pid": other.pid, "started": started(other.pid)},
        )
        stop(sweep, told := set())
        assert other.wait(10) == -signal.SIGTERM and told == {other.pid}
    assert [job.status for job in write(sweep)] == ["finished", "finished", "killed", "killed"]
    assert ENDED in (sweep / "sweep.html").read_text()


def test_folders_whose_names_are_no_utf8_lose_nothing(tmp_path):
    job(tmp_path, 0)
    (tmp_path / "0").rename(tmp_path / "caf\udce9")
    (found,) = write(tmp_path)
    assert found.status == "finished" and found.files["report"] == "caf%E9/report.html"
    assert found.figures[0]["shots"][0][1].startswith("caf%E9/results/nmf/epoch%3D0000/")


def test_single_runs_are_left_alone(tmp_path):
    config = OmegaConf.create({"hydra": {"mode": None, "runtime": {"output_dir": str(tmp_path)}}})
    Gather().on_job_start(config)
    done = JobReturn(status=JobStatus.FAILED)
    done.return_value = ValueError("as it was")
    Gather().on_job_end(config, done)
    assert done.status is JobStatus.FAILED and not list(tmp_path.iterdir())


def test_columns_are_what_differs_and_what_was_found(sweep):
    laid = {column["name"]: column for column in columns(write(sweep))}
    assert "data" not in laid and laid["seed"]["kind"] == "parameter" and laid["seed"]["cells"] == [0.0, 1.0, 2.0, None]
    assert laid["val/accuracy"] == {
        "kind": "objective", "name": "val/accuracy", "cells": [0.9, 0.65, None, None], "shown": True
    }  # fmt: skip
    assert laid["nmf/relative_error"]["cells"] == [0.5, pytest.approx(0.3), None, None]
    assert not laid["nmf/relative_error"]["shown"]


def test_everything_is_rebuilt_from_the_runs_alone(sweep, capsys):
    before = (sweep / "sweep.html").read_text()
    (sweep / "1" / "job.json").unlink()
    (sweep / "sweep.html").unlink()
    main([str(sweep)])
    assert "4 jobs" in capsys.readouterr().out and "unknown" in (sweep / "sweep.html").read_text()
    assert block(before, "about")["figures"] == block((sweep / "sweep.html").read_text(), "about")["figures"]
    with pytest.raises(SystemExit, match="give one folder"):
        main([str(sweep / "nowhere")])


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"number": "x", "status": 1}', '{"number": 0}'])
def test_a_damaged_job_is_a_row_that_says_so(sweep, content):
    (sweep / "0" / "job.json").write_text(content)
    assert "job.json is damaged" in {job.number: job for job in write(sweep)}[-1].error


def test_hostile_names_are_only_text_and_odd_numbers_strict_json(tmp_path):
    job(tmp_path, 0, overrides=[f"+tag={EVIL}"], objective=float("nan"), **{f"{EVIL}/x": float("inf")})
    job(tmp_path, 1, error=ValueError(EVIL))
    page = (tmp_path / "sweep.html").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page
    shown = {c["name"]: c["cells"] for c in block(page, "about")["columns"]}
    assert shown["val/accuracy"] == ["nan", None] and shown[f"{EVIL}/x"] == ["inf", None]


def test_jobs_deep_in_the_folder_are_found(tmp_path):
    for name in ("a/1", "a/2", "b"):
        keep(tmp_path / name, number=0, status="finished")
    assert [path.relative_to(tmp_path).as_posix() for path in job_folders(tmp_path)] == ["a/1", "a/2", "b"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points):
    best = pareto(points, ("maximize", "minimize"))
    for index, (a, b) in enumerate(points):
        beaten = any(x >= a and y <= b and (x, y) != (a, b) for x, y in points)
        assert (index in best) != beaten


def test_only_optimised_objectives_have_a_front(tmp_path):
    def jobs(*directions):
        for number, values in enumerate([(0.9, 3.0), (0.8, 9.0), (0.7, 5.0)]):
            told = dict(zip(("a", "b"), zip(values, directions, strict=True), strict=True))
            keep(tmp_path / str(number), number=number, status="finished", objectives=told)
        return [job.number for job in front(write(tmp_path))]

    assert jobs("maximize", "maximize") == [0, 1] and jobs("maximize", "minimize") == [0] and jobs("", "") == []


def test_a_page_of_many_jobs_stays_small(sweep):
    for number in range(4, 60):
        shutil.copytree(sweep / "0", sweep / str(number))
        keep(sweep / str(number), number=number)
    write(sweep)
    assert (sweep / "sweep.html").stat().st_size < 1e6
