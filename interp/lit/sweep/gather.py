"""What a sweep leaves beside its runs: job.json in every job's folder, and sweep.html, which gathers them.

`python -m interp.lit.sweep FOLDER` writes both again from the files of the runs.
"""

import atexit
import logging
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from interp.errors import UserError
from interp.files import replacing
from interp.lit.safety.secrets import hide, hide_in_files, hide_in_logs, remember_configuration
from interp.lit.sweep.job_process import is_here, this_process
from interp.lit.sweep.jobs import LOST, found, job_folders, keep, lost
from interp.lit.sweep.page import Job, fixed, front, parts, read_job
from interp.lit.terminal import visible

log = logging.getLogger(__name__)
OURS = {"joblib": "joblib", "submitit_local": "submitit", "ray": "ray"}  # for launchers of Hydra, values of `sweep`
ENDED = "ended by SIGTERM or Ctrl-C"


class Gather(Callback):
    """Hydra's callback around the jobs of a sweep, in whatever process each runs; of single runs it keeps away.

    A job that raises is kept with its error and becomes a job without an objective, so that the rest goes on; the
    command then ends with code 1.
    """

    def __init__(self) -> None:
        self._began = time.time()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Say which launcher keeps a sweep going where the one that was chosen does not."""
        remember_configuration(config)
        launcher = config.hydra.runtime.choices["hydra/launcher"]
        if launcher in OURS:
            log.warning(
                "hydra/launcher=%s ends the sweep where one job's process is killed: take sweep=%s, which goes on",
                launcher,
                OURS[launcher],
            )

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Hide secrets in what Hydra wrote down; note that the job runs, and where: what stays so has been killed."""
        remember_configuration(config)
        hide_in_logs()
        folder = Path(config.hydra.runtime.output_dir)
        hide_in_files(*sorted((folder / str(config.hydra.get("output_subdir"))).glob("*.yaml")))
        if config.hydra.mode == RunMode.MULTIRUN:
            hide_in_files(Path(config.hydra.sweep.dir) / "multirun.yaml")
            self._began = time.time()
            keep(folder, number=config.hydra.job.num, status="running", process=this_process())
            atexit.register(left, folder, Path(config.hydra.sweep.dir))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Keep how the job ended and write the page."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        outcome: dict[str, Any] = {"status": "finished", "seconds": time.time() - self._began}
        if job_return.status is JobStatus.FAILED:
            outcome |= {"status": "failed", "error": _message(job_return._return_value)}
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None
        else:
            outcome["objectives"] = _objectives(config, job_return.return_value)
        folder = Path(config.hydra.runtime.output_dir)
        atexit.unregister(left)
        keep(folder, number=config.hydra.job.num, **outcome, **found(folder))
        _close_wandb(int(outcome["status"] == "failed"))
        write(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write the page for good, print the Pareto front; raises SystemExit where jobs failed."""
        folder = Path(config.hydra.sweep.dir)
        if next(job_folders(folder), None) is None:
            return  # it was refused before its first job
        hide_in_files(*sorted(folder.glob("*.yaml")))  # a sweeper's own, too
        for pickle in folder.glob(".submitit/*/*.pkl"):  # submitit's, of whole jobs with their configuration
            pickle.unlink()
        for path in job_folders(folder):
            job = read_job(path, folder)
            if job.status in ("running", "killed"):
                lost(path, job.error or LOST, "killed" if job.error else "failed")
        jobs = write(folder)
        for job in front(jobs):
            differing = {name: value for name, value in job.parameters.items() if name not in fixed(jobs)}
            log.info("Pareto front: job %s: %s (%s)", job.number, _list(job.objectives), _list(differing))
        failed = [job for job in jobs if job.status in ("failed", "killed")]
        log.info("Done: %d of %d jobs; all of them: %s", len(jobs) - len(failed), len(jobs), folder / "sweep.html")
        if failed:
            errors = "; ".join(f"job {job.number}: {job.error.splitlines()[0]}" for job in failed)
            raise SystemExit(visible(f"error: {len(failed)} of {len(jobs)} jobs failed. {errors}"))


def left(folder: Path, sweep: Path) -> None:
    """Keep of a job that its process leaves in the middle, for Ctrl-C or SIGTERM, what it had found; write the page."""
    lost(folder, ENDED, "killed")
    write(sweep)


def stop(folder: Path, signalled: set[int]) -> None:
    """Send SIGTERM to the jobs that run on this machine, once to each process (`signalled`); write the page."""
    for path in job_folders(folder):
        job = read_job(path, folder)
        if job.status == "running" and is_here(job.process) and job.process["pid"] not in signalled:
            signalled.add(job.process["pid"])
            with suppress(ProcessLookupError):
                os.kill(job.process["pid"], signal.SIGTERM)
    write(folder)


def write(folder: Path) -> list[Job]:
    """Write sweep.html into `folder`; the jobs on it, by number."""
    jobs = sorted((read_job(path, folder) for path in job_folders(folder)), key=lambda job: (job.number, job.folder))
    with replacing(folder / "sweep.html") as path, path.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(parts(folder, jobs))
    return jobs


def _message(error: Any) -> str:
    """Say in the job's log and on the terminal what went wrong; the same in one line or a few."""
    if isinstance(error, UserError):
        log.error("%s", error)
        return hide(str(error))
    log.error("%s", "".join(traceback.format_exception(error)))
    return hide(f"{type(error).__name__}: {error}")


def _objectives(config: DictConfig, values: Any) -> dict[str, list]:
    """Name: [value, direction]; the direction is "" where the sweeper optimises nothing."""
    named = config.get("objective")
    names = [named] if isinstance(named, str) else list(named or ())
    given = values if isinstance(values, tuple | list) else [values]
    direction = config.hydra.sweeper.get("direction") or ""
    directions = list(direction) if OmegaConf.is_list(direction) else [direction] * len(names)
    rows = zip(names, given, directions, strict=False)
    return {n: [v, getattr(d, "name", str(d))] for n, v, d in rows if v is not None}


def _list(pairs: dict[str, Any]) -> str:
    told = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in pairs.items()}
    return ", ".join(f"{name}={value}" for name, value in told.items())


def _close_wandb(exit_code: int) -> None:
    """End a run that a failed job has left open: the next job would log into it."""
    if "wandb" in sys.modules:
        from interp.lit.wandb.logger import close_wandb

        close_wandb(exit_code)


def main(arguments: list[str]) -> None:
    """Write job.json of every run under a folder, and the folder's sweep.html, again."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise SystemExit("give one folder: python -m interp.lit.sweep FOLDER")
    folder = Path(arguments[0]).absolute()
    for number, path in enumerate(job_folders(folder)):
        known: dict[str, Any] = {"number": number, "status": "unknown"} if not (path / "job.json").is_file() else {}
        if (job := read_job(path, folder)).status == "killed":
            known = {"status": job.status, "error": job.error}
        keep(path, **known, **found(path))
    print(visible(f"{len(write(folder))} jobs: {folder / 'sweep.html'}"))
