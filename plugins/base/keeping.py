"""A study whose results are kept on disk, drawn beside the training, and sent to the loggers."""

import logging
import math
import traceback
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten

from interp.lit.run_folder import failures
from interp.looks import look_folder, thin
from interp.processes.background import Background
from interp.result import Result
from plugins.base.sinks import show
from plugins.base.study import Study
from plugins.base.terminal import print_tables

log = logging.getLogger(__name__)
# One thread draws for all plugins: pictures never hold training up, and memory stays bounded by one look a plugin.
_drawing = Background("drawing")
PICTURES = 300.0  # seconds that a hanging picture or sink may hold the training up, at most


@dataclass(kw_only=True)
class KeptStudy(Study):
    """A study with a place for its results: `history`, the folder results/<plugin> of a run or of an analysis."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.outcomes: dict[int, str] = {}  # of each epoch's look, why it failed, '' where it did not
        self._pending: Future | None = None
        self._drawn: set[str] = set()  # names of the files of its pictures and widgets
        self._last_epoch: int | None = None  # of a look that was kept
        self._last: tuple[str, Result] | None = None  # by the name of its history

    def continued(self, result: Result, history: Path, epoch: int, earlier: Path | None = None) -> Result:
        """`result` following the last one before `epoch` that is kept, if there is one: in `history`, or `earlier`."""
        return result.continued(earlier or history, epoch)

    def keep(self, result: Result, history: Path, loggers: list, *, epoch: int, step: int) -> dict[str, float]:
        """Write the result and how the look went into `history` now; its scalars, those that can be logged.

        It is drawn, and its pictures are sent to the loggers, on the drawing thread. Named like the folder.
        """
        self.finish_drawing()
        name, folder = history.name, look_folder(history, epoch)
        self._last = name, result
        result.save(folder, plugin=name, epoch=epoch, step=step)
        self._pending = _drawing.submit(
            partial(show, result, folder, name, loggers, epoch=epoch, step=step, files=self._drawn)
        )
        scalars = self._finite(result.scalars(), name, epoch)
        self.note(history, epoch)
        return scalars

    def finish_drawing(self) -> None:
        """Wait for the pictures of the last look; what went wrong with them is reported, with the traceback.

        They have `PICTURES` seconds: `timeout` is for what holds the training up, and they are drawn beside it.
        """
        if self._pending is None:
            return
        error = _drawing.outcome(self._pending, PICTURES)
        self._pending = None  # not before: Ctrl-C may come while it waits, and the end of the run waits again
        if error and self._last:
            name = self._last[0]
            log.warning("plugin %s: its pictures could not be shown: %s%s", name, error, self.traceback(error))

    def _finite(self, scalars: dict[str, float], name: str, epoch: int) -> dict[str, float]:
        """The scalars that can be logged and monitored, and whether any could not."""
        bad = {key: value for key, value in scalars.items() if not math.isfinite(value)}
        self.outcomes[epoch] = ", ".join(f"{key} is {value}" for key, value in bad.items())
        if bad:
            log.warning("plugin %s at epoch %d: %s: not logged", name, epoch, self.outcomes[epoch])
        return {**{key: value for key, value in scalars.items() if key not in bad}, "failed": float(bool(bad))}

    def note(self, history: Path, epoch: int, error: Exception | None = None) -> None:
        """Keep beside the results, which are in the folder `history`, how the look at `epoch` went."""
        if error:
            self.outcomes[epoch] = f"{type(error).__name__}: {shorten(str(error), 200, placeholder=' ...')}"
        try:
            failures.keep(history.parent, history.name, epoch, self.outcomes[epoch])
        except OSError as problem:
            log.warning("plugin %s: %s cannot be written: %s", history.name, history.parent / failures.FILE, problem)

    def thin(self, history: Path, training: bool = False) -> None:
        """Leave `keep_looks` of the looks in the folder `history`; what goes wrong is reported."""
        try:
            if self.keep_looks is not None and self._last_epoch is not None:
                thin(history, self.name, self.keep_looks, self._last_epoch, self._drawn, training=training)
        except OSError as error:
            log.warning("plugin %s: old looks in %s could not be removed: %s", self.name, history, error)

    def summarize(self) -> None:
        """Print the tables of the last result, where this process made one; what goes wrong is reported."""
        if self._last is None:
            return
        name, result = self._last
        try:
            print_tables(result, name)
        except Exception as error:
            log.warning("plugin %s: its tables could not be printed: %r", name, error, exc_info=error)

    def traceback(self, error: BaseException) -> str:
        """Its traceback, after a line break, unless one of the same kind from the same place has been shown before."""
        cause = error
        while cause.__cause__:
            cause = cause.__cause__
        place = (type(cause), *[(at.filename, at.lineno) for at in traceback.extract_tb(cause.__traceback__)[-1:]])
        seen, self._told = place in self._told, self._told | {place}
        return "" if seen else "\n" + "".join(traceback.format_exception(error))
