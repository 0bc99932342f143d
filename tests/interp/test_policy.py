"""A guarded document keeps its own scripts and loads nothing else, wherever it is opened."""

import re

import pytest

from interp.draw.policy import digest, guarded, scripts
from tests.lit.test_report import CHROMIUM

OWN = "document.title = 'its own ran'"


@pytest.mark.parametrize(
    "head",
    [
        "",
        "<!doctype html>",
        "<!DOCTYPE html>\n<html lang='en' data-a=\"a>b\">\n<head>",
        "<html><head class=x>",
        "<!doctype html><meta charset=utf-8>",
    ],
)
def test_the_policy_comes_before_anything_that_runs_or_loads(head):
    html = guarded(f"{head}<script>{OWN}</script>")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', html)
    assert html.replace(policy[0], "") == f"{head}<script>{OWN}</script>"
    assert html.index(policy[0]) == (len(head) if "meta" not in head else len("<!doctype html>"))
    assert f"script-src {digest(OWN)};" in policy[1] and "default-src 'none'" in policy[1]


def test_without_scripts_none_is_allowed():
    assert "script-src 'none'" in guarded("<p>5 < 6") and scripts("<p>") == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_in_a_browser_its_own_scripts_run_and_nothing_is_loaded(tmp_path):
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    (tmp_path / "beside.js").write_text("document.title = 'foreign'")
    handler = "document.title = 'handler'"
    loading = f"<script src='beside.js'></script><img src='beside.png' onerror=\"{handler}\"><iframe src='beside.js'>"
    style = "<p style='color: rgb(1, 2, 3)'>x</p>"
    (tmp_path / "widget.html").write_text(guarded(f"<!doctype html><script>{OWN}</script>{style}{loading}"))
    heard: list[str] = []
    with sync.sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.goto((tmp_path / "widget.html").as_uri())
        assert page.title() == "its own ran"
        assert page.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(1, 2, 3)"
    blocked = [text for text in heard if "Content Security Policy" in text]
    assert all(any(kind in text for text in blocked) for kind in ("beside.js", "beside.png", "inline event handler"))
