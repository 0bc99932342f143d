"""Hostile class names and planted secrets through a whole run: files, sinks, report, analysis, sweep page."""

import json
import logging
import re
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import torch

import train as entry
from conf.check import CONF, launch
from interp.lit.safety import secrets
from interp.lit.sweep.gather import main as gather
from tests.end_to_end.conftest import ROOT, command
from tests.hostile import PATH, SCRIPT

KEY = "0123456789abcdef0123456789abcdef01234567"  # of the form that W&B takes
ENVIRONMENT = {
    "WANDB_API_KEY": "k3y-of-the-environment-000000000000000000",
    "EPOCHSCOPE_PASSWORD": "hush-hush-password",
    "EPOCHSCOPE_PLAIN": "under-a-plain-name",
}
GIVEN = {  # a secret and the override that gives it, as a shell hands it over
    KEY: f"+logger.wandb.settings={{_target_: wandb.Settings, api_key: '{KEY}'}}",
    "t0ken-on-the-command-line": "+data.download_token=t0ken-on-the-command-line",
    "words with 5paces": "+data.pwd=words with 5paces",
    "quoted, with (all): of it": "+data.private_key='quoted, with (all): of it'",
    "escaped,comma(and)": "+data.secret_key=escaped\\,comma\\(and\\)",
    "emptyus3r": "+data.broker=redis://:emptyus3r@h:6379/0",
    "sl4sh/ed": "+data.storage=postgresql://u:p/sl4sh/ed@h/db",
    "p@t-sign": "+data.mirror=https://u:p@t-sign@h.org/x",
    "1st-of-tokens": "+data.tokens=[1st-of-tokens,b]",
    "h3ader-nested": "+data.headers={Authorization: Bearer h3ader-nested, Accept: all}",
    "c0nfig-of-wandb": "+logger.wandb.config={team: a, api_key: c0nfig-of-wandb, url: 'amqp://u:in-w4ndb-url@h'}",
    "in-w4ndb-url": "+logger.wandb.notes='see amqp://u:in-w4ndb-url@h'",
    "8765432109": "+data.passphrase=8765432109",
    "under-a-plain-name": "+data.client_secret='${oc.env:EPOCHSCOPE_PLAIN}'",
    "d3fault-of-env": "+data.auth_token='${oc.env:NO_SUCH,d3fault-of-env}'",
    "Käse-mit-Üñí": "+data.credentials={user: someone, value: 'Käse-mit-Üñí'}",
    "deep-in-a-list1": "+data.deep=[{n: 1, access_key: deep-in-a-list1}]",
    "for-4ll-jobs": "+hydra.job.env_set={SOME_PASSWORD: for-4ll-jobs}",
}
SECRETS = (*GIVEN, *ENVIRONMENT.values())
PLANTED = (*GIVEN.values(), "+data.note=${oc.env:EPOCHSCOPE_PASSWORD}")
SMALL = ("data.source={_target_: tests.hostile.named, _partial_: true}", "trainer.max_epochs=1", "model.widths=[4,8,8]",
         "callbacks.progress_bar=null", "callbacks.model_summary=null")  # fmt: skip
STUDIES = ("+plugin=[confusion,projection,saliency]", "plugin.saliency.methods=[gradient]",
           "plugin.saliency.checks=none", "plugin.projection.method=pca")  # fmt: skip


def train(folder: Path, *arguments: str, check: bool = True):
    environment = {**ENVIRONMENT, "WANDB_MODE": "offline"}
    given = (*SMALL, *arguments, "logger=[report,wandb,csv,tensorboard]", "output=run/0")
    return command(folder, *given, check=check, PYTHONPATH=str(ROOT), **environment)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, train(folder, *STUDIES, *PLANTED)


def without_secrets(folder: Path, said: str, files: int = 16) -> None:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len(paths) >= files
    written = {
        form for secret in SECRETS for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret))
    }
    for path in paths:
        content = path.read_bytes()
        assert not [form for form in written if form.encode() in content or form in str(path)], path
    assert not [form for form in written if form in said]


def test_no_secret_is_written_anywhere(done):
    folder, finished = done
    without_secrets(folder, finished.stdout + finished.stderr)
    dumped = (folder / "run" / "0" / ".hydra" / "config.yaml").read_text()
    assert "api_key: (hidden)" in dumped and "note: ${oc.env:EPOCHSCOPE_PASSWORD}" in dumped


@pytest.fixture
def in_this_process(monkeypatch):
    """`launch` as a script starts it; what it changes for a whole process is put back."""
    monkeypatch.setattr(secrets, "_streams_hide", False)
    monkeypatch.setattr(secrets, "_remembered", set())
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    for handler in [handler for handler in logging.root.handlers if handler not in handlers]:
        handler.close()
    logging.root.handlers[:], logging.root.level = handlers, level


@pytest.mark.parametrize("more", [(), ("-m",), ("data.token=un(closed",)], ids=["run", "sweep", "grammar"])
def test_a_command_that_fails_neither_prints_nor_writes_a_secret(in_this_process, tmp_path, monkeypatch, capsys, more):
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "1"}
    for name, value in (ENVIRONMENT | nowhere).items():
        monkeypatch.setenv(name, value)
    source, broken = "{_target_: tests.hostile.named, _partial_: true}", "{_target_: tests.hostile.Broken}"
    given = [*PLANTED, f"data.source={source}", f"+callbacks.broken={broken}", f"output={tmp_path}/run", *more]
    monkeypatch.setattr(sys, "argv", ["train.py", *given])
    with pytest.raises(SystemExit) as ended:
        launch(entry.train)
    said = capsys.readouterr()
    terminal = f"{said.out}{said.err}{ended.value}"
    assert (
        ended.value.code and "\x1b[2J" not in terminal and ("Traceback" in terminal) == ("un(closed" not in str(more))
    )
    without_secrets(tmp_path, terminal, files=0 if "un(closed" in str(more) else 4)


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
    command(tmp_path, *given, "trust=all", script="analyze.py", PYTHONPATH=str(ROOT), **ENVIRONMENT)
    assert "<script>alert" not in (tmp_path / "again" / "report.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"run", "again"}
