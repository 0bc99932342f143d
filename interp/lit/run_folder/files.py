"""What a run has left in its folder: figures with captions, scalars; damaged files are named in `notes`."""

import base64
import json
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from interp.files import MOST, inside, regular
from interp.looks import looks

DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, SyntaxError)
PICTURE_PIXELS = 80_000_000  # at most, below where Pillow warns
LINK = "is a link that leads out of the run's folder, and is not read"
Points = dict[tuple[float | None, float | None], float]  # (step, epoch) -> value, in the order of writing


def address(path: str) -> str:
    """A path as a page links to it, whatever bytes are in its names."""
    return quote(os.fsencode(path))


@dataclass(frozen=True)
class Shot:
    """A figure at one epoch."""

    epoch: int
    path: Path
    size: tuple[int, int]  # pixels across and down; (0, 0) of a widget
    caption: str
    scalars: list[tuple[str, str]]

    def address(self, page: Path) -> str:
        """Where a page in the folder `page` finds the file."""
        return address(self.path.relative_to(page).as_posix())

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

    def index(self, beside: Path | None = None) -> list[dict[str, Any]]:
        """All but the content of each epoch, for the page's script; with its address for a page `beside` it."""
        known = [{key: value for key, value in vars(shot).items() if key != "path"} for shot in self.shots]
        if beside:
            known = [k | {"src": shot.address(beside)} for k, shot in zip(known, self.shots, strict=True)]
        return known


def content(path: Path, notes: list[str], run: Path) -> bytes:
    """What the file holds; nothing where there is none, or where it is a link that leads out of the run's folder."""
    try:
        if not inside(path, run):
            raise OSError(0, LINK)
        return regular(path, MOST).read_bytes()
    except OSError as error:
        notes += [] if isinstance(error, FileNotFoundError) else [f"{path.name} cannot be read: {error.strerror}"]
        return b""


def text(path: Path, notes: list[str], run: Path) -> str:
    """The same of a text; what is not UTF-8 becomes a question mark in a box."""
    return content(path, notes, run).decode(errors="replace")


def json_object(path: Path, notes: list[str], run: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none or it is no object."""
    try:
        return dict(json.loads(text(path, notes, run) or "{}", parse_int=float).items())
    except DAMAGED as error:
        notes.append(f"{'/'.join(path.parts[-3:])} is damaged ({type(error).__name__})")
        return {}


def read_figures(run: Path, notes: list[str], metrics: dict[str, Points]) -> list[Figure]:
    """Pictures and widgets of results/<plugin>/epoch=NNNN/, by plugin and name; the scalars there go to `metrics`."""
    figures: dict[tuple[str, bool, str], Figure] = {}
    folders = (look for study in run.glob("results/*") for look in looks(study))
    for epoch, folder in sorted(folders):
        for shot in _shots(run, folder, epoch, notes, metrics):
            key = folder.parent.name, shot.path.suffix == ".html", shot.path.stem
            figures.setdefault(key, Figure(key[0], key[2], widget=key[1])).shots.append(shot)
    return [figures[key] for key in sorted(figures)]


def _shots(run: Path, folder: Path, epoch: int, notes: list[str], metrics: dict[str, Points]) -> Iterator[Shot]:
    result, plugin = json_object(folder / "result.json", notes, run), folder.parent.name
    scalars, captions = (dict(v) if isinstance(v := result.get(k), dict) else {} for k in ("scalars", "captions"))
    scalars = {name: value for name, value in scalars.items() if isinstance(value, float)}
    _keep(metrics, {f"{plugin}/{name}": value for name, value in scalars.items()}, result.get("step"), epoch)
    formatted = [(name, f"{value:.4g}") for name, value in scalars.items()]
    for path in sorted(folder.glob("[!.]*.png")) + sorted(folder.glob("[!.]*.html")):
        try:
            if not inside(path, run):
                raise ValueError(LINK)
            yield Shot(epoch, path, _size(regular(path, MOST)), str(captions.get(path.stem, "")), formatted)
        except DAMAGED as error:
            odd = error.strerror if isinstance(error, OSError) else LINK if str(error) == LINK else None
            why = odd or f"is damaged ({type(error).__name__})"
            notes.append(f"{'/'.join(path.parts[-3:])} {why}")


def _size(path: Path) -> tuple[int, int]:
    """Pixels across and down; raises OSError, SyntaxError or ValueError where the PNG is not whole or far too large."""
    if path.suffix == ".html":
        return 0, 0
    from PIL import Image

    with path.open("rb") as file:
        size = struct.unpack(">II", file.read(24)[16:].ljust(8, b"\0"))
    if math.prod(size) > PICTURE_PIXELS:  # asked before it is opened, since Pillow but warns of images up to twice that
        raise ValueError(f"{size[0]} x {size[1]} pixels")
    with Image.open(path, formats=("PNG",)) as image:
        image.verify()
        return image.size


def read_metrics(path: Path, notes: list[str]) -> dict[str, Points]:
    """Each metric's values in the order of writing; of a step written twice, as after a resume, the last."""
    metrics: dict[str, Points] = {}
    for row in rows(path, notes, path.parents[1]):
        _keep(metrics, row["metrics"], row["step"], row["epoch"])
    return metrics


def rows(path: Path, notes: list[str], run: Path) -> Iterator[dict[str, Any]]:
    """The rows of metrics.jsonl: "step" and "epoch", numbers or None, and "metrics", numbers or texts such as "nan".

    A line that is anything else, as a kill while it was written leaves it, is named in `notes`.
    """
    for number, line in enumerate(content(path, notes, run).split(b"\n"), start=1):
        try:
            if line:
                yield _row(json.loads(line.decode()))
        except DAMAGED:
            notes.append(f"line {number} of {path.name} is damaged")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """The three entries of a row; raises ValueError, TypeError, KeyError or OverflowError where they are no numbers."""
    if not all(row[key] is None or isinstance(row[key], int | float) for key in ("step", "epoch")):
        raise ValueError("step and epoch must be numbers")
    for value in (row["step"], row["epoch"], *row["metrics"].values()):
        float(value or 0)
    return {key: row[key] for key in ("step", "epoch", "metrics")}


def _keep(metrics: dict[str, Points], values: dict[str, Any], step: float | None, epoch: float | None) -> None:
    step, epoch = (float(x) if isinstance(x, int | float) and math.isfinite(x) else None for x in (step, epoch))
    for name, value in values.items():
        points = metrics.setdefault(name, {})
        points.pop((step, epoch), None)  # so that a value written again also counts as the last one
        points[step, epoch] = math.nan if value is None else float(value)
