"""The report: what it keeps, what it shows, and what it does with damaged, hostile or missing files."""

import base64
import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from interp.errors import UserError
from interp.lit.report.logger import Report
from interp.lit.report.page import plots, render, size, write
from interp.lit.run_folder.files import read_metrics

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def figure(run: Path, plugin="nmf", epoch=0, name="groups", caption="what it shows", size=(60, 40), **scalars) -> Path:
    """A colourful picture of a plugin at an epoch, and the result.json beside it."""
    target = run / "results" / plugin / f"epoch={epoch:04d}"
    target.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [np.sin(x / (9 + 4 * c) + epoch) * np.cos(y / 7 - epoch / (c + 1)) for c in range(3)]
    Image.fromarray((np.stack(waves, -1) * 127 + 128).astype(np.uint8)).save(target / f"{name}.png")
    (target / "result.json").write_text(json.dumps({"step": epoch, "scalars": scalars, "captions": {name: caption}}))
    return target


@pytest.fixture
def run(tmp_path) -> Report:
    """Six epochs and the untrained network: two plugins, losses and accuracies, a widget, a configuration."""
    report = Report(tmp_path, title="a run", every_n_seconds=0)
    for epoch in range(7):
        target = figure(tmp_path, epoch=epoch, caption=f"groups of epoch {epoch}", relative_error=0.6 - epoch / 20)
        code = f"parent.postMessage({epoch}, '*'); document.body.textContent = 'it ran'"
        (target / "explorer.html").write_text(f"<body style='color: teal'><script>{code}</script>")
        if epoch % 3 == 0:
            figure(tmp_path, "saliency", epoch, "panels", "what pushed the logit", (640, 80), share=epoch / 10)
        if epoch:
            metrics = {"train/loss": 2 * 0.6**epoch, "val/loss": 2 * 0.7**epoch, "val/accuracy": 0.9 - 0.1 * 0.5**epoch}
            report.log_metrics({**metrics, "nmf/relative_error": 0.6 - epoch / 20, "epoch": epoch}, epoch * 10 - 1)
    report.log_metrics({"test/accuracy": 0.88, "epoch": 6}, 60)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 1234\nlogger:\n  wandb:\n    api_key: hush\n")
    return report


def block(page: str, name: str) -> list:
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', page, re.DOTALL)[1])


def values(folder: Path) -> dict[str, list[float]]:
    metrics = read_metrics(folder / "results" / "metrics.jsonl", notes := [])
    assert not notes
    return {name: list(points.values()) for name, points in metrics.items()}


def test_metrics_are_kept_as_strict_json(tmp_path):
    Report(tmp_path).log_metrics({"a": 1.5, "b": math.nan, "c": -math.inf, "epoch": 2.0}, step=7)
    text = (tmp_path / "results" / "metrics.jsonl").read_text()
    assert text == '{"step": 7, "epoch": 2, "metrics": {"a": 1.5, "b": "nan", "c": "-inf"}}\n'
    assert [str(value) for (value,) in values(tmp_path).values()] == ["1.5", "nan", "-inf"]


def test_nothing_is_made_before_there_is_something_to_write(tmp_path):
    report = Report(tmp_path / "run")
    report.log_hyperparams({"seed": 1})
    report.log_metrics({"epoch": 1}, step=0)
    report.save()
    assert (report.name, report.version, report.save_dir) == ("", "", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_continues_and_what_was_written_last_wins(tmp_path):
    for written in ({0: 1.0, 1: 2.0, 2: 9.0}, {1: 3.0, 2: 4.0, 3: 5.0}):
        report = Report(tmp_path)
        for epoch, value in written.items():
            report.log_metrics({"loss": value, "epoch": epoch}, step=epoch * 5)
    assert values(tmp_path) == {"loss": [1.0, 3.0, 4.0, 5.0]}
    report.log_metrics({"loss": 6.0, "epoch": 3}, step=99)  # resumed with another batch size: other steps
    curve = block(render(tmp_path), "plots")[0]["curves"][0]
    assert curve["points"] == [[0.0, 1.0], [1.0, 3.0], [2.0, 4.0], [3.0, 6.0]]


def test_a_torn_line_costs_itself_alone(tmp_path):
    report, path = Report(tmp_path), tmp_path / "results" / "metrics.jsonl"
    report.log_metrics({"loss": 1.0, "epoch": 0}, step=0)
    path.write_bytes(path.read_bytes() + b'{"step": 5, "epo')
    torn = read_metrics(path, notes := [])
    Report(tmp_path).log_metrics({"loss": 2.0, "epoch": 2}, step=9)
    assert torn == {"loss": {(0, 0): 1.0}} and notes == ["line 2 of metrics.jsonl is damaged"]
    assert read_metrics(path, []) == {"loss": {(0, 0): 1.0, (9, 2): 2.0}}


def test_the_page_is_written_at_most_so_often_and_at_the_end(run, tmp_path):
    run.save()
    run.every_n_seconds, run._next_page = 1000, 0.0
    run.save()
    assert ">running<" in (tmp_path / "report.html").read_text()
    figure(tmp_path, epoch=77)
    run.save()
    assert "shot-0-77" not in (tmp_path / "report.html").read_text()
    run.finalize("success")
    assert ">finished<" in (page := (tmp_path / "report.html").read_text()) and "shot-0-77" in page
    assert not list(tmp_path.glob(".report*"))


def test_what_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "results").write_text("in the way")
    report = Report(tmp_path)
    report.log_metrics({"loss": 1.0}, step=0)
    report.log_metrics({"loss": 1.0}, step=1)
    report.finalize("success")
    (record,) = caplog.records
    assert re.match(r"the report in .* cannot be written: .*results", record.getMessage())


@pytest.mark.parametrize("place", ["interp.files.flush", "interp.lit.run_folder.files.Shot.content"])
def test_a_page_that_fails_midway_leaves_the_earlier_one(run, tmp_path, monkeypatch, caplog, place):
    run.finalize("success")
    earlier = (tmp_path / "report.html").read_text()

    def full_disk(*_args):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr(place, full_disk)
    run.finalize("failed")
    assert re.search("No space left on device.*report.html", caplog.text)
    assert (tmp_path / "report.html").read_text() == earlier and not list(tmp_path.glob(".report*"))


def test_the_page_shows_every_epoch_scalars_and_configuration(run, tmp_path):
    page = render(tmp_path, "a run", "finished")
    groups, explorer, panels = block(page, "figures")
    assert [shot["epoch"] for shot in groups] == [*range(7)] and [shot["epoch"] for shot in panels] == [0, 3, 6]
    assert groups[2]["scalars"] == [["relative_error", "0.5"]] and groups[2]["caption"] == "groups of epoch 2"
    assert groups[2]["size"] == [60, 40] and len(explorer) == 7
    picture = (tmp_path / "results" / "nmf" / "epoch=0002" / "groups.png").read_bytes()
    assert f'id="shot-0-2">{base64.b64encode(picture).decode()}<' in page
    assert "seed: 1234" in page and "api_key: (hidden)" in page and "hush" not in page and "<dt>torch</dt>" in page
    assert re.search(r"<dt>val/accuracy</dt><dd>0.8984</dd><dd[^>]*>best, epoch 6; last 0.8984<", page)
    assert page.index("<figure") < page.index('class="plot"')
    assert [(plot["title"], [curve["name"] for curve in plot["curves"]]) for plot in block(page, "plots")] == [
        ("accuracy", ["val", "test"]), ("loss", ["train", "val"]), ("relative_error", [""]), ("share", [""])
    ]  # fmt: skip


def test_a_metric_of_many_steps_is_plotted_over_steps():
    many = {(float(step), float(step // 10)): 1.0 for step in range(30)}
    found = plots({"train/loss_step": many, "lr": {(3.0, None): 1.0}, "val/loss": {(9.0, 1.0): 1.0}, "nmf/failed": {}})
    axes = {plot["title"]: plot["axis"] for plot in found.pop("")}
    assert axes == {"loss_step": "step", "lr": "step", "loss": "epoch"} and not found


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_foreign(run, tmp_path):
    shutil.rmtree(tmp_path / "results" / "nmf")
    page = re.sub(r'<script type="text/plain".*?</script>', "", render(tmp_path), flags=re.DOTALL)
    assert not re.search(r"https?://|//\w+\.\w|@import|url\(|<link|\son\w+=|style=", page)
    assert not re.search(r"<[^>]+\s(src|href)=(?!\"#)", page)
    assert "default-src &#39;none&#39;" in page and "unsafe" not in page.split("<style>")[0]


def test_hostile_names_and_captions_are_only_text(tmp_path):
    target = figure(tmp_path, caption=EVIL, name="a'\"<b>", **{EVIL: 1.0})
    shutil.copytree(target, target.parents[1] / "<script>alert(1)" / "epoch=0001")
    Report(tmp_path).log_metrics({f"{EVIL}/x": 1.0, "../../y": 2.0, "train/__proto__": 1.0}, step=0)
    page = render(tmp_path, title=EVIL, status=EVIL)
    assert "<script>alert" not in page and "<img src=x" not in page and "<b>" not in page
    assert {plot["title"] for plot in block(page, "plots")} >= {"../y", "__proto__"}


@pytest.mark.parametrize("content", [b"", b"\x89PNG torn", b"[1, 2", b"[" * 10_000, b"[1]", b"\xff\xfe"])
def test_damaged_files_are_named_on_the_page(run, tmp_path, content):
    picture = tmp_path / "results" / "nmf" / "epoch=0001" / "groups.png"
    picture.write_bytes(picture.read_bytes()[:-30] if content == b"" else content)
    (tmp_path / "results" / "nmf" / "epoch=0002" / "result.json").write_bytes(content or b"{")
    (tmp_path / "results" / "environment.json").write_bytes(content or b"{")
    with (tmp_path / "results" / "metrics.jsonl").open("ab") as file:
        file.write((content or b"{") + b"\n")
    page = render(tmp_path)
    for name in ("nmf/epoch=0001/groups.png", "nmf/epoch=0002/result.json", "environment.json", "of metrics.jsonl"):
        assert f"{name} is damaged" in page
    assert [len(shots) for shots in block(page, "figures")] == [6, 7, 3]


@pytest.mark.parametrize(
    "about", [{"scalars": [1], "captions": 3, "step": "x"}, {"scalars": {"a": "b", "c": math.nan, "d": 10**400}}]
)
def test_odd_values_in_whole_files_fail_nothing(tmp_path, about):
    (figure(tmp_path) / "result.json").write_text(json.dumps(about))
    (tmp_path / "results" / "metrics.jsonl").write_text('{"step": NaN, "epoch": 1e999, "metrics": {"x": null}}')
    page = render(tmp_path)
    assert len(block(page, "figures")) == 1 and block(page, "plots")[0]["curves"][0]["points"] == [[0, "nan"]]


def test_missing_files_fail_nothing(run, tmp_path):
    assert "Nothing has been recorded yet" in render(tmp_path / "nowhere")
    for name in ("results/metrics.jsonl", "results/nmf/epoch=0003/result.json", ".hydra/config.yaml"):
        (tmp_path / name).unlink()
        page = render(tmp_path)
        assert "is damaged" not in page and len(block(page, "figures")) == 3


DRIVE = """
const bars = [...document.querySelectorAll(".bar")], out = (text) => document.body.append(`[${text}]`);
const labels = () => bars.map((bar) => bar.querySelector("output").textContent).join(", ");
const slider = (bar, to) => Object.assign(bar.querySelector("input"), { value: to });
const move = (bar, to) => slider(bar, to).dispatchEvent(new Event("input"));
addEventListener("message", (event) => out(`widget of epoch ${event.data}`));
document.querySelectorAll("figure")[2].scrollIntoView(); // pictures are shown once they come near
out(labels()); move(bars[1], 2); out(labels()); move(bars[0], 4); out(labels());
out(document.querySelectorAll(".plot")[1].textContent.replace(/\\s+/g, " "));
bars[0].querySelector("button").click(); setTimeout(() => out(`played: ${labels()}`), 3000);
"""


def visit(url: str, *awaited: str) -> tuple[str, list[str]]:
    """The page's HTML once it holds these texts, and what its console said meanwhile."""
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    heard = []
    with sync.sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.goto(url)
        for text in awaited:
            page.wait_for_function("text => document.body.textContent.includes(text)", arg=text)
        return page.content(), heard


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_in_a_browser_sliders_move_figures_and_the_console_is_silent(run, tmp_path):
    Report(tmp_path).log_metrics({"train/odd": math.nan, "val/odd": 1e308, "test/odd": -1e308, "epoch": 1}, 9)
    digest = base64.b64encode(hashlib.sha256(DRIVE.encode()).digest()).decode()
    page = render(tmp_path).replace("script-src ", f"script-src 'sha256-{digest}' ")
    (tmp_path / "page.html").write_text(page.replace("</body>", f"<script>{DRIVE}</script></body>"))
    shown, heard = visit(f"file://{tmp_path}/page.html", "[played: ", "[widget of epoch 6]")
    assert heard == []
    assert "[epoch 6, epoch 6, epoch 6, epoch 6][epoch 6, epoch 2, epoch 6, epoch 6]" in shown
    assert "[epoch 4, epoch 4, epoch 4, epoch 3]" in shown and "lossepoch 4" in shown
    assert "train 0.2592val 0.4802" in shown and "[played: epoch 6, epoch 6, epoch 6, epoch 6]" in shown
    assert "groups of epoch 6" in shown and "[widget of epoch 6]" in shown
    images = re.findall(r'<img alt="(.*?)".*?width="(\d+)".*? src="data:image/png;base64,(.*?)"', shown)
    pictures = [tmp_path / "results" / name for name in ("nmf/epoch=0006/groups.png", "saliency/epoch=0006/panels.png")]
    assert [base64.b64decode(source) for _, _, source in images] == [picture.read_bytes() for picture in pictures]
    assert [(alt, width) for alt, width, _ in images] == [("groups, epoch 6", "480"), ("panels, epoch 6", "640")]


def test_the_figures_lie_inside_the_page_up_to_a_size_and_the_page_says_where(run, tmp_path, monkeypatch):
    assert write(tmp_path) and "lie inside this page" in (page := (tmp_path / "report.html").read_text())
    assert 'id="shot-0-1"' in page
    monkeypatch.setattr("interp.lit.report.page.EMBEDDED_BYTES", size(tmp_path) - 1)
    assert not write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "lie beside this page, in results/" in page and 'id="shot-0-1"' not in page
    assert write(tmp_path, embed=True)
    with pytest.raises(UserError, match="embed=atuo: choose true, false or auto"):
        Report(tmp_path, embed="atuo")
