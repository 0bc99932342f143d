"""The end of a W&B run: no wait without a limit, and what did not arrive is told with the command that sends it."""

import json
import logging
import math
import re
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from interp.processes.background import Background

log = logging.getLogger(__name__)
END_SECONDS = 120.0  # that the end of a run may take while a server answers, besides the time for its files
RATE = 250e3  # bytes a second that a slow line sends
UNHEARD = 30.0  # seconds that it may take while no server answers
SEND = "wandb sync --no-skip-online"
PROBE = 5.0  # seconds until the server is asked again, and that it may take to answer
# What a line of W&B's own log says was given up; what it tries again is no error there.
GIVEN_UP = {"rows": "filestream", "settings": "runupserter", "artifacts": "artifact", "files": "[Uu]pload|runfiles"}
REASON = re.compile(r"\b[45]\d\d\b(?: [A-Z]\w+)*|connection refused|connection reset|no such host|[Tt]imeout|EOF")


def exit_code_of(error: BaseException | None) -> int | None:
    """What the process ends with for an exception: 130 for Ctrl-C, 1 for any other; None where there is none."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return None if error is None else 130 if isinstance(error, KeyboardInterrupt) else 1


def end(run: Any, exit_code: int | None, line: Background) -> str:
    """End the run when `line` has done what it holds; where the run was kept or shown.

    A warning tells what did not arrive. Waits for half a minute while no server answers and after a signal, else for
    two minutes and as long as a slow line takes for the files of the run; Ctrl-C ends the wait.
    """
    settings, offline, url = run.settings, run.offline, run.url
    folder, wrong = shlex.quote(str(settings.sync_dir)), ""
    done = line.submit(run.finish, exit_code)
    try:
        wait_patiently(done, settings, offline, hurried=(exit_code or 0) > 128)
    except KeyboardInterrupt:
        wrong = "interrupted"
    if done.done() and (error := done.exception()):
        wrong = f"{type(error).__name__}: {error}"
    elif not done.done():
        wrong = wrong or "not done in time"
    if wrong:
        give_up(done, line)
    if offline:
        if wrong:
            log.warning("W&B: not everything is kept in %s (%s)", folder, wrong)
        return f"offline, upload with `wandb sync {' '.join(map(shlex.quote, unsent(Path(settings.sync_dir))))}`"
    if lost := missing(Path(settings.log_internal), wrong):
        log.warning("W&B: not everything arrived (%s); send it later with: %s %s", lost, SEND, folder)
    return f"{url}, incomplete" if lost else str(url)


def wait_patiently(done: Future, settings: Any, offline: bool, hurried: bool) -> None:
    """Wait for the end of a run, as long as there is hope; `hurried`, as little as without a server."""
    began, announced = time.monotonic(), False
    while not wait([done], PROBE).done:
        limit = min(patience(settings, offline), UNHEARD if hurried else math.inf)
        if (left := began + limit - time.monotonic()) <= 0:
            return
        if not announced:
            log.info("W&B is still being sent to, for at most %.0f seconds: Ctrl-C leaves it", left)
        announced = True


def patience(settings: Any, offline: bool) -> float:
    """Seconds that the end of a run may take, as things stand."""
    if settings.finish_timeout:  # W&B's own limit, which it does not always keep
        return settings.finish_timeout + PROBE
    if offline or not answers(settings.base_url):
        return END_SECONDS if offline else UNHEARD
    size = 0
    for name in ("checkpoints", "results", "wandb"):
        for path in Path(settings.root_dir, name).rglob("*"):
            with suppress(OSError):  # a temporary file that is gone
                size += path.stat().st_size
    return END_SECONDS + size / RATE


def answers(url: str) -> bool:
    """Whether a server answers at `url` in time, if with an error."""
    try:
        urlopen(url, timeout=PROBE).close()
    except HTTPError:
        return True
    except (OSError, HTTPException):
        return False
    return True


def give_up(done: Future, line: Background) -> None:
    """End W&B's own process, for which the end of this one would wait; the next run starts another."""
    import wandb

    service = None if wandb.run is None else wandb.setup().ensure_service()
    process = getattr(getattr(service, "_proc", None), "_process", None)
    if process is not None:  # else somebody else's: nothing waits for it
        process.kill()
        line.outcome(done, PROBE)
        line.outcome(line.submit(wandb.teardown), PROBE)  # it would say goodbye to the process
    wandb.run = None  # where `finish` did not come to it


def unsent(folder: Path) -> list[str]:
    """The run kept offline in `folder`, and those before it of a training that was resumed there."""
    kept = {folder, *folder.parent.glob("offline-run-*")}
    return sorted(str(path) for path in kept if not list(path.glob("*.synced")))


def missing(path: Path, wrong: str) -> str:
    """What of a run W&B has given up, and why, from its own log at `path` and from what went wrong at its end.

    Empty where all has arrived.
    """
    kinds, reasons = dict[str, None](), list[str]()
    for record in records(path):
        text = " ".join(str(record.get(key, "")) for key in ("msg", "error", "status"))
        kind = next((kind for kind, sign in GIVEN_UP.items() if re.search(sign, f"{text} {record.get('task')}")), None)
        if str(record.get("level")).startswith("ERROR") and kind:
            kinds[kind] = None
        if kind or "retrying" in text:
            reasons += REASON.findall(re.sub(r"\w+://\S+", "", text))
    if not kinds and not wrong:
        return ""
    reason = reasons[-1].lower() if reasons else wrong or "see its log"
    return f"{', '.join(kinds)}{': ' if kinds else ''}{'HTTP ' if reason[0].isdigit() else ''}{reason}"


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of W&B's log that can be read; none where it has written no log."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        with suppress(ValueError):  # the last one of a process that was ended
            yield dict(json.loads(line))
