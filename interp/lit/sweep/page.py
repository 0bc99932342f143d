"""The page of a sweep from the job.json of its jobs: read them, lay out the table, fill sweep.html."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import strftime
from typing import Any

from interp.files import MOST, regular
from interp.lit.report.page import BESIDE, content_policy, own_code, template
from interp.lit.run_folder.files import DAMAGED, address
from interp.lit.sweep.job_process import is_gone

HERE = Path(__file__).parent
Cell = float | str | None
KILLED = "its process is gone: the sweep was killed"
FIRST = ("val/accuracy", "test/accuracy", "val/loss")  # beside the objectives, what the table shows unasked
STATUSES = ("finished", "running", "failed", "killed")


@dataclass
class Job:
    """One run of the sweep, of whatever its job.json says."""

    folder: str  # relative to the sweep's
    number: int = -1
    status: str = "unknown"
    error: str = ""
    seconds: float | None = None
    parameters: dict[str, Cell] = field(default_factory=dict)
    objectives: dict[str, float] = field(default_factory=dict)
    directions: tuple[str, ...] = ()  # of the objectives: maximize, minimize, or "" where none is optimised
    scalars: dict[str, float] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # report and log: addresses on the page
    process: dict[str, Any] = field(default_factory=dict)  # that it runs or ran in


def read_job(path: Path, sweep: Path) -> Job:
    """The job in the folder `path`, killed if its process is gone; a damaged job.json is a failed job that says so."""
    folder = path.relative_to(sweep).as_posix()
    logs = sorted(p.name for p in path.glob("*.log"))
    names = {"report": ["report.html"] if (path / "report.html").is_file() else [], "log": logs}
    files = {kind: address(f"{folder}/{present[0]}") for kind, present in names.items() if present}
    try:
        job = json.loads(regular(path / "job.json", MOST).read_text(encoding="utf-8"))
        objectives = {name: float(value) for name, (value, _) in job.get("objectives", {}).items()}
        status, error, process = str(job["status"]), str(job.get("error", "")), dict(job.get("process", {}))
        status, error = ("killed", KILLED) if status == "running" and is_gone(process) else (status, error)
        return Job(
            folder=folder,
            number=int(job["number"]),
            status=status,
            error=error,
            seconds=_seconds(job),
            parameters={key: cell(value) for key, value in job.get("parameters", {}).items()},
            objectives=objectives,
            directions=tuple(direction for _, direction in job.get("objectives", {}).values()),
            scalars={name: float(value) for name, value in job.get("scalars", {}).items()},
            figures=[_addressed(figure, folder) for figure in job.get("figures", [])],
            files=files,
            process=process,
        )
    except FileNotFoundError:
        return Job(folder, files=files)
    except DAMAGED as error:
        return Job(folder, status="failed", error=f"job.json is damaged ({type(error).__name__})", files=files)


def _seconds(about: dict[str, Any]) -> float | None:
    return None if about.get("seconds") is None else float(about["seconds"])


def _addressed(figure: dict[str, Any], folder: str) -> dict[str, Any]:
    shots = [
        (int(epoch), address(f"{folder}/{path}"), int(w), int(h), str(c)) for epoch, path, w, h, c in figure["shots"]
    ]
    if any(".." in Path(path).parts or Path(path).is_absolute() for _, path, *_ in figure["shots"]):
        raise ValueError("a figure that lies elsewhere")
    widget = figure.get("widget") is True
    return {"plugin": str(figure["plugin"]), "name": str(figure["name"]), "widget": widget, "shots": shots}


def cell(text: Any) -> Cell:
    """A number where the text is one.

    >>> cell("1e-3"), cell("resnet18"), cell("[1,2]")
    (0.001, 'resnet18', '[1,2]')
    """
    try:
        return float(text)
    except (TypeError, ValueError):
        return str(text)


def pareto(values: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Indices of the points that no other is at least as good as in everything and better in something.

    >>> pareto([(0.9, 3), (0.8, 9), (0.8, 4), (0.9, 3)], ("maximize", "maximize"))
    [0, 1, 3]
    """
    signs = [-1 if direction == "minimize" else 1 for direction in directions]
    points = [tuple(sign * value for sign, value in zip(signs, row, strict=True)) for row in values]

    def beaten(point: tuple[float, ...]) -> bool:
        return any(p != point and all(a >= b for a, b in zip(p, point, strict=True)) for p in points)

    return [index for index, point in enumerate(points) if not beaten(point)]


def front(jobs: list[Job]) -> list[Job]:
    """The jobs on the Pareto front, none where fewer than two objectives are optimised."""
    told = [job for job in jobs if len(job.objectives) > 1 and all(job.directions)]
    told = [job for job in told if all(map(math.isfinite, job.objectives.values()))]
    points = [tuple(job.objectives.values()) for job in told]
    return [told[index] for index in pareto(points, told[0].directions)] if told else []


def fixed(jobs: list[Job]) -> dict[str, Cell]:
    """The parameters that are the same in every job whose parameters are known."""
    told = [job.parameters for job in jobs if job.parameters]
    first = told[0] if told else {}
    return {name: value for name, value in first.items() if all(own.get(name) == value for own in told)}


def columns(jobs: list[Job]) -> list[dict[str, Any]]:
    """The table's columns: parameters that differ, objectives, scalars; `shown`: without being asked for."""
    named = {kind: list(dict.fromkeys(n for job in jobs for n in getattr(job, kind))) for kind in
             ("parameters", "objectives", "scalars")}  # fmt: skip
    same = fixed(jobs)
    differ = [name for name in named["parameters"] if name not in same]
    first = [name for name in FIRST if name in named["scalars"]]
    rest = [name for name in named["scalars"] if name not in (*first, *named["objectives"])]
    candidates: list[tuple[str, str, Sequence[Cell]]] = []
    candidates += [("parameter", name, [job.parameters.get(name) for job in jobs]) for name in differ]
    for name in (*named["objectives"], *(n for n in first if n not in named["objectives"]), *rest):
        cells = [job.objectives.get(name, job.scalars.get(name)) for job in jobs]
        candidates.append(("objective" if name in named["objectives"] else "scalar", name, cells))
    seconds = [job.seconds for job in jobs]
    candidates += [("scalar", "seconds", seconds)] if any(seconds) else []
    return [
        {"kind": kind, "name": name, "cells": list(map(_strict, cells)), "shown": kind != "scalar" or name in first}
        for kind, name, cells in candidates
    ]


def _strict(value: Cell) -> Cell:
    """As JSON takes it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def by_figure(jobs: list[Job]) -> dict[str, list[dict[str, Any]]]:
    """Per plugin its figures, each with the shots of every job that has it and all epochs at which any has."""
    groups: dict[str, dict[tuple[str, bool], dict[str, Any]]] = {}
    for index, job in enumerate(jobs):
        for of_job in job.figures:
            known = {key: of_job[key] for key in ("name", "widget")}
            figure = groups.setdefault(of_job["plugin"], {}).setdefault((*known.values(),), {**known, "jobs": []})
            figure["jobs"].append({"job": index, "shots": of_job["shots"]})
    for figure in (figure for group in groups.values() for figure in group.values()):
        figure["epochs"] = sorted({shot[0] for of_job in figure["jobs"] for shot in of_job["shots"]})
    return {plugin: list(figures.values()) for plugin, figures in sorted(groups.items())}


def parts(sweep: Path, jobs: list[Job]) -> Iterator[str]:
    """The page's text, piece by piece; pictures stay beside it, in the folders of the jobs."""
    style, script = own_code(HERE / "sweep.css", HERE / "sweep.js")
    best, studies, laid = front(jobs), by_figure(jobs), columns(jobs)
    charted = {
        "columns": laid, "jobs": [{"name": f"job {j.number}", "front": j in best, "status": j.status} for j in jobs],
        "figures": [figure for figures in studies.values() for figure in figures],
        "objectives": [{"name": name, "direction": best[0].directions[i]} for i, name in enumerate(best[0].objectives)]
        if best else [],
    }  # fmt: skip
    return template(HERE / "sweep.html").generate(
        title=sweep.name, date=strftime("%Y-%m-%d %H:%M"), headline=_headline(jobs), style=style, script=script,
        jobs=jobs, columns=laid, studies=studies, front=best, fixed=fixed(jobs), about=charted, figures=[], plots={},
        policy=content_policy(style, script, [], BESIDE),
    )  # fmt: skip


def _headline(jobs: list[Job]) -> list[tuple[str, str, str]]:
    counts = {status: sum(job.status == status for job in jobs) for status in STATUSES}
    shown = [("jobs", str(len(jobs)), "")]
    return shown + [(status, str(count), "") for status, count in counts.items() if count or status == "finished"]
