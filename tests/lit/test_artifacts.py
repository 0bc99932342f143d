"""Which runs keep artifacts, under which names; what W&B cannot take is said and costs nothing else."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from interp.lit.checkpoints.find import find_checkpoint, run_folder
from interp.lit.wandb import artifacts
from interp.lit.wandb.logger import LINE, Wandb

CONFIG = "seed: 1\nlogger:\n  wandb:\n    api_key: hush\n"


class Recorder:
    """A W&B run that remembers what it is given, or is out of reach."""

    def __init__(self, offline: bool = False, broken: bool = False) -> None:
        self.offline, self.broken = offline, broken
        self.made, self.used = [], []

    def log_artifact(self, artifact, aliases=()):
        if self.broken:
            raise ConnectionError("unreachable")
        self.made.append((artifact.name, artifact.type, *aliases))

    def _log_artifact(self, artifact, use_after_commit=False, **_):
        self.used += [artifact.digest] * use_after_commit


def logger(mode: str, wanted: bool | None, run: Recorder) -> Wandb:
    made = Wandb(mode=mode, experiment=run)
    made.artifacts = wanted
    return made


def keep(loggers: list, folder: Path) -> None:
    """Record them, and wait until W&B's thread has done it."""
    artifacts.keep(loggers, folder)
    assert LINE.outcome(LINE.submit(int), seconds=60) is None


def use(loggers: list, path: Path) -> None:
    """The same of a checkpoint that is used."""
    artifacts.use(loggers, path)
    assert LINE.outcome(LINE.submit(int), seconds=60) is None


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "run"
    for name, text in (
        ("checkpoints/best.ckpt", "weights"), (".hydra/config.yaml", CONFIG), ("report.html", "<p>"),
        ("results/nmf/epoch=0001/result.json", "{}"),
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("offline-run-20260102_000000-new", "run-20260101_000000-old"):
        (folder / "wandb" / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("mode", "wanted", "kept"),
    [
        ("online", None, True), ("online", False, False), ("offline", None, False), ("offline", True, True),
        ("disabled", True, False),
    ],
)  # fmt: skip
def test_they_are_kept_online_or_by_choice(run, mode, wanted, kept):
    recorder = Recorder(offline=mode == "offline")
    keep([object(), logger(mode, wanted, recorder)], run)
    made = [("checkpoint-new", "model", "latest", "best"), ("results-new", "results")]
    assert recorder.made == made * kept


def test_a_used_checkpoint_is_the_one_that_was_made(run, tmp_path):
    recorder, path = Recorder(), run / "checkpoints" / "best.ckpt"
    use([logger("online", None, recorder)], path)
    assert recorder.used == [artifacts.checkpoint(path).digest]
    path.write_text("other weights")
    assert recorder.used != [artifacts.checkpoint(path).digest]
    shutil.rmtree(run / "wandb")
    assert artifacts.checkpoint(path).name == "checkpoint-run"
    (alone := tmp_path / "my weights.ckpt").write_text("weights")
    assert artifacts.checkpoint(alone).name == "checkpoint-my-weights"


def test_what_is_downloaded_is_a_run_folder_without_secrets(run, tmp_path):
    downloaded = tmp_path / "downloaded"
    for path, entry in artifacts.checkpoint(run / "checkpoints" / "best.ckpt").manifest.entries.items():
        (downloaded / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.local_path, downloaded / path)
    path = find_checkpoint(str(downloaded), ("best.ckpt", "last.ckpt"))
    assert path.read_text() == "weights" and run_folder(path) == downloaded
    config = OmegaConf.load(downloaded / ".hydra" / "config.yaml")
    assert config.seed == 1 and config.logger.wandb.api_key == "(hidden)"


def test_what_wandb_cannot_take_is_said(run, caplog):
    keep([logger("online", None, Recorder(broken=True))], run)
    assert f"W&B could not take the artifacts of {run}: unreachable" in caplog.text
    use([logger("online", None, Recorder())], run / "checkpoints" / "gone.ckpt")
    assert f"W&B could not take the artifact of {run}/checkpoints/gone.ckpt" in caplog.text
