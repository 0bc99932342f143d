"""The local report as a Lightning logger: scalars to results/metrics.jsonl, the run folder to one page."""

import json
import math
import platform
import subprocess
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from interp.files import replacing
from interp.lit.report_page import render


class Report(Logger):
    """Writes `report.html` into `save_dir`: figures with an epoch slider, scalars, configuration, environment.

    Everything on the page is read from the folder (results/, .hydra/), so a resumed run continues its report and a
    killed one keeps it. The page is written again at most every `every_n_seconds`, and at the end. What cannot be
    written is reported once and never stops the training.
    """

    def __init__(self, save_dir: str, title: str = "", every_n_seconds: float = 10.0) -> None:
        super().__init__()
        self._folder, self.title, self.every_n_seconds = Path(save_dir), title, every_n_seconds
        self._written, self._complained = -math.inf, False

    @property
    def name(self) -> str:
        """Lightning's name for it."""
        return "report"

    @property
    def version(self) -> str:
        """One report a run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._folder)

    @property
    @rank_zero_experiment
    def experiment(self) -> "Report":
        """The report itself."""
        return self

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The page shows .hydra/config.yaml; what is kept here is where the run took place."""
        self._try(self._write_environment)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line {"step", "epoch", "metrics"}; NaN and infinite values become null."""
        values = {name: float(value) for name, value in metrics.items()}
        epoch = values.pop("epoch", None)
        shown = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step, "epoch": epoch, "metrics": shown}, allow_nan=False)
        self._try(lambda: self._append(line))

    @rank_zero_only
    def save(self) -> None:
        """Write the page if the last time was long enough ago."""
        if time.monotonic() - self._written >= self.every_n_seconds:
            self._try(lambda: self._write("running"))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the page for good; `status` is Lightning's: success or failed."""
        self._try(lambda: self._write({"success": "finished"}.get(status, status)))

    def _append(self, line: str) -> None:
        path = self._folder / "results" / "metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0, 2)
            torn = file.tell() > 0 and (file.seek(-1, 2), file.read(1))[1] != b"\n"
            file.write(("\n" if torn else "").encode() + line.encode() + b"\n")

    def _write(self, status: str) -> None:
        self._written = time.monotonic()
        page = render(self._folder, self.title, status)
        with replacing(self._folder / "report.html") as path:
            path.write_text(page, encoding="utf-8")

    def _write_environment(self) -> None:
        with replacing(self._folder / "results" / "environment.json") as path:
            path.write_text(json.dumps(environment(), indent=1))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            if not self._complained:
                self._complained = True
                warnings.warn(f"the report in {self._folder} cannot be written: {error}", stacklevel=3)


def environment() -> dict[str, str]:
    """Where this runs: versions, device, machine, commit of the code."""
    import lightning
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    found = {"python": platform.python_version(), "torch": str(torch.__version__), "lightning": lightning.__version__}
    return {**found, "device": device, "system": platform.platform(), "commit": _commit()}


def _commit() -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
