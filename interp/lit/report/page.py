"""The page of a run from the files in its folder alone: group what was read, fill report.html."""

import math
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from time import strftime
from typing import Any, Literal

from interp.draw.policy import digest, scripts
from interp.files import replacing
from interp.lit.run_folder import failures
from interp.lit.run_folder.files import Points, Shot, json_object, read_figures, read_metrics, text
from interp.lit.safety.secrets import hide
from interp.looks import looks

HERE = Path(__file__).parent
STAGES = ("train", "val", "test")
COST = ("failed", "seconds", "share_of_epoch")  # of a plugin: plotted last
BEST = {"val/accuracy": max, "test/accuracy": max, "val/loss": min}  # what the head of the page shows, at its best
EMBEDDED_BYTES = (
    25_000_000  # bytes of files that a page holds unasked: it opens in well under a second, and can be mailed
)
Embed = bool | Literal["auto"]
# In this order in one script of the page; more may follow.
SCRIPTS = ("player", "figures", "film", "plots", "search", "report")
BESIDE = "'self' file:"  # sources of what lies in the folder of the page, which may be served or opened as a file


def render(run_folder: Path, title: str = "", status: str = "") -> str:
    """The self-contained HTML page of a run, of whatever files are there; damaged ones are named on the page."""
    return "".join(parts(run_folder, title, status))


def write(run_folder: Path, title: str = "", status: str = "", embed: Embed = "auto") -> bool:
    """Write the page into the run's folder, with the figures inside it or showing the files beside it.

    "auto": inside up to `EMBEDDED_BYTES` of files. Whether they are inside is returned. Raises OSError; an earlier page
    is then left as it was.
    """
    if embed == "auto":
        embed = size(run_folder) <= EMBEDDED_BYTES
    with replacing(run_folder / "report.html") as path, path.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(parts(run_folder, title, status, embed))
    return embed


def size(run_folder: Path) -> int:
    """Bytes of a run's pictures and widgets."""
    kept = (look for study in Path(run_folder).glob("results/*") for _, look in looks(study))
    drawn = (path for look in kept for path in look.glob("[!.]*"))
    return sum(path.stat().st_size for path in drawn if path.suffix in (".png", ".html") and path.is_file())


def parts(run_folder: Path, title: str = "", status: str = "", embed: bool = True) -> Iterator[str]:
    """The page's text, piece by piece. Raises OSError where a figure vanishes meanwhile."""
    run, notes, metrics = Path(run_folder).absolute(), list[str](), dict[str, Points]()
    figures = read_figures(run, notes, metrics)
    for name, points in read_metrics(run / "results" / "metrics.jsonl", notes).items():
        metrics[name] = {at: v for at, v in metrics.get(name, {}).items() if at not in points} | points
    notes += filter(None, [failures.told(failures.read(run, notes, metrics))])
    style, script = own_code()
    widgets = [shot for figure in figures if figure.widget and embed for shot in figure.shots]
    plugins = {plugin: list(numbered) for plugin, numbered in groupby(enumerate(figures), lambda pair: pair[1].plugin)}
    return template(HERE / "report.html").generate(
        title=hide(title or run.name), status=status, date=strftime("%Y-%m-%d %H:%M"), headline=headline(metrics),
        figures=figures, plugins=plugins, plots=plots(metrics), notes=notes, style=style, script=script,
        config=hide(text(run / ".hydra" / "config.yaml", notes, run)),
        environment=json_object(run / "results" / "environment.json", notes, run) | {"folder": str(run)},
        beside=None if embed else run, megabytes=f"{size(run) / 1e6:.3g} MB",
        policy=content_policy(style, script, widgets, "data:" if embed else BESIDE),
    )  # fmt: skip


def template(path: Path) -> Any:
    """A page's template, which escapes whatever it is given and may use what report.html has."""
    import jinja2

    loader = jinja2.FileSystemLoader([path.parent, HERE])
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(path.name)


def own_code(*more: Path) -> tuple[str, str]:
    """Style and script of a page: the report's, and `more` files after it."""
    files = [HERE / "report.css", *(HERE / f"{name}.js" for name in SCRIPTS), *more]
    read = [(path.suffix, path.read_text(encoding="utf-8")) for path in files]
    style, script = ("\n".join(text for suffix, text in read if suffix == kind) for kind in (".css", ".js"))
    return style, script


def content_policy(style: str, script: str, widgets: list[Shot], media: str = "data:") -> str:
    """The content policy: nothing from elsewhere, no script but the page's and its widgets' own, known by hash."""
    inline = [code for shot in widgets for code in scripts(text(shot.path, [], shot.path.parent))]
    allowed = " ".join(map(digest, dict.fromkeys([script, *inline])))
    styles = "'unsafe-inline'" if widgets else digest(style)  # widgets inherit it and have styles in attributes
    shown = f"img-src {media}; frame-src {media}; style-src {styles}"
    return f"default-src 'none'; {shown}; script-src {allowed}; base-uri 'none'"


def headline(metrics: dict[str, Points]) -> list[tuple[str, str, str]]:
    """Name, best value, and when that was and what the last one is, of the metrics in `BEST`."""
    scores = []
    for name, best in BEST.items():
        points = [(value, epoch) for (_, epoch), value in metrics.get(name, {}).items() if math.isfinite(value)]
        if points:
            value, epoch = best(points, key=lambda point: point[0])
            when = "best" if epoch is None else f"best, epoch {epoch:g}"
            scores.append((name, f"{value:.4g}", f"{when}; last {points[-1][0]:.4g}" if len(points) > 1 else ""))
    return scores


def plots(metrics: dict[str, Points]) -> dict[str, list[dict[str, Any]]]:
    """Plots by group: training, where the stages share axes, then one group a plugin."""
    groups: dict[str, dict[str, dict[str, Points]]] = {}
    for name, points in metrics.items():
        prefix, _, rest = name.partition("/")
        group, title, curve = ("", rest, prefix) if prefix in STAGES else (prefix, rest, "") if rest else ("", name, "")
        if not name.endswith("/failed") or any(points.values()):
            groups.setdefault(group, {}).setdefault(title, {})[curve] = points
    ordered = sorted(groups.items())
    return {g: [_plot(t, of[t]) for t in sorted(of, key=lambda t: (t in COST, t))] for g, of in ordered}


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
