"""The report: what it keeps, what it shows, and what it does with damaged, hostile or missing files."""

import json
import math
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
from PIL import Image

from interp.lit.report import Report
from interp.lit.report_page import read_metrics, render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results" / "metrics.jsonl").read_text().splitlines()]


def figure(folder, plugin="nmf", epoch=0, name="groups", caption="what it shows", **scalars) -> None:
    target = folder / "results" / plugin / f"epoch={epoch:04d}"
    target.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(epoch).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(target / f"{name}.png")
    (target / "result.json").write_text(json.dumps({"scalars": scalars, "captions": {name: caption}}))


@pytest.fixture
def run(tmp_path):
    report = Report(str(tmp_path), title="a run", every_n_seconds=0)
    report.log_hyperparams({})
    for epoch in range(3):
        figure(tmp_path, epoch=epoch, relative_error=0.5 - epoch / 10)
        report.log_metrics(
            {"train/loss": 2.0 / (epoch + 1), "val/loss": 3.0, "val/accuracy": 0.9, "epoch": epoch}, epoch * 10
        )
    return report


def test_metrics_are_kept_as_strict_json(tmp_path):
    report = Report(str(tmp_path))
    report.log_metrics({"a": 1.5, "b": float("nan"), "c": float("inf"), "epoch": 2}, step=7)
    assert lines(tmp_path) == [{"step": 7, "epoch": 2.0, "metrics": {"a": 1.5, "b": None, "c": None}}]


def test_nothing_is_made_before_there_is_something_to_write(tmp_path):
    Report(str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_continues_and_the_last_value_of_an_epoch_wins(tmp_path):
    for values in ({0: 1.0, 1: 2.0}, {1: 3.0, 2: 4.0}):
        report = Report(str(tmp_path))
        for epoch, value in values.items():
            report.log_metrics({"loss": value, "epoch": epoch}, step=epoch * 5)
    assert read_metrics(tmp_path / "results" / "metrics.jsonl", []) == {"loss": {0.0: 1.0, 1.0: 3.0, 2.0: 4.0}}


def test_a_torn_line_costs_itself_alone(tmp_path):
    report, path, notes = Report(str(tmp_path)), tmp_path / "results" / "metrics.jsonl", []
    report.log_metrics({"loss": 1.0, "epoch": 0}, step=0)
    path.write_bytes(path.read_bytes() + b'{"step": 5, "epo')
    report.log_metrics({"loss": 2.0, "epoch": 2}, step=9)
    assert read_metrics(path, notes) == {"loss": {0.0: 1.0, 2.0: 2.0}} and notes == [
        "line 2 of metrics.jsonl is damaged"
    ]


def test_the_page_is_written_while_running_and_at_the_end(run, tmp_path):
    run.save()
    assert ">running<" in (tmp_path / "report.html").read_text()
    run.every_n_seconds = 1000
    figure(tmp_path, epoch=3)
    run.save()
    assert "epoch" in (tmp_path / "report.html").read_text()
    run.finalize("success")
    page = (tmp_path / "report.html").read_text()
    assert ">finished<" in page and 'max="3"' in page and not list(tmp_path.glob("*.part"))


def test_what_cannot_be_written_is_said_once_and_stops_nothing(tmp_path):
    (tmp_path / "results").write_text("in the way")
    report = Report(str(tmp_path))
    with pytest.warns(UserWarning, match="cannot be written: .*results"):
        report.log_metrics({"loss": 1.0}, step=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.log_metrics({"loss": 1.0}, step=1)


def test_a_failed_rendering_leaves_the_earlier_page(run, tmp_path, monkeypatch):
    run.finalize("success")
    earlier = (tmp_path / "report.html").read_text()

    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("interp.files.flush", full_disk)
    with pytest.warns(UserWarning, match="No space left"):
        run.finalize("failed")
    assert (tmp_path / "report.html").read_text() == earlier and not list(tmp_path.glob(".report*"))


def test_the_page_shows_every_epoch_scalars_and_configuration(run, tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 1234\n")
    page = render(tmp_path, "a run", "finished")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [list(epochs) for epochs in data] == [["0", "1", "2"]]
    assert data[0]["2"]["scalars"] == {"relative_error": "0.3"} and data[0]["2"]["caption"] == "what it shows"
    assert "seed: 1234" in page and "torch" in page and page.count("<polyline") == 3
    assert "<dt>val/accuracy</dt><dd>0.9</dd>" in page


def test_the_page_loads_nothing_from_elsewhere(run, tmp_path):
    page = render(tmp_path)
    assert not re.search(
        r"<[^>]+(src|href)=|https?://|@import|url\(", re.sub(r"data:image/png;base64,[\w+/=]*", "", page)
    )
    assert "default-src 'none'" in page and "unsafe" not in page.split("<style>")[0]


def test_hostile_names_and_captions_are_only_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    figure(tmp_path, caption=evil, name="a'\"<b>", **{evil: 1.0})
    Report(str(tmp_path)).log_metrics({f"{evil}/x": 1.0, "../../y": 2.0}, step=0)
    page = render(tmp_path, title=evil)
    assert "<script>alert" not in page and "<img src=x" not in page and "<b>" not in page


@pytest.mark.parametrize("content", [b"", b"\x89PNG torn", b"text"])
def test_damaged_files_are_named_on_the_page(tmp_path, content):
    figure(tmp_path, epoch=0)
    figure(tmp_path, epoch=1)
    (tmp_path / "results" / "nmf" / "epoch=0001" / "groups.png").write_bytes(content)
    (tmp_path / "results" / "nmf" / "epoch=0000" / "result.json").write_bytes(content)
    page = render(tmp_path)
    assert "epoch=0001/groups.png is damaged" in page and "epoch=0000/result.json cannot be read" in page


def test_an_empty_run_says_so(tmp_path):
    assert "Nothing has been recorded yet" in render(tmp_path)


def test_values_that_are_not_finite_leave_a_gap(tmp_path):
    report = Report(str(tmp_path))
    for epoch, value in enumerate((1.0, math.nan, 3.0)):
        report.log_metrics({"train/loss": value, "val/loss": math.nan, "epoch": epoch}, step=epoch)
    page = render(tmp_path)
    assert page.count("<circle") == 2 and "nan" not in page.lower().split("<main>")[1].split("<script")[0]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_in_a_browser_figures_are_set_and_the_console_is_silent(run, tmp_path):
    figure(tmp_path, plugin="late", epoch=2, caption="only at the end")
    run.finalize("success")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--virtual-time-budget=2000",
    ]
    quiet = [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
    ]
    command = [
        CHROMIUM,
        *flags,
        *quiet,
        f"--user-data-dir={tmp_path}/browser",
        "--dump-dom",
        f"file://{tmp_path}/report.html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    shown = re.findall(r'<img alt="[^"]*" src="data:image/png', done.stdout)
    assert len(shown) == 2 and done.stdout.count(">epoch 2</output>") == 3 and "only at the end" in done.stdout
    assert 'id="all"' in done.stdout and "<dt>relative_error</dt><dd>0.3</dd>" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
