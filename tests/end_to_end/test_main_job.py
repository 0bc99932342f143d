"""The README's first command: what it leaves behind."""

import json
import re

import numpy as np
import torch
from PIL import Image

from interp.lit.wandb import artifacts
from tests.end_to_end.conftest import command
from tests.wandb_file import begin, config, history, records

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
