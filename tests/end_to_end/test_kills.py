"""SIGTERM, SIGINT and SIGKILL at random moments, while checkpoints are written, too: runs resume to the same end."""

import json
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from interp.lit.checkpoints.checkpoint import read_checkpoint
from interp.lit.run_folder.remains import about
from tests.conftest import identical
from tests.end_to_end.killed_run import EPOCHS, Shot, start, warm_up

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
BETWEEN, AT_WRITING, AT_CHECKPOINTS = 4, 3, 4  # shots of each signal
MEASURED = ("seconds", "share_of_epoch")  # scalars that no two runs share


def shots(events: list[str]) -> list[Shot]:
    """Each signal some time after random events of writing, at random ones, and at those of checkpoints; shuffled."""
    draw = random.Random(0)
    checkpoints = [n for n, name in enumerate(events, start=1) if "half" in name or name.endswith(".ckpt")]
    found = [Shot(s, draw.randrange(len(events)), draw.uniform(0, 0.5)) for s in SIGNALS for _ in range(BETWEEN)]
    found += [Shot(s, draw.randint(1, len(events))) for s in SIGNALS for _ in range(AT_WRITING)]
    found += [Shot(s, n) for s in SIGNALS for n in draw.sample(checkpoints, AT_CHECKPOINTS)]
    draw.shuffle(found)
    return found


def scalars(folder: Path) -> Counter:
    """How often metrics.jsonl holds each (epoch, name, value); of what is measured without the value."""
    found: Counter = Counter()
    path = folder / "results" / "metrics.jsonl"
    for row in map(json.loads, path.read_text().splitlines()):
        for name, value in row["metrics"].items():
            found[row["epoch"], name, None if name.endswith(MEASURED) else value] += 1
    return found


def half_written(folder: Path) -> Iterator[str]:
    """Files under their final name that cannot be read."""
    readers = {
        ".ckpt": read_checkpoint, ".safetensors": load_file, ".json": lambda path: json.loads(path.read_text()),
        ".png": lambda path: Image.open(path).load(),
        ".html": lambda path: path.name != "report.html" or re.search(r"</html>\s*$", path.read_text()).group(),
    }  # fmt: skip
    for path in folder.rglob("*.*"):
        if path.suffix in readers and not path.name.startswith("."):
            try:
                readers[path.suffix](path)
            except Exception as error:
                yield f"{path} is half-written: {error!r}"


def without_checkpoint(folder: Path, resumed: Path | None) -> Iterator[str]:
    """What has been trained and studied without a checkpoint that holds all but the last epoch of it."""
    known = [path for path in (folder, resumed) if path and (path / "checkpoints" / "last.ckpt").is_file()]
    kept = max((read_checkpoint(path / "checkpoints" / "last.ckpt")["epoch"] + 1 for path in known), default=0)
    studied = max((int(path.name[6:]) for path in folder.glob("results/*/epoch=*")), default=0)
    if studied > kept + 1:
        yield f"{folder}: epoch {studied} is studied, and the last checkpoint is of epoch {kept}"


def differences(folder: Path, reference: Path) -> Iterator[str]:
    """In what a run that was killed and resumed ended otherwise than the one that was not."""
    for name in ("last", "best"):
        ours, theirs = (read_checkpoint(path / "checkpoints" / f"{name}.ckpt") for path in (folder, reference))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            if not identical(ours[part], theirs[part]):
                yield f"{folder}: {part} of {name}.ckpt differs"
    if (ours := scalars(folder)) != (theirs := scalars(reference)):
        yield f"{folder}: scalars lost {theirs - ours}, doubled {ours - theirs}"
    kept = [
        sorted(p.relative_to(f / "results") for p in f.glob("results/*/epoch=*/[!.]*")) for f in (folder, reference)
    ]
    if kept[0] != kept[1]:
        yield f"{folder}: results {set(kept[0]) ^ set(kept[1])}"
    for path in (path for path in kept[0] if path.suffix in (".safetensors", ".png")):
        if (folder / "results" / path).read_bytes() != (reference / "results" / path).read_bytes():
            yield f"{folder}: {path} differs"
    page = (folder / "report.html").read_text()
    for epoch in range(EPOCHS + 1):
        if f'"epoch": {epoch},' not in page:
            yield f"{folder}: the report lacks epoch {epoch}"


def code(shot: Shot) -> set[int]:
    """The exit codes that tell the truth: before training begins, Python's own."""
    return {-shot.signal} if shot.signal == signal.SIGKILL else {128 + shot.signal, -shot.signal}


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_end(tmp_path):
    reference = tmp_path / "reference"
    warm_up()
    assert start(reference, None, None) == 0, reference.with_suffix(".txt").read_text()
    events = reference.with_suffix(".events").read_text().splitlines()
    waiting, lost, counts = shots(events), list[str](), Counter()
    folder, resumed, number = tmp_path / "0", None, 0
    while True:
        shot = waiting.pop() if waiting and number % 4 != 3 else None  # three shots, and then to the end
        ended = start(folder, resumed, shot)
        assert shot or not ended, folder.with_suffix(".txt").read_text()
        if ended:
            counts[shot.signal.name] += 1
            lost += [] if ended in code(shot) else [f"{folder}: exit code {ended} after {shot}"]
        if ended and about(folder).get("ended") != "finished":
            found = [*half_written(folder), *without_checkpoint(folder, resumed)]
            resumed = folder if (folder / "checkpoints" / "last.ckpt").is_file() else resumed
        else:
            counts["ended"] += 1
            waiting += [shot] if shot and resumed and not ended else []  # too late: it hits the next run, at its start
            found, resumed = [*half_written(folder), *differences(folder, reference)], None
        lost += [f"{problem} (after {shot})" for problem in found]
        print(folder.name, resumed and resumed.name, shot, ended, found, flush=True)
        if not waiting and not ended:
            break
        number += 1
        same = resumed is folder and number % 2  # every other time in the same folder
        folder = folder if same else tmp_path / str(number)
    print(f"killed: {dict(counts)}; lost: {len(lost)}")
    assert lost == [], "\n".join(lost)
    assert sum(counts[number.name] for number in SIGNALS) >= 30
