"""sweep.html: what it says of every job, and that it is a whole page in a browser."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from interp.errors import UserError
from interp.lit.report import Report
from interp.lit.sweep import LOST, Gather, job_folders, keep, lost, main, write
from interp.lit.sweep_page import columns, front, pareto, read_job
from tests.lit.test_report import CHROMIUM, EVIL, block, figure


def job(
    sweep: Path, number: int, *, error: Exception | None = None, overrides=(), objective=0.5, direction="", **scalars
):
    """A job as Hydra runs it, with the callback around it; its folder."""
    folder = sweep / str(number)
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps([f"seed={number}", "data=digits", *overrides]))
    config = OmegaConf.create(
        {
            "objective": "val/accuracy",
            "hydra": {"mode": RunMode.MULTIRUN, "job": {"num": number}, "sweep": {"dir": str(sweep)},
                      "sweeper": {"direction": direction or None}, "runtime": {"output_dir": str(folder)}},
        }
    )  # fmt: skip
    callback = Gather()
    callback.on_job_start(config)
    assert read_job(folder, sweep).status == "running"
    if error is None:
        for epoch in (0, 1):
            target = figure(folder, epoch=epoch, caption=f"job {number} at epoch {epoch}", size=(60 + number, 40))
            (target / "explorer.html").write_text(f"<p>widget of job {number} at epoch {epoch}</p>")
        Report(folder).log_metrics({"val/accuracy": objective, **scalars, "epoch": 1}, step=9)
        Report(folder, title="one").finalize("success")
    done = JobReturn(status=JobStatus.FAILED if error else JobStatus.COMPLETED)
    done.return_value = error or objective
    callback.on_job_end(config, done)
    assert done.status is JobStatus.COMPLETED and done.return_value is (None if error else objective)
    return config


@pytest.fixture
def sweep(tmp_path) -> Path:
    """Four jobs: two that finished, one that failed, one whose process was killed."""
    for number in (0, 1):
        job(tmp_path, number, objective=0.9 - number / 4, **{"nmf/relative_error": 0.5 - number / 5})
    job(tmp_path, 2, error=UserError("no layer 'blok1'; did you mean 'block1'?"))
    keep(tmp_path / "3", number=3, status="running")
    return tmp_path


def test_jobs_are_kept_with_what_they_found_and_how_they_ended(sweep):
    lost(sweep / "3")
    jobs = write(sweep)
    assert [job.status for job in jobs] == ["finished", "finished", "failed", "failed"]
    assert jobs[0].parameters == {"seed": 0.0, "data": "digits"} and jobs[0].objectives == {"val/accuracy": 0.9}
    assert jobs[1].scalars["nmf/relative_error"] == 0.3 and jobs[0].files["report"] == "0/report.html"
    assert jobs[2].error.startswith("no layer 'blok1'") and jobs[3].error == LOST
    assert [shot[:4] for shot in jobs[1].figures[0]["shots"]] == [
        (epoch, f"1/results/nmf/epoch%3D000{epoch}/groups.png", 61, 40) for epoch in (0, 1)
    ]
    page = (sweep / "sweep.html").read_text()
    assert "did you mean &#39;block1&#39;" in page and LOST in page
    assert 'href="0/report.html"' in page and "unsafe" not in page.split("<style>")[0]


def test_the_end_of_a_sweep_names_lost_jobs_and_ends_with_an_error(sweep):
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}})
    with pytest.raises(SystemExit, match=r"2 of 4 jobs failed. job 2: no layer .*; job 3: its process ended"):
        Gather().on_multirun_end(config)
    assert [read_job(path, sweep).status for path in job_folders(sweep)] == ["finished"] * 2 + ["failed"] * 2


def test_single_runs_are_left_alone(tmp_path):
    config = OmegaConf.create({"hydra": {"mode": None, "runtime": {"output_dir": str(tmp_path)}}})
    Gather().on_job_start(config)
    done = JobReturn(status=JobStatus.FAILED)
    done.return_value = ValueError("as it was")
    Gather().on_job_end(config, done)
    assert done.status is JobStatus.FAILED and not list(tmp_path.iterdir())


def test_columns_are_what_differs_and_what_was_found(sweep):
    laid = {column["name"]: column for column in columns(write(sweep))}
    assert "data" not in laid and laid["seed"]["kind"] == "parameter" and laid["seed"]["cells"] == [0.0, 1.0, 2.0, None]
    assert laid["val/accuracy"] == {
        "kind": "objective", "name": "val/accuracy", "cells": [0.9, 0.65, None, None], "shown": True
    }  # fmt: skip
    assert laid["nmf/relative_error"]["cells"] == [0.5, pytest.approx(0.3), None, None]
    assert not laid["nmf/relative_error"]["shown"]


def test_everything_is_rebuilt_from_the_runs_alone(sweep, capsys):
    before = (sweep / "sweep.html").read_text()
    (sweep / "1" / "job.json").unlink()
    (sweep / "sweep.html").unlink()
    main([str(sweep)])
    assert "4 jobs" in capsys.readouterr().out and "unknown" in (sweep / "sweep.html").read_text()
    assert block(before, "about")["figures"] == block((sweep / "sweep.html").read_text(), "about")["figures"]
    with pytest.raises(SystemExit, match="give one folder"):
        main([str(sweep / "nowhere")])


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"number": "x", "status": 1}', '{"number": 0}'])
def test_a_damaged_job_is_a_row_that_says_so(sweep, content):
    (sweep / "0" / "job.json").write_text(content)
    assert "job.json is damaged" in {job.number: job for job in write(sweep)}[-1].error


def test_hostile_names_are_only_text_and_odd_numbers_strict_json(tmp_path):
    job(tmp_path, 0, overrides=[f"+tag={EVIL}"], objective=float("nan"), **{f"{EVIL}/x": float("inf")})
    job(tmp_path, 1, error=ValueError(EVIL))
    page = (tmp_path / "sweep.html").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page
    shown = {c["name"]: c["cells"] for c in block(page, "about")["columns"]}
    assert shown["val/accuracy"] == ["nan", None] and shown[f"{EVIL}/x"] == ["inf", None]


def test_jobs_deep_in_the_folder_are_found(tmp_path):
    for name in ("a/1", "a/2", "b"):
        keep(tmp_path / name, number=0, status="finished")
    assert [path.relative_to(tmp_path).as_posix() for path in job_folders(tmp_path)] == ["a/1", "a/2", "b"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points):
    best = pareto(points, ("maximize", "minimize"))
    for index, (a, b) in enumerate(points):
        beaten = any(x >= a and y <= b and (x, y) != (a, b) for x, y in points)
        assert (index in best) != beaten


def test_only_optimised_objectives_have_a_front(tmp_path):
    def jobs(*directions):
        for number, values in enumerate([(0.9, 3.0), (0.8, 9.0), (0.7, 5.0)]):
            told = dict(zip(("a", "b"), zip(values, directions, strict=True), strict=True))
            keep(tmp_path / str(number), number=number, status="finished", objectives=told)
        return [job.number for job in front(write(tmp_path))]

    assert jobs("maximize", "maximize") == [0, 1] and jobs("maximize", "minimize") == [0] and jobs("", "") == []


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'epochscope[test]'")
    with sync.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser, sweep):
    """The page of the four jobs, which must not complain of anything."""
    lost(sweep / "3")
    write(sweep)
    page, heard = browser.new_page(viewport={"width": 1400, "height": 900}), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto((sweep / "sweep.html").as_uri())
    yield page
    page.close()
    assert heard == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_widgets_stand_side_by_side_and_all_figures_follow_one_slider(page):
    def said(job: int, epoch: int):
        frame = page.locator(f"figure[data-name='nmf/explorer'] [data-job='{job}'] iframe")
        frame.content_frame.get_by_text(f"widget of job {job} at epoch {epoch}").wait_for()

    page.locator("figure[data-name='nmf/explorer']").scroll_into_view_if_needed()
    said(0, 1)
    said(1, 1)
    page.get_by_role("slider", name="All figures").press("Home")
    said(0, 0)
    said(1, 0)
    link = page.get_by_role("link", name="Open alone explorer of job 1")
    assert link.get_attribute("href") == "1/results/nmf/epoch%3D0000/explorer.html"
    assert page.evaluate("history.length") == 2
    assert [box["y"] for box in (each.bounding_box() for each in page.locator("iframe").all())].count(
        page.locator("iframe").first.bounding_box()["y"]
    ) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_a_search_leaves_jobs_and_figures_that_hold_every_word(page):
    page.keyboard.press("/")
    page.keyboard.type("failed blok1")
    assert [text.split()[1] for text in page.locator("tbody th:visible").all_inner_texts()] == ["2"]
    assert page.locator("figure:visible").count() == 0 and page.get_by_role("heading", name="Parallel").is_visible()
    page.get_by_role("searchbox").fill("seed=1")
    assert [text.split()[1] for text in page.locator("tbody th:visible").all_inner_texts()] == ["1"]
    page.get_by_role("searchbox").fill("groups")
    assert page.locator("figure:visible").count() == 1 and not page.get_by_role("table").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("tbody tr:visible").count() == 4 and page.locator("figure:visible").count() == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_a_picture_of_a_job_alone_goes_through_its_epochs_by_keyboard(page):
    page.get_by_role("button", name="Full size: groups of job 1").press("Enter")
    dialog = page.get_by_role("dialog", name="groups, job 1, epoch 1")
    assert dialog.locator("p").text_content() == "job 1 at epoch 1"
    page.keyboard.press("ArrowLeft")
    page.get_by_role("dialog", name="groups, job 1, before training").wait_for()
    page.keyboard.press("Escape")
    assert "job 0 at epoch 0" in page.locator(".caption").all_inner_texts()  # the other jobs went there, too


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_it_sorts_by_keyboard_and_the_console_is_silent(sweep, browser, scheme):
    for path in (sweep / "0", sweep / "1"):
        about = json.loads((path / "job.json").read_text())
        about["objectives"]["nmf/relative_error"] = [about["scalars"]["nmf/relative_error"], "minimize"]
        about["objectives"]["val/accuracy"][1] = "maximize"
        keep(path, **about)
    lost(sweep / "3")
    write(sweep)
    heard: list[str] = []
    with closing(browser.new_page(color_scheme=scheme)) as page:
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda asked: heard.append(asked.url) if not asked.url.startswith("file:") else None)
        page.goto(f"file://{sweep}/sweep.html")
        rows = lambda: [text.split()[1] for text in page.locator("tbody th").all_inner_texts()]  # noqa: E731
        head = page.get_by_role("button", name="val/accuracy")
        head.focus()
        page.keyboard.press("Enter")
        assert rows() == ["1", "0", "2", "3"] and page.locator("[aria-sort=ascending]").count() == 1
        assert page.locator("[data-name='nmf/groups'] b").all_inner_texts() == ["job 1", "job 0"]
        page.keyboard.press("Enter")
        assert rows() == ["0", "1", "2", "3"]  # what is missing stays last
        assert page.locator("#lines .job").count() == 4 and page.locator("#scatter .job circle").count() == 2
        axes = page.locator("#lines .axis").count()
        page.locator("#choose summary").click()
        page.get_by_role("checkbox", name="seconds").check()
        assert page.locator("#lines .axis").count() == axes + 1
        slider = page.get_by_role("slider", name="groups")
        slider.focus()
        page.keyboard.press("ArrowLeft")
        shown = page.locator(".beside img").evaluate_all("images => images.map((each) => each.getAttribute('src'))")
        assert shown == [f"{number}/results/nmf/epoch%3D0000/groups.png" for number in (0, 1)]
        assert "job 1 at epoch 0" in page.locator(".caption").all_inner_texts()
        assert page.get_by_role("slider", name="explorer").input_value() == "1"
        page.wait_for_function(
            "() => [...document.querySelectorAll('.beside img')].every((image) => image.complete && image.naturalWidth)"
        )
        page.locator("tbody a").first.focus()
        assert page.locator("#lines .job.lit").count() == 1
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(21, 23, 26)" if scheme == "dark" else "rgb(251, 251, 252)"
        )
    assert heard == []


def test_a_page_of_many_jobs_stays_small(sweep):
    for number in range(4, 60):
        shutil.copytree(sweep / "0", sweep / str(number))
        keep(sweep / str(number), number=number)
    write(sweep)
    assert (sweep / "sweep.html").stat().st_size < 1e6
