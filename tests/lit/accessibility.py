"""axe-core's rules (https://github.com/dequelabs/axe-core) over a page in the browser and the widgets in its frames."""

from pathlib import Path

import pytest

RUN = """async () => (await axe.run(document, {iframes: false})).violations
  .filter(({impact}) => ["serious", "critical"].includes(impact))
  .map(({id, help, nodes}) => `${id}: ${help}: ${nodes.map(({html}) => html.slice(0, 120)).slice(0, 3).join(" ")}`)"""


def serious(page) -> list[str]:
    """What the rules call serious or critical in the page and in each widget that it shows."""
    axe = pytest.importorskip("axe_playwright_python", reason="no axe-core: pip install -e '.[test]'")
    code = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    found = []
    for frame in page.frames:  # one by one: a sandboxed frame does not answer the page's own axe
        if frame.evaluate("document.body.childElementCount") == 0:
            continue  # a widget that has not come near the window is not loaded
        frame.evaluate(code)
        found += frame.evaluate(RUN)
    return found
