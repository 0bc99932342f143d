"""Calls that may fail without costing the run: to a logger, to a report, to a server."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.files import explained

log = logging.getLogger(__name__)


@dataclass
class Guard:
    """Makes calls for others and reports what they raise; with `once` the first failure alone.

    After `patience` failures in a row of one call, where that is given, no more calls are made. `folder` is where they
    write: of a full disk it is told how full. `note` takes what is raised, by the complaint, in place of the log.
    """

    once: bool = False
    patience: int | None = None
    folder: Path | None = None
    note: Callable[[str, Exception], object] | None = None
    in_a_row: Counter[str] = field(default_factory=Counter)  # by the complaint: others may work in between
    told: bool = False

    def attempt(self, complaint: str, call: Callable, *arguments: Any, **options: Any) -> Any:
        """What `call(*arguments, **options)` returns; None after a failure, of which `complaint` says what it was."""
        if self.patience and max(self.in_a_row.values(), default=0) >= self.patience:
            return None
        try:
            result = call(*arguments, **options)
        except Exception as error:
            (self.note or self._tell)(complaint, error)
            return None
        self.in_a_row[complaint] = 0
        return result

    def _tell(self, complaint: str, error: Exception) -> None:
        self.in_a_row[complaint] += 1
        if self.folder and isinstance(error, OSError):
            error = explained(error, self.folder)
        expected = isinstance(error, OSError) and str(error)  # a disk or a network: its message says it all
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        if not (self.told and self.once):
            self.told = True
            log.warning("%s: %s", complaint, reason, exc_info=None if expected else error)
        if self.in_a_row[complaint] == self.patience:
            log.warning("%s %d times in a row: nothing more is sent there (%s)", complaint, self.patience, reason)
