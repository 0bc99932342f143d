"""What an earlier run has left in a folder: what it is, and moving it aside. Imports nothing heavy."""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.looks import looks

log = logging.getLogger(__name__)
FILE = ".run.json"  # whose a folder is, see interp.lit.run_folder.claim
# What a run leaves in its folder beside results/, .hydra/ and its log; and in results/ beside the studies.
PARTS = ("checkpoints", "report.html", "csv", "tensorboard", "wandb")
ROWS = ("results/metrics.jsonl", "results/environment.json", "results/failures.json")


def about(folder: Path) -> dict[str, Any]:
    """What is written down about the last run in a folder; nothing of older runs, or where it cannot be read."""
    try:
        path = folder / FILE
        known = json.loads(path.read_text()) if path.is_file() else {}
    except (OSError, ValueError):  # torn by a kill
        return {}
    return known if isinstance(known, dict) else {}


def holds(folder: Path, known: dict[str, Any] | None = None) -> str:
    """What stands in a folder: a `run` or `sweep`, what is `left` of a run without a checkpoint, or "" for neither.

    `known` is what was written down about it, where that has been written over since.
    """
    if any(folder.glob("checkpoints/*.ckpt")):
        return "run"
    if any((folder / name).is_file() for name in ("sweep.html", "multirun.yaml")):
        return "sweep"
    if not any(results(folder)):
        return ""
    return "left" if (about(folder) if known is None else known).get("ended") in ("", "failed") else "run"


def results(folder: Path) -> Iterator[Path]:
    """The results of a run, by study, and its rows; what a person has put beside them is left out."""
    yield from (folder / row for row in ROWS if (folder / row).is_file())
    yield from (study for study in folder.glob("results/*") if looks(study))


def refuse(folder: Path, resumable: bool, known: dict[str, Any] | None = None) -> None:
    """Raise UserError, with what to do, where `folder` `holds` another run or sweep; `resumable`: train.py asks."""
    if (kind := holds(folder, known)) in ("run", "sweep"):
        on = resumable and any(folder.glob("checkpoints/*.ckpt"))
        resume = f"to go on with it give checkpoint={folder} as well, else " if on else ""
        raise UserError(f"output={folder} holds another {kind}: {resume}choose another output=FOLDER")


def set_aside(folder: Path, paths: Iterable[Path]) -> None:
    """Move `paths` within `folder`, which an earlier run has left, to `earlier/<number>` in it, and say so."""
    paths = [path for path in paths if path.exists()]
    if not paths:
        return
    numbers = (folder / "earlier" / str(number) for number in range(1, 10**6))
    place = next(path for path in numbers if not path.exists())
    for path in paths:
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    log.warning("what an earlier run has left in %s now lies in %s", folder, place)


def half_written(folder: Path) -> Iterator[Path]:
    """Files that killed processes had not finished, see interp.files.replacing."""
    places = [folder, folder / "checkpoints", folder / ".hydra"]
    if not (folder / "results").is_symlink():
        places += [Path(place) for place, *_ in os.walk(folder / "results")]
    for place in places:
        yield from (path for path in place.glob(".*.part") if re.fullmatch(r"\..+\.[0-9]+\.part", path.name))
