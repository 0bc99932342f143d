"""Hostile class names and planted secrets through a whole run: files, sinks, report, analysis, sweep page."""

import re
from pathlib import Path

import pytest
import torch

from conf.check import CONF
from interp.lit.sweep import main as gather
from tests.end_to_end.conftest import ROOT, command
from tests.hostile import PATH, SCRIPT

KEY = "0123456789abcdef0123456789abcdef01234567"  # of the form that W&B takes
SECRETS = (KEY, "k3y-of-the-environment-000000000000000000", "hush-hush-password", "t0ken-on-the-command-line")
PLANTED = (
    f"+logger.wandb.settings={{_target_: wandb.Settings, api_key: '{KEY}'}}",
    f"+data.download_token={SECRETS[3]}",
    "+data.note=${oc.env:EPOCHSCOPE_PASSWORD}",
)
SMALL = ("data.source={_target_: tests.hostile.named, _partial_: true}", "trainer.max_epochs=1", "model.widths=[4,8,8]",
         "callbacks.progress_bar=null", "callbacks.model_summary=null")  # fmt: skip
STUDIES = ("+plugin=[confusion,projection,saliency]", "plugin.saliency.methods=[gradient]",
           "plugin.saliency.checks=none", "plugin.projection.method=pca")  # fmt: skip


def train(folder: Path, *arguments: str, check: bool = True):
    environment = {"WANDB_API_KEY": SECRETS[1], "EPOCHSCOPE_PASSWORD": SECRETS[2], "WANDB_MODE": "offline"}
    given = (*SMALL, *arguments, "logger=[report,wandb,csv,tensorboard]", "output=run/0")
    return command(folder, *given, check=check, PYTHONPATH=str(ROOT), **environment)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, train(folder, *STUDIES, *PLANTED)


def without_secrets(folder: Path, said: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        found = [secret for secret in SECRETS if secret.encode() in path.read_bytes() or secret in str(path)]
        assert not found, path
    assert not any(secret in said for secret in SECRETS)


def test_no_secret_is_written_anywhere(done):
    folder, finished = done
    without_secrets(folder, finished.stdout + finished.stderr)
    dumped = (folder / "run" / "0" / ".hydra" / "config.yaml").read_text()
    assert "api_key: (hidden)" in dumped and "note: ${oc.env:EPOCHSCOPE_PASSWORD}" in dumped


def test_class_names_are_only_text(done):
    folder, _ = done
    assert [path.name for path in folder.iterdir()] == ["run"] and not list(folder.parent.glob("x*"))
    assert not [path for path in folder.rglob("*") if "script" in path.name or "alert" in path.name]
    gather([str(folder / "run")])
    for page in ("run/0/report.html", "run/sweep.html"):
        text = (folder / page).read_text()
        assert "<script>alert" not in text and "49" not in re.findall(r"alert\(1\) (.*?) ", text)
    assert len(list((folder / "run" / "0" / "results").glob("*/epoch=0001/*.png"))) >= 3
    assert "failed" not in (folder / "run" / "0" / "train.log").read_text()
    assert torch.load(folder / "run/0/checkpoints/last.ckpt", weights_only=True)["class_names"][:2] == [SCRIPT, PATH]


@pytest.mark.slow
def test_every_study_takes_hostile_names_and_analysis_needs_trust(tmp_path):
    studies = ",".join(sorted(path.stem for path in (CONF / "plugin").glob("*.yaml")))
    finished = train(tmp_path, f"+plugin=[{studies}]", *PLANTED)
    without_secrets(tmp_path, finished.stdout + finished.stderr)
    assert "failed" not in (tmp_path / "run" / "0" / "train.log").read_text()
    given = ["checkpoint=run/0", "+plugin=confusion", "output=again", "+data.note=x"]
    refused = command(tmp_path, *given, script="analyze.py", check=False, PYTHONPATH=str(ROOT))
    assert "data.source._target_=tests.hostile.named in" in refused.stderr and not (tmp_path / "again/results").exists()
    command(tmp_path, *given, "trust=[tests.hostile]", script="analyze.py", PYTHONPATH=str(ROOT))
    assert "<script>alert" not in (tmp_path / "again" / "report.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"run", "again"}
