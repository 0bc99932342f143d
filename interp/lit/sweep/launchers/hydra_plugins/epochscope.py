"""Launchers that keep every job on its own: a process that dies costs its job, not the sweep; with it all jobs end.

Hydra's own launchers for joblib and Ray end the sweep when a worker is killed; the one for submitit stops waiting for
the other jobs then, and starts all jobs at once. conf/hydra/launcher/ names these. Hydra takes launchers from packages
called `hydra_plugins` alone.
"""

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, ClassVar

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from interp.errors import UserError
from interp.lit.sweep.worker import composed, run_one

log = logging.getLogger(__name__)
GONE = ("TerminatedWorkerError", "UncompletedJobError", "WorkerCrashedError")  # joblib's, submitit's, Ray's word for it


@contextmanager
def stopping(launcher: "OnItsOwn", futures: Sequence[Future] = ()) -> Iterator[None]:
    """Let what ends the block, Ctrl-C or SIGTERM, end the launcher's jobs as well; waits for their `futures`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        from interp.lit.sweep.gather import stop

        launcher.ended = True
        sweep, processes = Path(str(launcher.config.hydra.sweep.dir)), set[int]()  # those that have been told
        stop(sweep, processes)
        while not all(future.done() for future in futures):  # jobs that have only begun are told when they run
            time.sleep(1)
            stop(sweep, processes)
        stop(sweep, processes)
        raise


class OnItsOwn(Launcher):
    """Jobs that `launch_all` runs, each by `run`; what that raises fails the one job."""

    needs: ClassVar[tuple[str, str]]  # a module, and what installs it
    ended = False  # what ends the sweep has come

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take over what Hydra gives every launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a job for each list of overrides; numbered from `initial_job_idx`, in that order.

        Raises UserError where the launcher's package is not installed.
        """
        module, install = self.needs
        if find_spec(module) is None:
            raise UserError(f"{module.rpartition('.')[2]} is not installed, which this sweep needs: {install}")
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        return self.launch_all(dict(enumerate(job_overrides, start=initial_job_idx)))

    @abstractmethod
    def launch_all(self, jobs: dict[int, Sequence[str]]) -> list[JobReturn]:
        """Run the jobs, overrides by number, and wait for all."""

    def given(self) -> tuple[HydraContext, DictConfig, TaskFunction, Any]:
        """What `run_one` needs beside the job's own overrides and number."""
        return self.hydra_context, self.config, self.task_function, Singleton.get_state()

    @abstractmethod
    def run(self, overrides: Sequence[str], number: int) -> JobReturn:
        """Run one job in another process and wait for it."""

    def survive(self, overrides: Sequence[str], number: int) -> JobReturn:
        """Run one job; where its process dies, say so in its row."""
        log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        try:
            return self.run(overrides, number)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if not isinstance(error, Exception) and current_thread() is main_thread():
                raise  # it is not the job's, but has come to the sweep
            from interp.lit.sweep.gather import ENDED
            from interp.lit.sweep.jobs import LOST, lost

            kind = type(error).__name__
            by_signal = not isinstance(error, Exception) or (self.ended and kind in GONE)
            reason = ENDED if by_signal else LOST if kind in GONE else f"{kind}: {error}"
            log.error("job %d: %s", number, reason, exc_info=None if by_signal or kind in GONE else error)
            lost(self._folder(overrides, number), reason, "killed" if by_signal else "failed", number=number)
            job = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
            job.return_value = None  # no objective
            return job

    def _folder(self, overrides: Sequence[str], number: int) -> Path:
        config = composed(self.hydra_context, self.config, overrides, number)
        return Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)


class SoManyAtATime(OnItsOwn):
    """`n_jobs` at a time (-1: as many as there are CPU cores), each waited for by a thread."""

    def __init__(self, n_jobs: int = -1) -> None:
        self.workers = n_jobs if n_jobs > 0 else os.cpu_count() or 1

    def launch_all(self, jobs: dict[int, Sequence[str]]) -> list[JobReturn]:
        """Run the jobs, overrides by number, and wait for all."""
        log.info("Launching %d jobs, %d at a time", len(jobs), self.workers)
        threads = ThreadPoolExecutor(self.workers)
        futures = [threads.submit(self.survive, overrides, number) for number, overrides in jobs.items()]
        with stopping(self, futures):
            try:
                return [future.result() for future in futures]
            finally:
                threads.shutdown(wait=False, cancel_futures=True)


class JoblibLauncher(SoManyAtATime):
    """Jobs in joblib's worker processes, which are used again for the next job while they live."""

    needs = ("joblib", "pip install joblib")

    def __init__(self, n_jobs: int = -1) -> None:
        super().__init__(n_jobs)
        self._idle: list[Any] = []

    def run(self, overrides: Sequence[str], number: int) -> JobReturn:
        from joblib.externals.loky import ProcessPoolExecutor

        # One pool a worker: a pool of several breaks as a whole.
        worker = self._idle.pop() if self._idle else ProcessPoolExecutor(max_workers=1)
        done = worker.submit(run_one, *self.given(), overrides, number).result()
        self._idle.append(worker)
        return done


class SubmititLauncher(SoManyAtATime):
    """Jobs by submitit's local executor, each in a process of its own, as many as the CPU cores have room for."""

    needs = ("hydra_plugins.hydra_submitit_launcher", "pip install -e '.[sweep]'")

    def __init__(self, cpus_per_task: int | None = None, **settings: Any) -> None:
        super().__init__(max(1, (os.cpu_count() or 1) // (cpus_per_task or 1)))
        self.settings = {"cpus_per_task": cpus_per_task, **settings}

    def run(self, overrides: Sequence[str], number: int) -> JobReturn:
        from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher

        launcher = LocalLauncher(**self.settings)
        launcher.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=self.config)
        return launcher.launch([overrides], number)[0]


class RayLauncher(OnItsOwn):
    """Jobs as tasks of Ray, which is told of all of them at once and decides when and where each runs."""

    needs = ("ray", "pip install ray")

    def __init__(self, ray: DictConfig) -> None:
        settings: Any = OmegaConf.to_container(ray, resolve=True)
        self.settings, self._tasks = settings, dict[int, Any]()

    def launch_all(self, jobs: dict[int, Sequence[str]]) -> list[JobReturn]:
        """Start Ray or connect to its cluster, hand over the jobs and wait for one after another."""
        import ray

        if not ray.is_initialized():
            ray.init(**self.settings["init"])
        task = ray.remote(**self.settings["remote"])(run_one) if self.settings["remote"] else ray.remote(run_one)
        log.info("Launching %d jobs on Ray", len(jobs))
        for number, overrides in jobs.items():
            self._tasks[number] = task.remote(*self.given(), overrides, number)
        with stopping(self):
            return [self.survive(overrides, number) for number, overrides in jobs.items()]

    def run(self, overrides: Sequence[str], number: int) -> JobReturn:
        import ray

        return ray.get(self._tasks.pop(number))
