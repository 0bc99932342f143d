"""The page of a run from the files in its folder alone: read them, group them, fill report.html."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from time import strftime
from typing import Any

HERE = Path(__file__).parent
STAGES = ("train", "val", "test")
COST = ("failed", "seconds", "share_of_epoch")  # of a plugin: plotted last
BEST = {"val/accuracy": max, "test/accuracy": max, "val/loss": min}  # what the head of the page shows, at its best
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxError)
# The page is made to be passed on; a key that stands in the configuration is not.
SECRET = re.compile(r"(?im)^([ \t-]*[\w.-]*(?:api_?key|password|secret|token)[ \t]*:[ \t]*)\S.*$")
Points = dict[tuple[float | None, float | None], float]  # (step, epoch) -> value, in the order of writing


@dataclass(frozen=True)
class Shot:
    """A figure at one epoch."""

    epoch: int
    path: Path
    size: tuple[int, int]  # pixels across and down; (0, 0) of a widget
    caption: str
    scalars: list[tuple[str, str]]

    def content(self) -> str:
        """The file in base64, read when asked for: the page is written with one picture at a time in memory."""
        return base64.b64encode(self.path.read_bytes()).decode()


@dataclass
class Figure:
    """A picture or a widget of a plugin over the epochs."""

    plugin: str
    name: str
    widget: bool
    shots: list[Shot] = field(default_factory=list)

    def index(self) -> list[dict[str, Any]]:
        """All but the content of each epoch, for the page's script."""
        return [{key: value for key, value in vars(shot).items() if key != "path"} for shot in self.shots]


def render(run_folder: Path, title: str = "", status: str = "") -> str:
    """The self-contained HTML page of a run, of whatever files are there; damaged ones are named on the page."""
    return "".join(parts(run_folder, title, status))


def parts(run_folder: Path, title: str = "", status: str = "") -> Iterator[str]:
    """The page's text, piece by piece. Raises OSError where a figure vanishes meanwhile."""
    run, notes, metrics = Path(run_folder).absolute(), list[str](), dict[str, Points]()
    figures = read_figures(run, notes, metrics)
    for name, points in read_metrics(run / "results" / "metrics.jsonl", notes).items():
        metrics[name] = {at: v for at, v in metrics.get(name, {}).items() if at not in points} | points
    style, script = (_text(HERE / f"report.{kind}", notes) for kind in ("css", "js"))
    plugins = {plugin: list(own) for plugin, own in groupby(enumerate(figures), lambda pair: pair[1].plugin)}
    return template("report.html").generate(
        title=title or run.name, status=status, date=strftime("%Y-%m-%d %H:%M"), headline=headline(metrics),
        figures=figures, plugins=plugins, plots=plots(metrics), notes=notes, style=style, script=script,
        config=SECRET.sub(r"\1(hidden)", _text(run / ".hydra" / "config.yaml", notes)),
        environment=_object(run / "results" / "environment.json", notes) | {"folder": str(run)},
        policy=content_policy(style, script, [shot for figure in figures if figure.widget for shot in figure.shots]),
    )  # fmt: skip


def template(name: str) -> Any:
    """A page's template from this folder, which escapes whatever it is given."""
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(name)


def content_policy(style: str, script: str, widgets: list[Shot], images: str = "data:") -> str:
    """The content policy: nothing from elsewhere, no script but the page's and its widgets' own, known by hash."""
    inline = [code for shot in widgets for code in re.findall(r"(?is)<script.*?>(.*?)</script", _text(shot.path, []))]
    scripts = " ".join(map(_hash, dict.fromkeys([script, *inline])))
    styles = "'unsafe-inline'" if widgets else _hash(style)  # widgets inherit the policy, and have styles in attributes
    return f"default-src 'none'; img-src {images}; style-src {styles}; script-src {scripts}; base-uri 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        notes += [] if isinstance(error, FileNotFoundError) else [f"{path.name} cannot be read: {error.strerror}"]
        return ""


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        return dict(json.loads(_text(path, notes) or "{}", parse_int=float).items())
    except DAMAGED as error:
        notes.append(f"{'/'.join(path.parts[-3:])} is damaged ({type(error).__name__})")
        return {}


def read_figures(run: Path, notes: list[str], metrics: dict[str, Points]) -> list[Figure]:
    """Pictures and widgets of results/<plugin>/epoch=NNNN/, by plugin and name; the scalars there go to `metrics`."""
    figures: dict[tuple[str, bool, str], Figure] = {}
    folders = ((re.fullmatch(r"epoch=(\d{1,9})", path.name), path) for path in run.glob("results/*/epoch=*"))
    for epoch, folder in sorted((int(match[1]), path) for match, path in folders if match):
        for shot in _shots(folder, epoch, notes, metrics):
            key = folder.parent.name, shot.path.suffix == ".html", shot.path.stem
            figures.setdefault(key, Figure(key[0], key[2], widget=key[1])).shots.append(shot)
    return [figures[key] for key in sorted(figures)]


def _shots(folder: Path, epoch: int, notes: list[str], metrics: dict[str, Points]) -> Iterator[Shot]:
    about, plugin = _object(folder / "result.json", notes), folder.parent.name
    scalars, captions = (dict(v) if isinstance(v := about.get(k), dict) else {} for k in ("scalars", "captions"))
    scalars = {name: value for name, value in scalars.items() if isinstance(value, float)}
    _keep(metrics, {f"{plugin}/{name}": value for name, value in scalars.items()}, about.get("step"), epoch)
    shown = [(name, f"{value:.4g}") for name, value in scalars.items()]
    for path in sorted(folder.glob("[!.]*.png")) + sorted(folder.glob("[!.]*.html")):
        try:
            yield Shot(epoch, path, _size(path), str(captions.get(path.stem, "")), shown)
        except DAMAGED as error:
            notes.append(f"{'/'.join(path.parts[-3:])} is damaged ({type(error).__name__})")


def _size(path: Path) -> tuple[int, int]:
    """Pixels across and down; raises OSError or SyntaxError where the PNG is not whole."""
    if path.suffix == ".html":
        return 0, 0
    from PIL import Image

    with Image.open(path, formats=("PNG",)) as image:
        image.verify()
        return image.size


def read_metrics(path: Path, notes: list[str]) -> dict[str, Points]:
    """Each metric's values in the order of writing; of a step written twice, as after a resume, the last."""
    metrics: dict[str, Points] = {}
    for number, line in enumerate(_text(path, notes).splitlines(), start=1):
        try:
            row = json.loads(line, parse_int=float)
            _keep(metrics, row["metrics"], row["step"], row["epoch"])
        except DAMAGED:
            notes.append(f"line {number} of {path.name} is damaged")
    return metrics


def _keep(metrics: dict[str, Points], values: dict[str, Any], step: float | None, epoch: float | None) -> None:
    step, epoch = (float(x) if isinstance(x, int | float) and math.isfinite(x) else None for x in (step, epoch))
    for name, value in values.items():
        points = metrics.setdefault(name, {})
        points.pop((step, epoch), None)  # so that a value written again also counts as the last one
        points[step, epoch] = math.nan if value is None else float(value)


def headline(metrics: dict[str, Points]) -> list[tuple[str, str, str]]:
    """Name, best value, and when that was and what the last one is, of the metrics in `BEST`."""
    found = []
    for name, best in BEST.items():
        points = [(value, epoch) for (_, epoch), value in metrics.get(name, {}).items() if math.isfinite(value)]
        if points:
            value, epoch = best(points, key=lambda point: point[0])
            when = "best" if epoch is None else f"best, epoch {epoch:g}"
            found.append((name, f"{value:.4g}", f"{when}; last {points[-1][0]:.4g}" if len(points) > 1 else ""))
    return found


def plots(metrics: dict[str, Points]) -> dict[str, list[dict[str, Any]]]:
    """Plots by group: training, where the stages share axes, then one group a plugin."""
    groups: dict[str, dict[str, dict[str, Points]]] = {}
    for name, points in metrics.items():
        prefix, _, rest = name.partition("/")
        group, title, curve = ("", rest, prefix) if prefix in STAGES else (prefix, rest, "") if rest else ("", name, "")
        if not name.endswith("/failed") or any(points.values()):
            groups.setdefault(group, {}).setdefault(title, {})[curve] = points
    ordered = sorted(groups.items())
    return {g: [_plot(t, own[t]) for t in sorted(own, key=lambda t: (t in COST, t))] for g, own in ordered}


def _plot(title: str, curves: dict[str, Points]) -> dict[str, Any]:
    """One plot for the page's script: over epochs, or over steps where an epoch has many or none is known."""
    ats = [({step for step, _ in points}, {epoch for _, epoch in points}) for points in curves.values()]
    # Twice: a run that was resumed with another batch size has two steps in some epochs.
    over_steps = any(None in epochs or len(steps) > 2 * len(epochs) for steps, epochs in ats)
    laid = []
    for name in sorted(curves, key=("", *STAGES).index):
        values = {(step or 0) if over_steps else epoch: value for (step, epoch), value in curves[name].items()}
        points = [[x, y if math.isfinite(y) else str(y)] for x, y in sorted(values.items())]
        laid.append({"name": name, "points": points})
    return {"title": title, "axis": "step" if over_steps else "epoch", "curves": laid}
