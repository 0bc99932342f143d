"""The pages of a training, an analysis, a comparison and a sweep by axe-core's rules, light and dark, with widgets."""

import pytest
import torch

from interp.draw.groups_widget import groups_widget
from interp.draw.policy import guarded
from interp.draw.scatter_widget import scatter_widget
from interp.draw.table import html_table
from interp.lit.report.logger import Report
from interp.lit.report.page import write
from interp.lit.sweep.gather import main
from tests.lit.accessibility import serious
from tests.lit.test_report import CHROMIUM, figure
from tests.lit.test_sweep import job

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


def widgets(folder) -> None:
    """One of every kind."""
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.rand(4, 3, 16, 16, generator=draws), torch.tensor([0, 1, 1, -1])
    names, effects = [("zero", "one")] * 4, torch.randn(4, 3, 2, generator=draws)
    groups = groups_widget(
        images, list("abcd"), torch.rand(4, 3, 4, 4, generator=draws), None, effects, names, "Trust."
    )
    layouts = torch.rand(2, 4, 2, generator=draws)
    points = scatter_widget(layouts, ["0", "1"], labels, labels.clamp(0), names[0], (images * 255).byte(), "Trust.")
    made = {"explore": groups, "embeddings": points, "table": html_table(["a", "b"], [["x", 0.5]] * 40, "Trust.")}
    for name, html in made.items():
        (folder / f"{name}.html").write_text(guarded(html))


def train(folder) -> None:
    for epoch in range(3):
        widgets(figure(folder, "nmf", epoch, relative_error=0.6 - epoch / 20))
        figure(folder, "saliency", epoch, "panels", "what pushed the logit", (640, 80), share=0.5)
        Report(folder).log_metrics({"train/loss": 0.5**epoch, "val/accuracy": 0.9, "epoch": epoch}, epoch * 10)
    (folder / "results" / "nmf" / "epoch=0001" / "result.json").write_text("{")  # the page names what is damaged


def analysis(folder) -> None:
    widgets(figure(folder, "nmf", 2, relative_error=0.5))


def comparison(folder) -> None:
    for plugin in ("nmf", "nmf.a", "nmf.b"):
        figure(folder, plugin, 2, **{"relative_error/a": 0.5, "relative_error/b": 0.4})


def sweep(folder) -> None:
    for number in (0, 1):
        job(folder, number, objective=0.9 - number / 4, **{"nmf/relative_error": 0.5})
    job(folder, 2, error=ValueError("no layer 'blok1'; did you mean 'block1'?"))
    for number in (0, 1):
        widgets(folder / str(number) / "results" / "nmf" / "epoch=0001")
    for path in folder.glob("*/results/nmf/*/explorer.html"):  # a bare paragraph
        path.unlink()
    main([str(folder)])


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("axe_playwright_python", reason="no axe-core: pip install -e '.[test]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.mark.parametrize("make", [train, analysis, comparison, sweep], ids=lambda make: make.__name__)
def test_nothing_is_serious_for_who_cannot_see_or_point(browser, tmp_path, make):
    make(tmp_path)
    if make is not sweep:
        write(tmp_path, "a run", "finished")
    page = browser.new_page()
    page.goto((tmp_path / ("sweep.html" if make is sweep else "report.html")).as_uri())
    for each in page.locator("[aria-label^='Film'], details:not([open]) > summary").all():
        if each.is_visible():
            each.click()
    for frame in page.locator("iframe").all():
        frame.scroll_into_view_if_needed()
        frame.content_frame.locator("body > *").first.wait_for()
    assert page.locator("iframe").count() == {train: 3, analysis: 3, comparison: 0, sweep: 6}[make]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert serious(page) == [], scheme
    page.close()


def test_the_rules_find_what_is_wrong(browser):
    page = browser.new_page()
    page.set_content("<p>text</p><img src='x.png'>")
    assert {found.split(":")[0] for found in serious(page)} == {"image-alt", "document-title", "html-has-lang"}
    page.close()
