"""The page of a run, from the files in its folder alone."""

import base64
import hashlib
import json
import math
import re
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

STAGES = ("train", "val", "test")
HERE = Path(__file__).parent


@dataclass
class Figure:
    """One picture of a plugin over the epochs."""

    plugin: str
    name: str
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)  # epoch -> source, caption, scalars


@dataclass
class Plot:
    """Curves on common axes, laid out for a viewBox of 320 x 170."""

    title: str
    curves: list[dict[str, Any]]
    ticks_x: list[tuple[float, str]]
    ticks_y: list[tuple[float, str]]
    axis: str


def render(run: Path, title: str = "", status: str = "") -> str:
    """The self-contained HTML page of the run in folder `run`; shows whatever of it is there.

    Damaged files are named on the page. Names and captions are escaped; nothing is loaded from elsewhere.
    """
    notes: list[str] = []
    figures = read_figures(run, notes)
    metrics = read_metrics(run / "results" / "metrics.jsonl", notes)
    style, script = ((HERE / f"report.{kind}").read_text() for kind in ("css", "js"))
    return _template().render(
        title=title or run.name, status=status, date=time.strftime("%Y-%m-%d %H:%M"), run=str(run),
        headline=headline(metrics), figures=_by_plugin(figures), plots=plots(metrics), notes=notes,
        data=[figure.epochs for figure in figures], style=style, script=script,
        style_hash=_hash(style), script_hash=_hash(script),
        config=_text(run / ".hydra" / "config.yaml"), environment=_environment(run),
    )  # fmt: skip


@cache
def _template():
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["json"] = lambda value: jinja2.utils.htmlsafe_json_dumps(value)
    return environment.from_string((HERE / "report.html").read_text())


def _hash(text: str) -> str:
    """What the content policy allows: this text and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _environment(run: Path) -> dict[str, str]:
    try:
        return {str(k): str(v) for k, v in json.loads(_text(run / "results" / "environment.json") or "{}").items()}
    except (ValueError, AttributeError):
        return {}


def read_figures(run: Path, notes: list[str]) -> list[Figure]:
    """Every picture under results/<plugin>/epoch=NNNN/; what cannot be read goes into `notes`."""
    figures: dict[tuple[str, str], Figure] = {}
    for path in sorted(run.glob("results/*/epoch=*/*.png")):
        plugin, epoch = path.parts[-3], re.fullmatch(r"epoch=(\d+)", path.parts[-2])
        content = path.read_bytes()
        if epoch is None or not content.startswith(b"\x89PNG") or not content.rstrip(b"\0").endswith(b"IEND\xaeB`\x82"):
            notes.append(f"{path.relative_to(run)} is damaged")
            continue
        about = _about(path.parent / "result.json", run, notes)
        shown = {
            name: f"{value:.4g}" for name, value in about.get("scalars", {}).items() if isinstance(value, int | float)
        }
        figures.setdefault((plugin, path.stem), Figure(plugin, path.stem)).epochs[int(epoch[1])] = {
            "source": "data:image/png;base64," + base64.b64encode(content).decode(),
            "caption": str(about.get("captions", {}).get(path.stem, "")),
            "scalars": shown,
        }
    return list(figures.values())


def _about(path: Path, run: Path, notes: list[str]) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text())
        if not isinstance(about, dict):
            raise ValueError("not an object")
        return about
    except (OSError, ValueError) as error:
        note = f"{path.relative_to(run)} cannot be read ({type(error).__name__})"
        notes.extend([note] if note not in notes else [])
        return {}


def _by_plugin(figures: list[Figure]) -> dict[str, list[tuple[int, Figure]]]:
    plugins: dict[str, list[tuple[int, Figure]]] = {}
    for index, figure in enumerate(figures):
        plugins.setdefault(figure.plugin, []).append((index, figure))
    return plugins


Points = dict[float, float]  # by epoch, or by step where there is no epoch


def read_metrics(path: Path, notes: list[str]) -> dict[str, Points]:
    """Each metric's values in order; of an epoch that was run twice the last. Torn lines are left out."""
    metrics: dict[str, Points] = {}
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            at = row["step"] if row["epoch"] is None else row["epoch"]
            for name, value in row["metrics"].items():
                metrics.setdefault(name, {})[float(at)] = math.nan if value is None else float(value)
        except (ValueError, KeyError, TypeError, AttributeError):
            notes.append(f"line {number} of {path.name} is damaged")
    return {name: dict(sorted(points.items())) for name, points in metrics.items()}


def headline(metrics: dict[str, Points]) -> dict[str, str]:
    """The best validation and the test accuracy."""
    best = {"val/accuracy": max, "test/accuracy": max, "val/loss": min}
    found = {name: [v for v in metrics.get(name, {}).values() if math.isfinite(v)] for name in best}
    return {name: f"{best[name](values):.4g}" for name, values in found.items() if values}


def plots(metrics: dict[str, Points]) -> dict[str, list[Plot]]:
    """Plots by group: training, where the stages share axes, then one group a plugin."""
    grouped: dict[str, dict[str, dict[str, Points]]] = {}
    for name, points in metrics.items():
        prefix, _, rest = name.partition("/")
        group, title, curve = ("training", rest, prefix) if prefix in STAGES else (prefix, rest or name, "")
        if any(map(math.isfinite, points.values())):
            grouped.setdefault(group, {}).setdefault(title, {})[curve] = points
    order = sorted(grouped, key=lambda group: (group != "training", group))
    return {group: [plot(title, curves) for title, curves in sorted(grouped[group].items())] for group in order}


def plot(title: str, curves: dict[str, Points]) -> Plot:
    """Lay out curves on common axes with a few round ticks."""
    xs = [x for points in curves.values() for x in points]
    ys = [y for points in curves.values() for y in points.values() if math.isfinite(y)]
    ticks_x, ticks_y = round_ticks(min(xs), max(xs), whole=True), round_ticks(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (_share(v, ticks) for v, ticks in ((x, ticks_x), (y, ticks_y)))
        return round(44 + 262 * across, 1), round(138 - 124 * up, 1)

    laid = []
    for curve, points in curves.items():
        dots = [(*place(x, y), f"{curve} {x:g}: {y:.4g}".strip()) for x, y in points.items() if math.isfinite(y)]
        laid.append({"name": curve, "dots": dots, "line": " ".join(f"{x},{y}" for x, y, _ in dots)})
    across = [(place(x, ticks_y[0])[0], f"{x:g}") for x in ticks_x]
    up = [(place(ticks_x[0], y)[1], f"{y:.6g}") for y in ticks_y]
    return Plot(title, laid, across, up, "epoch")


def _share(value: float, ticks: list[float]) -> float:
    return (value - ticks[0]) / (ticks[-1] - ticks[0])


def round_ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Three to six round numbers around [low, high].

    >>> round_ticks(0.13, 0.87)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> round_ticks(0, 10, whole=True)
    [0, 2, 4, 6, 8, 10]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)
    step = max(1, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-4), math.ceil(high / step - 1e-4)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
