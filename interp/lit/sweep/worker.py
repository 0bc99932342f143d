"""One job of a sweep, in whatever process a launcher has for it."""

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


def composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    """The configuration of one job: that of the sweep with the job's `overrides` and `number`."""
    job = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = f"{job.hydra.job.name}_{number}"
        job.hydra.job.num = number
    return job


def run_one(
    context: HydraContext, config: DictConfig, task: TaskFunction, state: Any, overrides: Sequence[str], number: int
) -> JobReturn:
    """Run one job here; `state` is Hydra's (`Singleton.get_state`) in the process that sends the job."""
    setup_globals()
    Singleton.set_state(state)
    job = composed(context, config, overrides, number)
    HydraConfig.instance().set_config(job)
    return run_job(
        hydra_context=context,
        task_function=task,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
