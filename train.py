"""Train a network and study it at epoch ends: python train.py +plugin=nmf"""

import logging
import signal
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from conf.check import check, launch, objective_names, sweeping, told_clearly
from interp.errors import unknown
from interp.lit.hydra_versions import BASE

log = logging.getLogger("train")


@hydra.main(**BASE, config_path="conf", config_name="train")
@told_clearly
def train(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Build what the configuration describes, fit, test the best checkpoint; returns the objectives for a sweep."""
    check(cfg, "train")
    from interp.lit import build
    from interp.lit.console import calm
    from interp.lit.run_folder import claim

    calm()
    cfg, earlier = resume_from(cfg)
    if earlier and (ended := earlier.ended(cfg)):
        log.info("%s", ended)
        claim.withdraw(Path(cfg.output).resolve())
        return None
    module, images, studies = build_parts(cfg, earlier)
    trainer = build_trainer(cfg, module, studies, earlier)
    check_scalars(cfg, trainer, [study.name for study in studies], images)
    with claim.held(Path(cfg.output), "train.py", goes_on=bool(earlier and earlier.lies_in(Path(cfg.output)))):
        resume = earlier and carried_over(cfg, earlier)
        earlier = None  # its weights are no longer needed
        trainer.loggers = build.loggers(cfg)
        record(cfg, trainer)
        metrics = fit_and_test(cfg, trainer, module, images, resume)
    return objectives(cfg, metrics)


def resume_from(cfg: DictConfig) -> tuple[DictConfig, Any]:
    """`cfg` with what it takes over from the run that it resumes, and that run, an `Earlier`; None where there is none.

    What torchrun or SLURM starts again resumes itself. Raises UserError.
    """
    from interp.lit import build
    from interp.lit.checkpoints import earlier
    from interp.lit.run_folder.start import restarted

    output = Path(cfg.output)
    if restarted(output) and (output / "checkpoints" / "last.ckpt").is_file():
        cfg = OmegaConf.merge(cfg, {"checkpoint": str(output)})
    if (run := earlier.find(cfg)) is None:
        return cfg, None
    cfg = run.into(cfg)
    check(cfg, "train", of_run=True)
    with build.telling(cfg.optimizer, "optimizer"):
        run.check_optimizer(build.optimizer(cfg))
    return cfg, run


def build_parts(cfg: DictConfig, earlier: Any) -> tuple[Any, Any, list]:
    """Module, data and studies, checked against each other and against the run to resume before anything is written."""
    import lightning

    from interp.lit import build
    from interp.lit.checkpoints.find import find_checkpoint
    from interp.lit.classifier import load_file

    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    images = build.data(cfg)
    net = build.network(cfg, images, weights_follow=bool(cfg.checkpoint or cfg.weights))
    module = build.classifier(cfg, net, images)
    studies = build.plugins(cfg)
    for study in studies:
        study.check(module.net)
    if earlier:
        earlier.check_weights(cfg)
        module.on_load_checkpoint(earlier.content)
    elif cfg.weights is not None:
        path = find_checkpoint(cfg.weights, ("best.ckpt", "last.ckpt"), key="weights")
        load_file(module.net, images.class_names, path, cfg.weights_head)
    return module, images, studies


def build_trainer(cfg: DictConfig, module, studies: list, earlier: Any) -> Any:
    """Lightning's trainer, as yet without loggers; raises UserError where it does not fit the module."""
    from interp.lit import build
    from interp.lit.checkpoints.earlier import settings
    from interp.lit.checkpoints.resume import Continuity
    from interp.lit.checkpoints.schedule import check_end

    resumed = {"said": earlier.changes(cfg), "stopped": earlier.stopped(cfg)} if earlier else {}
    trainer = build.trainer(cfg, [*studies, Continuity(Path(cfg.output), **settings(cfg, earlier), **resumed)])
    check_end(module.scheduler, trainer)
    return trainer


def carried_over(cfg: DictConfig, earlier: Any) -> str:
    """The checkpoint to resume from, after what its run has found has been carried over."""
    from lightning.pytorch.utilities import rank_zero_only

    from interp.lit.checkpoints.resume import carry_over
    from plugins.report import draw_last

    rank_zero_only(carry_over)(earlier.path, earlier.content, Path(cfg.output))
    rank_zero_only(draw_last)(Path(cfg.output))
    rank_zero_only(earlier.write_settings)(cfg)
    return str(earlier.path)


def check_scalars(cfg: DictConfig, trainer, studies: list[str], images) -> None:
    """Raise UserError where a callback or a sweep waits for a scalar that the training does not log."""
    from interp.lit.scalars import STAGES, check_monitors, check_objectives

    check_monitors(cfg.get("callbacks") or {}, studies)
    if not trainer.limit_val_batches:
        log.warning("nothing is validated (trainer.limit_val_batches=0): val/accuracy chooses no best checkpoint")
    has = (True, trainer.limit_val_batches, cfg.test and images.splits.test is not None)
    stages = [stage for stage, it_has in zip(STAGES, has, strict=True) if it_has or not sweeping()]
    check_objectives(objective_names(cfg), studies, stages)


def objectives(cfg: DictConfig, metrics: dict) -> float | tuple[float, ...] | None:
    """The last values of the scalars in cfg.objective: one, or a tuple for a list; in a sweep all must be there."""
    names = objective_names(cfg)
    if missing := [name for name in names if name not in metrics]:
        if sweeping():
            raise unknown("scalar", missing[0], sorted(metrics), hint="That is what a sweep sees of a run: objective=")
        return None
    values = tuple(float(metrics[name]) for name in names)
    return values[0] if isinstance(cfg.objective, str) else values or None


def fit_and_test(cfg: DictConfig, trainer, module, images, resume: str | None) -> dict:
    """Train, test the best checkpoint, end the W&B run; the last value of every metric."""
    from interp.lit.checkpoints.checkpoint import restoring
    from interp.lit.processes.ending import wait_for_first
    from interp.lit.wandb import artifacts
    from interp.lit.wandb.logger import close_wandb

    metrics, number = {}, None
    if resume:
        artifacts.use(trainer.loggers, Path(resume))
    try:
        with restoring(resume):
            trainer.fit(module, datamodule=images, ckpt_path=resume)
        metrics |= trainer.callback_metrics
        if cfg.test and images.splits.test is not None:
            trainer.test(module, datamodule=images, ckpt_path=best_of(trainer), verbose=False)
            metrics |= trainer.callback_metrics
        return metrics
    except SystemExit as end:
        if (number := signal_behind(end)) is None:
            raise
        raise SystemExit(128 + number) from end
    finally:
        artifacts.keep(trainer.loggers, Path(cfg.output))
        conclude(cfg, trainer, metrics, close_wandb(), number)
        if number:
            wait_for_first()


def best_of(trainer: Any) -> str | None:
    """The best checkpoint; None where none was kept, or where that of the run resumed does not lie beside its last."""
    best = getattr(trainer.checkpoint_callback, "best_model_path", None)
    if best and Path(best).is_file():
        return best
    why = "no epoch beat the best of the run resumed, which is lost" if best else "no best checkpoint was kept"
    log.warning("%s: the network is tested as it is after the last epoch", why)
    return None


def signal_behind(end: SystemExit) -> signal.Signals | None:
    """SIGTERM or SIGINT where Lightning has ended the training for them, with exit code 0 or 1."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from interp.processes.signals import signal_of

    if isinstance(end, SIGTERMException):
        return signal.SIGTERM
    return signal_of(end.__context__) if isinstance(end.__context__, KeyboardInterrupt) else None


def record(cfg: DictConfig, trainer) -> None:
    """Give every logger the whole configuration, its secrets hidden."""
    from interp.lit.safety.secrets import hidden

    for logger in trainer.loggers:
        logger.log_hyperparams(hidden(OmegaConf.to_container(cfg, resolve=True)))


def conclude(cfg: DictConfig, trainer, metrics: dict, runs: str | None, number: signal.Signals | None) -> None:
    """Say in one line, on the terminal and in the log, how it went and where everything is."""
    from interp.files import readable
    from interp.lit.run_folder import claim, failures
    from plugins.base import Plugin

    if not trainer.is_global_zero:
        return
    folder = Path(cfg.output)
    scores = [f"{key} {float(metrics[key]):.4f}" for key in ("val/accuracy", "test/accuracy") if key in metrics]
    if "test/accuracy" not in metrics and getattr(best := trainer.checkpoint_callback, "best_model_score", None):
        scores.append(f"{best.monitor} of the best {float(best.best_model_score):.4f} (not tested)")
    ended_early = number is not None or not metrics
    if ended_early and number is None and not claim.begun(folder):
        return
    outcome = f"Ended early{f' by {number.name}' if number else ''}:" if ended_early else f"Done: {', '.join(scores)}."
    files = {"checkpoint": folder / "checkpoints" / "best.ckpt", "report": folder / "report.html"}
    where = [f"{name}: {path}" for name, path in files.items() if path.is_file()] + ([f"W&B: {runs}"] if runs else [])
    if ended_early and (folder / "checkpoints" / "last.ckpt").is_file():
        where.insert(0, f"to resume, give the same command with checkpoint={folder}")
    elif number:
        where.insert(0, "no epoch was finished, so there is no new checkpoint: give the same command again")
    studies = {study.name: study.outcomes for study in trainer.callbacks if isinstance(study, Plugin)}
    where += filter(None, [failures.told(studies)])
    if where or not ended_early:
        log.info("%s %s", outcome, readable("; ".join(where)))


if __name__ == "__main__":
    launch(train)
