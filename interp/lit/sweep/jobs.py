"""The folders of a sweep's jobs: what each keeps of itself in job.json, read off the files of its run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from interp.errors import UserError
from interp.files import MOST, regular, replacing
from interp.lit.run_folder.files import DAMAGED, read_figures, read_metrics
from interp.lit.safety.yaml_file import read_yaml

LOST = "its process ended without a word: killed, or out of memory"


def keep(folder: Path, **about: Any) -> None:
    """Write `about`, over what job.json in `folder` says already. Raises OSError."""
    path = folder / "job.json"
    try:
        known = dict(json.loads(regular(path, MOST).read_text(encoding="utf-8")).items())
    except DAMAGED:  # or not there yet
        known = {}
    with replacing(path) as target:
        target.write_text(json.dumps(known | about, indent=1), encoding="utf-8")


def lost(folder: Path, error: str = LOST, status: str = "failed", **about: Any) -> None:
    """Keep of a job whose process has gone what it had found until then."""
    keep(folder, status=status, error=error, **about, **found(folder))


def found(folder: Path) -> dict[str, Any]:
    """Parameters, the last value of every scalar and the figures of a run, from its files alone."""
    notes, metrics = list[str](), dict[str, dict]()
    figures = [
        {
            "plugin": figure.plugin,
            "name": figure.name,
            "widget": figure.widget,
            "shots": [[s.epoch, s.path.relative_to(folder).as_posix(), *s.size, s.caption] for s in figure.shots],
        }
        for figure in read_figures(folder, notes, metrics)
    ]
    metrics |= read_metrics(folder / "results" / "metrics.jsonl", notes)
    scalars = {name: list(points.values())[-1] for name, points in sorted(metrics.items()) if points}
    try:
        given = OmegaConf.to_container(read_yaml(folder / ".hydra" / "overrides.yaml"))
    except UserError:  # not there, or damaged: a row without parameters
        given = []
    pairs = [str(override).partition("=") for override in given] if isinstance(given, list) else []
    finite = {name: value if abs(value) < float("inf") else str(value) for name, value in scalars.items()}
    return {"parameters": {key.lstrip("+~"): value for key, _, value in pairs}, "scalars": finite, "figures": figures}


def job_folders(folder: Path) -> Iterator[Path]:
    """The folders of the jobs under `folder`, however deep `hydra.sweep.subdir` puts them."""
    inner = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    for path in sorted(path for path in inner if not path.name.startswith(".")):
        if (path / "job.json").is_file() or (path / ".hydra").is_dir():
            yield path
        else:
            yield from job_folders(path)
