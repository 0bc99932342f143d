"""W&B online, against a server on this machine: what arrives, and what a server that fails costs."""

import logging
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from statistics import median

import pytest
import torch
import wandb
from omegaconf import OmegaConf

from interp.lit import sinks
from interp.lit.wandb import artifacts
from interp.lit.wandb import end as wandb_end
from interp.lit.wandb import file as wandb_file
from interp.lit.wandb import logger as wandb_logger
from interp.result import Result
from plugins.base.sinks import show
from tests.fake_wandb import clock
from tests.wandb_file import begin as beginning
from tests.wandb_file import history, records

PICTURE = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))


class Shown(Result):
    """A picture, a widget and a table with a picture."""

    def pictures(self):
        return {"grid": PICTURE}

    def widgets(self):
        return {"explorer": "<p>a widget</p>"}

    def tables(self):
        return {"units": (["unit", "peaks in"], [[3, PICTURE], [5, PICTURE]])}


def look(logger, folder, epoch: int) -> None:
    """Log what a run logs at an epoch."""
    logger.log_metrics({"loss": 1 / (1 + epoch), "epoch": epoch}, step=epoch)
    show(Shown(), folder / "results", "nmf", [logger], epoch=epoch, step=epoch)


def begin(folder, epoch: int = 0, **options):
    """A run with its settings and its first look."""
    logger = sinks.forgiving(wandb_logger.wandb(str(folder), project="x", **options))
    logger.log_hyperparams({"seed": 1})
    look(logger, folder, epoch)
    return logger


def held_up(logger, seconds: float) -> float:
    """The share of a loop of `seconds`, as a training's, that it spends on logging: of the median turn."""
    began, shares = time.monotonic(), []
    while time.monotonic() < began + seconds:
        turn = clock()
        logger.log_metrics({"batch": turn - began})
        logged = clock()
        time.sleep(0.01)
        shares.append((logged - turn) / (clock() - turn))
    return median(shares)


def assert_whole(server, epochs) -> None:
    """All that `look` logs at these epochs has arrived, once."""
    (run,) = server.runs.values()
    rows = [row for row in run.history if "epoch" in row and row.keys() - {"batch"}]
    keys = Counter(key for row in run.history for key in row if key == "loss" or key.startswith("nmf"))
    names = ("loss", "nmf/grid_picture", "nmf/explorer_widget", "nmf/units_table")
    assert keys == dict.fromkeys(names, len(epochs)) and run.config["seed"] == {"value": 1}
    assert sorted({row["epoch"] for row in rows}) == list(epochs) and not run.rewritten
    media = {row[name]["path"] for row in run.history for name in names[1:] if name in row}
    assert len(media) == 3 * len(epochs) and media <= run.files.keys()
    tables = [made for made in server.artifacts.values() if made.type == "run_table"]
    assert all(made.whole() for made in tables) and len(tables) == 1  # of one content
    assert not server.unknown


def warnings_in(caplog) -> list[str]:
    """What our code warned of."""
    records = (record for record in caplog.records if record.name.partition(".")[0] in ("interp", "plugins"))
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


def test_all_that_is_logged_arrives_and_no_table_waits(wandb_server, tmp_path, caplog):
    logger = begin(tmp_path)
    look(logger, tmp_path, 1)
    place = wandb_logger.close_wandb()
    assert_whole(wandb_server, range(2))
    assert [run.exit_code for run in wandb_server.runs.values()] == [0] and place.startswith(f"{wandb_server.url}/me/")
    assert not warnings_in(caplog) and not wandb_server.count("ArtifactType")


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ({"status": 500}, 1.0), ({"status": 429}, 1.0), ({"delay": 0.2}, 1.0),
        *(pytest.param(fault, 60.0, marks=pytest.mark.slow) for fault in ({"status": 500}, {"hang": True})),
    ],
    ids=str,
)  # fmt: skip
def test_a_server_that_is_ill_for_a_while_costs_nothing(wandb_server, tmp_path, caplog, fault, seconds):
    logger = begin(tmp_path)
    with wandb_server.failing(**fault):
        look(logger, tmp_path, 1)
        share = held_up(logger, seconds)
    wandb_logger.close_wandb(3)
    assert_whole(wandb_server, range(2))
    assert share < 0.05 and [run.exit_code for run in wandb_server.runs.values()] == [3]
    assert not warnings_in(caplog)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({}, "connection refused"),  # it goes away
        ({"hang": True}, "not done in time"),
        ({"paths": "PUT", "status": 403}, "artifacts, files: HTTP 403 forbidden"),
        ({"paths": "stream", "status": 403}, "rows: HTTP 403 forbidden"),
    ],
    ids=str,
)
def test_what_does_not_arrive_is_told_with_the_command_that_sends_it(
    wandb_server, tmp_path, caplog, monkeypatch, fault, reason
):
    monkeypatch.setattr(wandb_end, "UNHEARD", 1.0)
    logger = begin(tmp_path)
    with wandb_server.failing(**fault) if fault else nullcontext(wandb_server.go_away()):
        look(logger, tmp_path, 1)
        share, began = held_up(logger, seconds=0.5), time.monotonic()
        place = wandb_logger.close_wandb()
    (run,) = tmp_path.glob("wandb/run-*")
    assert warnings_in(caplog) == [
        f"W&B: not everything arrived ({reason}); send it later with: wandb sync --no-skip-online {run}"
    ]
    assert place.endswith(", incomplete") and share < 0.05 and time.monotonic() - began < 10
    wandb.teardown()  # until then its file may be incomplete
    (file,) = wandb_file.files(tmp_path)
    assert sum("loss" in row for row in wandb_file.history(file)) == 2
    assert sum(record.HasField("artifact") for record in wandb_file.records(file)) == 2


@pytest.mark.parametrize("fault", [{"hang": True}, {"status": 500}, {"status": 401}], ids=str)
def test_a_server_that_fails_at_the_start_costs_a_warning(wandb_server, tmp_path, caplog, monkeypatch, fault):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    began = time.monotonic()
    with wandb_server.failing(**fault):
        begin(tmp_path)
        place = wandb_logger.close_wandb()
        wandb.teardown()  # as at the end of the process
        took = time.monotonic() - began
    (text,) = warnings_in(caplog)
    assert text.startswith("W&B cannot be reached (") and "\n" not in text and took < 15
    assert place.startswith("offline, upload with") and sum("loss" in row for row in history(tmp_path)) == 1


def test_a_process_of_wandb_that_dies_costs_what_comes_after_it(wandb_server, tmp_path, caplog):
    logger = begin(tmp_path)
    assert wandb_logger.LINE.outcome(wandb_logger.LINE.submit(int), seconds=60) is None
    wandb.setup().ensure_service()._proc._process.kill()
    look(logger, tmp_path, 1)
    place = wandb_logger.close_wandb()
    first, *_, last = warnings_in(caplog)
    assert first.startswith("Wandb failed in log_metrics: ") and place.endswith(", incomplete")
    assert last.startswith("W&B: not everything arrived (") and "send it later with: wandb sync --no" in last


def test_a_resumed_run_goes_on_under_its_id_and_names_the_checkpoint_that_it_used(wandb_server, tmp_path):
    path = tmp_path / "checkpoints" / "best.ckpt"
    for file, content in ((path, b"weights"), (tmp_path / ".hydra" / "config.yaml", b"seed: 1")):
        file.parent.mkdir()
        file.write_bytes(content)
    logger = begin(tmp_path, id="the-first")
    artifacts.keep([logger], tmp_path)
    wandb_logger.close_wandb(143)
    assert [run.exit_code for run in wandb_server.runs.values()] == [143]
    logger = begin(tmp_path, id="the-first", epoch=1)
    artifacts.use([logger], path)
    wandb_logger.close_wandb()
    assert_whole(wandb_server, range(2))
    (made,) = (made for made in wandb_server.artifacts.values() if made.type == "model")
    assert made.name == "checkpoint-the-first" and made.whole() and made.files["checkpoints/best.ckpt"] == b"weights"
    assert made.made_by[0] == "the-first" and made.used_by == ["the-first"]
    (results,) = (made for made in wandb_server.artifacts.values() if made.type == "results")
    assert results.whole() and "results/grid.png" in results.files
    assert wandb_server.runs["the-first"].exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, None), (ValueError(), 1), (KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit(), 0),
     (SystemExit("error: no data"), 1)],
    ids=repr,
)  # fmt: skip
def test_a_run_ends_with_the_exit_code_of_its_process(error, code):
    assert wandb_end.exit_code_of(error) == code


def test_settings_of_the_configuration_become_plain_and_the_file_holds_how_a_crash_ended(wandb_server, tmp_path):
    options = OmegaConf.create({"config": {"lr": {"max": 0.1}}, "tags": ["a"], "settings": {"x_label": "here"}})
    earlier = tmp_path / "wandb" / "offline-run-0"
    for name in ("run-a.wandb", "../offline-run-1/run-b.wandb", "../offline-run-1/run-b.wandb.synced"):
        (earlier / name).resolve().parent.mkdir(parents=True, exist_ok=True)
        (earlier / name).resolve().touch()
    with pytest.raises(ZeroDivisionError):
        try:
            begin(tmp_path, **{key: options[key] for key in options}, mode="offline")
            1 / 0  # noqa: B018
        finally:
            place = wandb_logger.close_wandb()
    wandb.teardown()
    assert place.startswith(f"offline, upload with `wandb sync {earlier} {tmp_path}/wandb/offline-run-2")
    assert "offline-run-1/" not in place and not wandb_server.requests
    for path in tmp_path.glob("wandb/offline-run-[01]"):
        shutil.rmtree(path)
    begun = beginning(tmp_path)
    assert {item.key: item.value_json for item in begun.config.update}["lr"] == '{"max":0.1}'
    assert list(begun.tags) == ["a"]
    assert [end.exit_code for end in records(tmp_path, "exit")] == [1]


@pytest.mark.slow  # imports W&B once more
def test_the_command_that_is_told_sends_everything(wandb_server, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(wandb_end, "UNHEARD", 1.0)
    look(begin(tmp_path), tmp_path, 1)
    wandb_server.go_away()
    wandb_logger.close_wandb(7)
    wandb.teardown()
    wandb_server.start()
    (told,) = warnings_in(caplog)
    command = shlex.split(told.partition("send it later with: ")[2])
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_whole(wandb_server, range(2))
    assert [run.exit_code for run in wandb_server.runs.values()] == [7]
