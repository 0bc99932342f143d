"""The bar comes for long renders on a terminal and for no others."""

import io

import pytest
import rich
from rich.console import Console

from interp.featurevis import progress


@pytest.fixture
def shown(monkeypatch):
    """What is written on a terminal; the clock goes on by `seconds` at each reading."""

    def run(seconds: float, count: int, terminal: bool = True) -> str:
        clock, text = iter(range(10**6)), io.StringIO()
        console = Console(file=text, force_terminal=terminal, force_interactive=terminal, width=80)
        monkeypatch.setattr(rich, "get_console", lambda: console)
        monkeypatch.setattr(progress.time, "perf_counter", lambda: seconds * next(clock))
        with monkeypatch.context() as patch:
            patch.setattr(progress, "PATIENCE", 4.0)
            assert list(progress.steps_with_bar(count)) == list(range(count))
        return text.getvalue()

    return run


def test_a_long_render_on_a_terminal_has_a_bar(shown):
    assert "rendering" in shown(1.0, 64)


def test_short_renders_logs_and_few_steps_have_none(shown):
    assert shown(0.01, 64) == "" and shown(100.0, 64, terminal=False) == "" and shown(100.0, 3) == ""
    assert shown(0.0, 0) == ""
