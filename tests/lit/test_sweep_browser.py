"""sweep.html in a browser: it sorts, finds, shows side by side and enlarges, by keyboard and without complaints."""

import json
from contextlib import closing

import pytest

from interp.lit.sweep.gather import write
from interp.lit.sweep.jobs import keep, lost
from tests.lit.test_report import CHROMIUM
from tests.lit.test_sweep import four_jobs

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    with sync.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def sweep(tmp_path):
    return four_jobs(tmp_path)


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


def test_a_search_leaves_jobs_and_figures_that_hold_every_word(page):
    page.keyboard.press("/")
    page.keyboard.type("failed blok1")
    assert [text.split()[1] for text in page.locator("tbody th:visible").all_inner_texts()] == ["2"]
    assert page.locator("figure:visible").count() == 0 and page.get_by_role("heading", name="Parallel").is_visible()
    page.get_by_role("searchbox").fill("seed=1")
    assert [text.split()[1] for text in page.locator("tbody th:visible").all_inner_texts()] == ["1"]
    page.get_by_role("searchbox").fill("job 0")  # the phrase, and no other job that has a 0 somewhere
    assert [text.split()[1] for text in page.locator("tbody th:visible").all_inner_texts()] == ["0"]
    page.get_by_role("searchbox").fill("groups")
    assert page.locator("figure:visible").count() == 1 and not page.get_by_role("table").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("tbody tr:visible").count() == 4 and page.locator("figure:visible").count() == 2


def test_a_picture_of_a_job_alone_goes_through_its_epochs_by_keyboard(page):
    page.get_by_role("button", name="Full size: groups of job 1").press("Enter")
    dialog = page.get_by_role("dialog", name="groups, job 1, epoch 1")
    assert dialog.locator("p").text_content() == "job 1 at epoch 1"
    page.keyboard.press("ArrowLeft")
    page.get_by_role("dialog", name="groups, job 1, before training").wait_for()
    page.keyboard.press("Escape")
    assert "job 0 at epoch 0" in page.locator(".caption").all_inner_texts()  # the other jobs went there, too


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_sorts_by_keyboard_light_and_dark(sweep, browser, scheme):
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
        loaded = "[...document.querySelectorAll('.beside img')].every((each) => each.complete && each.naturalWidth > 0)"
        page.wait_for_function(f"() => {loaded}")
        page.locator("tbody a").first.focus()
        assert page.locator("#lines .job.lit").count() == 1
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(21, 23, 26)" if scheme == "dark" else "rgb(251, 251, 252)"
        )
    assert heard == []
