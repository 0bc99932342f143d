"""The README's first command: what it leaves behind, and what W&B received, read back from the run's own file."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image

from interp.draw.policy import guarded
from interp.lit.wandb import artifacts
from interp.lit.wandb.file import kinds
from tests.end_to_end.conftest import ROOT, command
from tests.wandb_file import begin, config, history, only, records

EPOCHS = range(11)  # before training, and after each of ten epochs


def test_it_learns_and_says_where_everything_is(main_job):
    line = re.search(r"Done: val/accuracy ([\d.]+), test/accuracy ([\d.]+)\. (.*)", main_job.output)
    assert line and float(line[1]) >= 0.97 and float(line[2]) >= 0.95
    for path in (main_job.run / "checkpoints" / "best.ckpt", main_job.run / "report.html"):
        assert path.is_file() and str(path) in line[3]
    assert "wandb sync" in line[3] and "Traceback" not in main_job.output and "Warning" not in main_job.output


def test_results_of_every_epoch_are_whole(main_job):
    for epoch in EPOCHS:
        folder = main_job.run / "results" / "nmf" / f"epoch={epoch:04d}"
        about = json.loads((folder / "result.json").read_text())
        assert about["epoch"] == epoch and 0 < about["scalars"]["relative_error"] < 1
        shown = {"groups.png", "explore.html"} | ({"emergence.png"} if epoch else set())
        assert {p.name for p in folder.iterdir()} == {"result.json", "result.safetensors"} | shown
        assert np.asarray(Image.open(folder / "groups.png")).std() > 10


def test_wandb_holds_the_pictures_and_scalars_of_every_epoch(main_job):
    rows = history(main_job.run)
    shown = [row for row in rows if "nmf/groups_picture/path" in row]
    assert len(shown) == len(EPOCHS)
    for row, epoch in zip(shown, EPOCHS, strict=True):
        picture = main_job.run.glob(f"wandb/offline-run-*/files/{row['nmf/groups_picture/path']}")
        kept = main_job.run / "results" / "nmf" / f"epoch={epoch:04d}" / "groups.png"
        assert np.array_equal(np.asarray(Image.open(next(picture))), np.asarray(Image.open(kept)))
        assert "neuron groups at block4" in row["nmf/groups_picture/caption"]
    scalars = {row["epoch"]: row["nmf/relative_error"] for row in rows if "nmf/relative_error" in row}
    assert sorted(scalars) == list(EPOCHS)
    kept = json.loads((main_job.run / "results" / "nmf" / "epoch=0007" / "result.json").read_text())
    assert abs(scalars[7] - kept["scalars"]["relative_error"]) < 1e-6
    beside = next(row for row in rows if row.get("epoch") == 7 and "nmf/relative_error" in row)
    assert "train/loss" in beside and beside["nmf/failed"] == 0


def test_nothing_leaves_the_run_folder_or_the_machine(main_job):
    assert main_job.attempts == []
    assert [path for path in main_job.home.rglob("*") if path.is_file()] == []
    assert {path.name for path in main_job.folder.iterdir()} == {"outputs"}
    assert {path.name for path in main_job.run.iterdir()} == {
        ".hydra", ".run.json", "train.log", "checkpoints", "results", "wandb", "report.html"
    }  # fmt: skip


def test_checkpoints_load_safely_and_hold_the_classes(main_job):
    for name in ("best", "last"):
        checkpoint = torch.load(main_job.run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["class_names"] == [str(digit) for digit in range(10)]
    assert checkpoint["epoch"] == 9


def test_analysis_of_the_run_repeats_its_last_result_and_names_its_checkpoint(main_job, tmp_path, monkeypatch):
    checkpoint = main_job.run / "checkpoints" / "last.ckpt"
    sinks = ("logger=[report,wandb]", "logger.wandb.artifacts=true")
    done = command(main_job.folder, f"checkpoint={checkpoint}", "+plugin=nmf", *sinks, script="analyze.py")
    (run,) = (main_job.folder / "outputs" / "analyze").iterdir()
    ours, theirs = (folder / "results" / "nmf" / "epoch=0010" for folder in (run, main_job.run))
    assert (ours / "result.safetensors").read_bytes() == (theirs / "result.safetensors").read_bytes()
    assert (run / "report.html").is_file() and "nmf/relative_error" in done.stdout
    assert begin(run).job_type == "analyze" and list(begin(run).tags) == ["nmf"]
    assert config(run)["checkpoint"] == str(checkpoint)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    used, made = records(run, "artifact")
    assert used.use_after_commit and not made.use_after_commit and (used.type, made.type) == ("model", "results")
    assert (used.name, used.digest) == (
        f"checkpoint-{begin(main_job.run).run_id}",
        artifacts.checkpoint(checkpoint).digest,
    )
    assert {entry.path for entry in used.manifest.contents} == {"checkpoints/last.ckpt", ".hydra/config.yaml"}
    kept = {path.relative_to(run).as_posix() for path in run.glob("results/**/*") if path.is_file()}
    assert {entry.path for entry in made.manifest.contents} == kept | {"report.html", ".hydra/config.yaml"}


def test_the_run_says_what_it_is(main_job):
    run, sent = begin(main_job.run), config(main_job.run)
    assert run.job_type == "train" and list(run.tags) == ["nmf"] and run.project == "epochscope"
    assert re.fullmatch(r"train-[\d_-]+", run.run_group)
    assert sent["seed"] == 1 and sent["plugin"]["nmf"]["groups"] == 6 and sent["data"]["size"] == 32
    assert not records(main_job.run, "artifact")  # nobody asked for them, and the run is offline


def test_everything_stands_against_the_epoch(main_job):
    axes = {metric.glob_name: metric.step_metric for metric in records(main_job.run, "metric") if metric.glob_name}
    assert axes == {"*": "epoch"}
    rows = history(main_job.run)
    assert all("epoch" in row for row in rows)
    for key, epochs in (("groups_picture", EPOCHS), ("emergence_picture", EPOCHS[1:]), ("explore_widget", EPOCHS)):
        shown = [row["epoch"] for row in rows if f"nmf/{key}/_type" in row]
        assert shown == list(epochs), key


def test_captions_and_widgets_are_those_of_the_results(main_job):
    for row in history(main_job.run):
        folder = main_job.run / "results" / "nmf" / f"epoch={int(row['epoch']):04d}"
        for name in ("groups", "emergence"):
            if caption := row.get(f"nmf/{name}_picture/caption"):
                assert caption == json.loads((folder / "result.json").read_text())["captions"][name]
        if path := row.get("nmf/explore_widget/path"):
            (sent,) = main_job.run.glob(f"wandb/offline-run-*/files/{path}")
            assert row["nmf/explore_widget/_type"] == "html-file"
            assert guarded(sent.read_text()) == (folder / "explore.html").read_text()


def test_no_key_holds_two_kinds_of_values(main_job):
    found = defaultdict(set)
    for row in history(main_job.run):
        media = {key.removesuffix("/_type"): kind for key, kind in row.items() if key.endswith("/_type")}
        for key in row:
            owner = next((medium for medium in media if key.startswith(f"{medium}/")), None)
            found[owner or key].add(media[owner] if owner else "scalar")
    assert all(len(values) == 1 for values in found.values())
    told = kinds(only(main_job.run))
    assert told["nmf/groups"] == "scalar" and told["nmf/groups_picture"] == "image-file"
    assert {key: value for key, (value,) in found.items() if not key.startswith("_")} == told


def test_the_documented_command_finds_the_offline_run(main_job):
    pattern = "outputs/train/*/wandb/offline-run-*"
    assert f"`wandb sync {pattern}`" in (ROOT / "docs" / "wandb.md").read_text()
    paths = [path.relative_to(main_job.folder) for path in main_job.folder.glob(pattern)]
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--dry-run", *paths], capture_output=True, text=True, timeout=300,
        cwd=main_job.folder, env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
    )  # fmt: skip
    assert done.returncode == 0 and f"Would sync {len(paths)} run" in done.stderr and len(paths) == 1, done.stderr


@pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
def test_a_workspace_lays_out_what_the_run_logged(main_job, tmp_path, capsys):
    pytest.importorskip("wandb_workspaces", reason="pip install -e '.[wandb]'")
    from interp.lit.wandb.workspace import main

    main(["me/epochscope", str(main_job.folder), "--report", "--json", str(tmp_path / "made.json")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "made.json")
    workspace, report = json.loads((tmp_path / "made.json").read_text())
    found = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    assert [part["name"] for part in found] == ["Training", "nmf", "Cost"]
    media = [key for panel in found[1]["panels"] for key in panel["config"].get("mediaKeys", [])]
    assert media == ["nmf/emergence_picture", "nmf/groups_picture", "nmf/explore_widget"]
    assert report["project"] == {"name": "epochscope", "entityName": "me"} and report["displayName"] == "Epochscope"
