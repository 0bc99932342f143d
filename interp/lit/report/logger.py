"""The local report as a Lightning logger: scalars to results/metrics.jsonl, the run folder to one page."""

import json
import math
import os
import platform
import subprocess
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from interp.errors import UserError
from interp.files import replacing
from interp.lit.guard import Guard
from interp.lit.report.page import Embed, write

SHARE = 0.05  # of the training time that writing pages may take


class Report(Logger):
    """Writes `report.html` into `save_dir`: figures with an epoch slider, scalars, configuration, environment.

    Everything on the page is read from the folder (results/, .hydra/), so a resumed run continues its report and a
    killed one keeps it. While training goes on the page is written at most every `every_n_seconds`, at the end
    always. With `embed` it holds the pictures and can be passed on alone; without, it shows those in results/, which
    opens at once however many there are; "auto" takes the first way up to 25 MB. What cannot be written is reported
    once and never stops the training. Raises UserError for another `embed`.
    """

    def __init__(
        self, save_dir: str | Path, title: str = "", every_n_seconds: float = 10.0, embed: Embed = "auto"
    ) -> None:
        super().__init__()
        if embed not in (True, False, "auto"):
            raise UserError(f"logger.report.embed={embed}: choose true, false or auto")
        self.embed = embed
        self._folder, self.title, self.every_n_seconds = Path(save_dir), title, every_n_seconds
        self._next_page, self._environment_written = -math.inf, False
        attempt = Guard(once=True, folder=self._folder).attempt
        self._attempt = partial(attempt, f"the report in {save_dir} cannot be written")

    @property
    def name(self) -> str:
        """Empty, as is the version: what Lightning puts beside a logger's files belongs in the run's folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Empty: one report a run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._folder)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the page shows .hydra/config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line {"step", "epoch", "metrics"}; as JSON has none, NaN and infinity become "nan", "inf", "-inf".

        Python's `float` reads these strings, too.
        """
        if line := metrics_line(metrics, step):
            self._attempt(self._append, line)

    @rank_zero_only
    def save(self) -> None:
        """Write the page, if something is recorded and the last time is long enough ago."""
        if time.monotonic() >= self._next_page and (self._folder / "results").is_dir():
            self._attempt(self._write, "running")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the page for good; `status` is Lightning's, success or failed (an interrupted run is failed, too)."""
        self._attempt(self._write, "finished" if status == "success" else status)

    def _append(self, line: str) -> None:
        path = self._folder / "results" / "metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")  # a kill while writing: that line costs itself alone
            file.write(b"\n" * torn + line.encode() + b"\n")
        if not self._environment_written:  # now that this process has its device; asked earlier, it could not fork
            self._environment_written = True
            with replacing(path.with_name("environment.json")) as target:
                target.write_text(json.dumps(environment(), indent=1), encoding="utf-8")

    def _write(self, status: str) -> None:
        began = time.monotonic()
        try:
            write(self._folder, self.title, status, self.embed)
        finally:
            now = time.monotonic()
            self._next_page = now + max(self.every_n_seconds, (now - began) / SHARE)


def metrics_line(metrics: dict[str, float], step: int | None) -> str:
    """What metrics.jsonl holds of one call of `log_metrics`; nothing where it has nothing but the epoch."""
    values = {name: float(value) for name, value in metrics.items()}
    epoch = values.pop("epoch", None)
    shown = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
    whole = int(epoch) if epoch is not None and epoch.is_integer() else epoch
    return json.dumps({"step": step, "epoch": whole, "metrics": shown}, allow_nan=False) if shown else ""


def environment() -> dict[str, str]:
    """Where this runs: versions, device, machine, commit of the code."""
    import lightning
    import torch

    device = f"{platform.machine()}, {os.cpu_count()} CPU cores"
    if torch.cuda.is_initialized():  # else asking for its name would set CUDA up on a run that does not use it
        device = f"{torch.cuda.get_device_name()}; {device}"
    python, versions = platform.python_version(), {"torch": str(torch.__version__), "lightning": lightning.__version__}
    return {"python": python, **versions, "device": device, "platform": platform.platform(), "commit": _commit()}


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip() or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
