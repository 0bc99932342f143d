"""What W&B received of the README's first command, read back from the run's own file."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict

import pytest

from interp.draw.policy import guarded
from interp.lit.wandb.file import kinds
from tests.end_to_end.conftest import ROOT
from tests.wandb_file import begin, config, history, only, records

EPOCHS = range(11)


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
