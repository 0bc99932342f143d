"""Which process a job of a sweep runs in, and whether it is still there."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Number and machine of this process, and when it started: numbers are given again."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started(os.getpid())}


def is_here(process: dict[str, Any]) -> bool:
    """Whether the process, as `this_process` noted it, runs or ran on this machine."""
    pid = process.get("pid")  # of a file that may be anybody's: -1 would be all processes
    return isinstance(pid, int) and pid > 0 and process.get("host") == socket.gethostname()


def is_gone(process: dict[str, Any]) -> bool:
    """Whether the process is known to have ended; of one on another machine, or not noted, nothing is known."""
    if not is_here(process):
        return False
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return True
    except (OverflowError, PermissionError):
        return False
    return process.get("started") != started(process["pid"])


def started(pid: int) -> str | None:
    """Clock ticks between the start of the machine and that of a process; None where the system does not say."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None
