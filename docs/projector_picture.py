"""The picture of TensorBoard's projector in docs/: python docs/projector_picture.py RUN_FOLDER

RUN_FOLDER is that of `python train.py experiment=interrogation`. Needs the extra `test` and Chromium.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Frame, sync_playwright

ADDRESS = "http://127.0.0.1:6123"
GRAPHICS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def wait_for_server() -> None:
    for _ in range(60):
        try:
            urlopen(ADDRESS, timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    raise SystemExit(f"TensorBoard did not answer at {ADDRESS}")


def choose(frame: Frame, menu: int, option: str | None = None) -> None:
    """Choose the option, or the last one, of the projector's drop-down list number `menu`."""
    field = frame.locator("paper-dropdown-menu").nth(menu)
    field.click()
    frame.wait_for_timeout(1500)
    items = field.locator("paper-item")
    (items.filter(has_text=option).first if option else items.last).click()
    frame.wait_for_timeout(4000)


with subprocess.Popen(["tensorboard", "--logdir", sys.argv[1], "--host", "127.0.0.1", "--port", "6123"]) as server:
    try:
        wait_for_server()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=GRAPHICS)
            page = browser.new_page(viewport={"width": 1400, "height": 850})
            page.goto(f"{ADDRESS}/#projector")
            page.wait_for_timeout(20_000)
            frame = page.frames[-1]
            choose(frame, menu=0)  # the last epoch's embeddings
            choose(frame, menu=2, option="class")
            frame.locator('[data-tab="tsne"]').first.click()
            page.wait_for_timeout(40_000)
            page.screenshot(path=Path(__file__).parent / "projector.png")
            browser.close()
    finally:
        server.terminate()
