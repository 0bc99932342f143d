"""How fast the report of a long run opens in headless Chromium: python benchmarks/report.py

Synthetic runs of the size of real ones: pictures as the studies draw them, compressed as they are, each with a caption
and ten scalars. Wall seconds from the request of a new tab until the load event and the frame after it, in which the
first figures stand; the median of several openings, with the pictures inside the page and beside it.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import report
from PIL import Image

from interp.lit.report.logger import Report
from interp.lit.report.page import write
from interp.looks import look_folder

SIZES = ((900, 1100), (640, 480), (360, 360), (1200, 300), (480, 480))  # of grids of images, matrices, charts
# Epochs, figures, and the pixels of a picture's cells: 5 make pictures as large as those of the digits.
RUNS = {
    "20 epochs, 10 figures": (20, 10, 5),
    "20 epochs, 10 figures of photographs": (20, 10, 2),
    "100 epochs, 50 figures": (100, 50, 5),
}


def picture(size: tuple[int, int], cell: int, seed: int) -> Image.Image:
    """Noise, enlarged pixel by pixel, as maps of activations are."""
    draws = np.random.default_rng(seed)
    cells = draws.integers(0, 256, (size[1] // cell, size[0] // cell, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


def make_run(folder: Path, epochs: int, figures: int, cell: int) -> float:
    """Write results/ and its scalars as a run leaves them; megabytes of pictures."""
    logger, total = Report(folder), 0
    drawn = [folder / f"{number}.png" for number in range(figures)]
    for number, path in enumerate(drawn):
        folder.mkdir(parents=True, exist_ok=True)
        picture(SIZES[number % len(SIZES)], cell, number).save(path)
    for epoch in range(epochs + 1):
        scalars = {f"scalar_{number}": 1 / (epoch + number + 1) for number in range(10)}
        for plugin in range(-(-figures // 5)):
            own = look_folder(folder / "results" / f"study_{plugin}", epoch)
            own.mkdir(parents=True)
            for path in drawn[5 * plugin : 5 * plugin + 5]:
                total += shutil.copyfile(path, own / path.name).stat().st_size
            captions = {path.stem: f"What the picture shows at epoch {epoch}. " * 4 for path in drawn}
            about = {"step": epoch, "scalars": scalars, "captions": captions}
            (own / "result.json").write_text(json.dumps(about))
        logger.log_metrics({"train/loss": 1 / (epoch + 1), "val/accuracy": 0.9, "epoch": epoch}, epoch)
    return total / 1e6


def opening(page: Path, browser, repeats: int) -> float:
    """Median wall seconds to open it in a fresh tab."""
    taken = []
    for _ in range(repeats):
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        taken.append(time.perf_counter() - began)
        tab.close()
    return statistics.median(taken)


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the first run alone, opened three times")
    quick = parser.parse_args().quick
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    rows, seconds = [], dict[str, float]()
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        (empty := Path(place) / "empty.html").write_text("<!doctype html><title>empty</title>")
        seconds["an empty page"] = opening(empty, browser, 5)
        rows.append(("an empty page", "", 0.0, 0.0, 0.0, seconds["an empty page"]))
        for name, how in list(RUNS.items())[: 1 if quick else None]:
            folder = Path(place) / name.replace(", ", "_")
            megabytes = make_run(folder, *how)
            for embed in (True, False):
                began = time.perf_counter()
                write(folder, name, embed=embed)
                written = time.perf_counter() - began
                page = folder / "report.html"
                taken = opening(page, browser, 3 if quick else 5)
                where = "inside" if embed else "beside"
                rows.append((name, where, megabytes, page.stat().st_size / 1e6, written, taken))
                seconds[f"{name}, {where}"] = taken
    columns = ("run", "pictures", "MB of pictures", "MB of page", "s to write", "s to open")
    report("Opening report.html", columns, rows, opening=seconds)


if __name__ == "__main__":
    main()
