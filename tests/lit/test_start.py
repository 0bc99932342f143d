"""Before Hydra writes: whose folder it is, and which runs are started again."""

import json

import pytest
from omegaconf import OmegaConf

from interp.lit.run_folder import claim, start


def command(folder, name: str = "train", checkpoint: str | None = None):
    hydra = {"run": {"dir": str(folder)}, "sweep": {"dir": str(folder)}, "job": {"config_name": name}}
    return OmegaConf.create({"checkpoint": checkpoint, "hydra": hydra})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run that job 7 of SLURM was killed in."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "run" / ".run.json").write_text(json.dumps({"job": "7", "ended": ""}))
    monkeypatch.setattr(start, "_restarted", {})
    yield tmp_path / "run"
    claim.withdraw()


@pytest.mark.parametrize(
    ("job", "count", "same"), [("7", "1", True), ("8", "1", False), ("7", "0", False), ("7", None, False)]
)
def test_a_job_that_slurm_requeues_goes_on_in_its_folder(run, monkeypatch, job, count, same):
    monkeypatch.setenv("SLURM_JOB_ID", job)
    if count:
        monkeypatch.setenv("SLURM_RESTART_COUNT", count)
    if same:
        start.OwnFolder().on_run_start(command(run))
        assert start.restarted(run) and not start.restarted(run.parent)
    else:
        with pytest.raises(SystemExit, match="error: .*holds another run"):
            start.OwnFolder().on_run_start(command(run))
        assert json.loads((run / ".run.json").read_text()) == {"job": "7", "ended": ""}


@pytest.mark.parametrize(
    ("name", "checkpoint", "allowed"),
    [
        ("train", "{run}", True),
        ("train", "{run}/checkpoints/last.ckpt", True),
        ("train", "{run}/../run/checkpoints", False),
        ("train", "{run}/../other", False),
        ("analyze", "{run}", False),
        ("train", None, False),
    ],
)
def test_only_the_command_that_resumes_a_run_gets_its_folder(run, name, checkpoint, allowed):
    asked = command(run, name, checkpoint and checkpoint.format(run=run))
    if allowed:
        start.OwnFolder().on_run_start(asked)
        assert claim._held.keys() == {run}
    else:
        with pytest.raises(SystemExit, match="error: .*holds another run"):
            start.OwnFolder().on_run_start(asked)
        assert not claim._held


@pytest.mark.parametrize(("ended", "refused"), [("finished", True), ("failed", False), ("", False)])
def test_a_second_analysis_gets_only_what_one_that_failed_has_left(tmp_path, ended, refused):
    (tmp_path / "results" / "nmf" / "epoch=0001").mkdir(parents=True)
    (tmp_path / ".run.json").write_text(json.dumps({"command": "analyze.py", "ended": ended}))
    if refused:
        with pytest.raises(SystemExit, match="error: .*holds another run: choose another output=FOLDER"):
            start.OwnFolder().on_run_start(command(tmp_path, "analyze"))
        assert json.loads((tmp_path / ".run.json").read_text())["ended"] == ended
    else:
        start.OwnFolder().on_run_start(command(tmp_path, "analyze"))
        assert claim._held.keys() == {tmp_path}
        claim.withdraw()


def test_a_sweep_gets_no_folder_of_a_run_and_keeps_its_own_until_it_ends(run):
    with pytest.raises(SystemExit, match="error: .*holds another run: choose another output=FOLDER"):
        start.OwnFolder().on_multirun_start(command(run))
    sweep = command(run.parent / "sweep")
    start.OwnFolder().on_multirun_start(sweep)
    with pytest.raises(SystemExit, match="is in use by another run of this process"):
        start.OwnFolder().on_multirun_start(sweep)
    assert claim._held.keys() == {run.parent / "sweep"}
    start.OwnFolder().on_multirun_end(sweep)
    assert not claim._held


def test_what_hydra_is_about_to_run_into_is_left_to_it(tmp_path):
    (tmp_path / "file").touch()
    start.OwnFolder().on_run_start(command(tmp_path / "file" / "run"))
    start.OwnFolder().on_run_start(command("outputs/${nowhere}"))
    assert not claim._held and [path.name for path in tmp_path.iterdir()] == ["file"]
