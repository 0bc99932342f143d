"""W&B as the harness wants it: never asks, never hangs, never holds a training up."""

import atexit
import logging
import netrc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf

from interp.lit.safety.secrets import hidden, hidden_arguments, hide_in_streams
from interp.lit.wandb.end import end, exit_code_of
from interp.processes.background import Background

log = logging.getLogger(__name__)


LINE = Background("W&B")  # makes its calls, in their order: what hangs there holds nothing else up


class Wandb(WandbLogger):
    """Lightning's W&B logger with the epoch as the axis of everything, and no secrets in what it sends."""

    artifacts: bool | None = None  # whether the run's files are kept as artifacts; None: when online

    @property
    def mode(self) -> str:
        """Online, offline, disabled or shared."""
        return str(self._wandb_init["mode"])

    @property
    def experiment(self) -> Any:
        """The W&B run; it begins when it is first asked for."""
        if self._experiment is not None:
            return self._experiment
        with hidden_arguments():
            run = super().experiment
        hide_in_streams(again=True)
        if self._experiment is None:  # which is Lightning's stand-in, where this is not the first process
            return run
        run.define_metric("*", step_metric="epoch", step_sync=True, overwrite=True)  # over Lightning's, the batch
        atexit.register(close_wandb)  # before W&B's own, which has no limit
        if self.mode == "online":
            record_artifacts(run)
        return run

    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration, a dictionary, its secrets hidden."""
        super().log_hyperparams(hidden(params))

    def later(self, call: Callable, *arguments: Any, **options: Any) -> None:
        """Make a call that sends something to the run when those before it are done; `close_wandb` waits for all."""
        _ = self.experiment  # which begins on this thread: it shows the process other arguments meanwhile
        LINE.submit(call, *arguments, **options)


def record_artifacts(run: Any) -> None:
    """Have an online run write artifacts, and the tables that are some, into its file, as an offline one does.

    W&B would ask the server about each first, for 19 seconds where none answers, and `wandb sync` could not send them.
    """

    def log_artifact(artifact: Any, name: Any = None, type: Any = None, aliases: Any = None, **options: Any) -> Any:
        prepared, aliases = run._prepare_artifact(artifact, name, type, aliases)
        prepared.distributed_id = options.pop("distributed_id", None)
        run._interface.publish_artifact(run, prepared, aliases, **options)
        return prepared

    run._log_artifact = log_artifact


def wandb(save_dir: str, artifacts: bool | None = None, job_type: str | None = None, **options: Any) -> Wandb:
    """A W&B logger that is online where there is a login (and `WANDB_MODE` does not say otherwise), else offline.

    Everything it writes lies in `save_dir`/wandb. Offline it makes no network attempt. A server that does not answer
    within 20 seconds costs a warning, not the run. `job_type` is that of the command unless given; `artifacts` is for
    `interp.lit.wandb.artifacts`; `options` go to `wandb.init`, `mode` and Lightning's `offline` included, without
    secrets but those in `settings`, which need them.
    """
    _keep_inside(Path(save_dir) / "wandb")
    nodes = {key: value for key, value in options.items() if OmegaConf.is_config(value)}  # which W&B does not take
    options |= {key: OmegaConf.to_container(node, resolve=True) for key, node in nodes.items()}
    options = {name: value if name == "settings" else hidden(value) for name, value in options.items()}
    options["job_type"] = job_type or command()
    asked = "offline" if options.pop("offline", False) else os.environ.get("WANDB_MODE")
    mode = str(options.pop("mode", None) or asked or ("online" if logged_in() else "offline"))
    logger = _logger(save_dir, mode, artifacts, options)
    if mode != "online":
        return logger
    try:
        _ = logger.experiment
    except Exception as error:
        reason = " ".join(str(error).split())
        log.warning("W&B cannot be reached (%s): this run is kept offline in %s/wandb", reason, save_dir)
        return _logger(save_dir, "offline", artifacts, options)
    return logger


def _logger(save_dir: str, mode: str, artifacts: bool | None, options: dict[str, Any]) -> Wandb:
    # As an argument: W&B reads the environment once a process, and Lightning's `offline` writes to it.
    logger = Wandb(save_dir=save_dir, mode=mode, **options)
    logger.artifacts = artifacts
    logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B warns that it has no effect
    return logger


def command() -> str:
    """What runs: train, analyze, or, for one job of a sweep of Hydra's or W&B's, sweep."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if os.environ.get("WANDB_SWEEP_ID") or (hydra and hydra.mode == RunMode.MULTIRUN):
        return "sweep"
    return str(hydra.job.config_name) if hydra else "train"


def logged_in() -> bool:
    """Whether there is a W&B key in the environment or in the netrc file; asks no server and no user."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    try:
        return bool(netrc.netrc(os.environ.get("NETRC")).authenticators(host))
    except (OSError, netrc.NetrcParseError):
        return False


def _keep_inside(folder: Path) -> None:
    """Point all that W&B writes into `folder`; in a multirun each job has its own."""
    os.environ |= {f"WANDB_{kind}_DIR": str(folder / f".{kind.lower()}") for kind in ("DATA", "CACHE", "CONFIG")}
    os.environ["WANDB_ARTIFACT_DIR"] = str(folder / ".artifacts")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # crash reports are a network attempt even offline
    os.environ.setdefault("WANDB_INIT_TIMEOUT", "20")  # seconds
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")  # seconds of records that a kill can cost
    for kind in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):  # a server that is back is noticed soon, after an hour too
        os.environ.setdefault(f"WANDB_X_{kind}_RETRY_WAIT_MAX_SECONDS", "10")
        os.environ.setdefault(f"WANDB_X_{kind}_RETRY_MAX", "720")


def close_wandb(exit_code: int | None = None) -> str | None:
    """End the W&B run of this process, so that the next job starts its own; where it was kept or shown, if any.

    W&B is told how it went: the exit code of the exception that is under way, else the given one. What did not arrive
    is reported with the command that sends it later.
    """
    module = sys.modules.get("wandb")
    if module is None or module.run is None:
        return None
    atexit.unregister(close_wandb)
    return end(module.run, exit_code_of(sys.exception()) or exit_code, LINE)
