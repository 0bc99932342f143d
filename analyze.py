"""Study a finished run or a checkpoint: python analyze.py checkpoint=PATH +plugin=nmf"""

import logging

import hydra
from omegaconf import DictConfig, OmegaConf

from conf.check import check, launch, told_clearly
from interp.errors import UserError

log = logging.getLogger("analyze")


@hydra.main(version_base="1.3", config_path="conf", config_name="analyze")
@told_clearly
def analyze(cfg: DictConfig) -> None:
    """Run the plugins once on the network of a checkpoint (or of the model group); results as in training."""
    check(cfg, "analyze")
    if not cfg.get("plugin"):
        raise UserError("no plugin to run: add one, such as +plugin=nmf")
    from lightning import Fabric

    from interp.lit import build
    from interp.lit.checkpoint import find_checkpoint, read_checkpoint, run_folder
    from interp.lit.classifier import load_weights
    from interp.lit.console import calm
    from interp.lit.sinks import close_wandb

    calm()
    path = None if cfg.checkpoint is None else find_checkpoint(cfg.checkpoint, ("best.ckpt", "last.ckpt"))
    checkpoint = {"epoch": -1, "global_step": 0} if path is None else read_checkpoint(path)
    cfg = with_run(cfg, None if path is None else run_folder(path))
    images = build.data(cfg)
    net = build.network(cfg, images)
    if path is not None:
        load_weights(net, images.class_names, checkpoint)
    net.to(Fabric(accelerator=cfg.accelerator, devices=1).device)
    try:
        study(cfg, net, images.probe, checkpoint, None if path is None else run_folder(path))
    finally:
        runs = close_wandb()
    log.info("Done: results and report in %s%s", cfg.output, f"; W&B: {runs}" if runs else "")


def with_run(cfg: DictConfig, run) -> DictConfig:
    """`cfg` with the data and model of the run that the checkpoint belongs to; what the user chose wins."""
    if run is None:
        return cfg
    from hydra.core.hydra_config import HydraConfig

    own = OmegaConf.load(run / ".hydra" / "config.yaml")
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    cfg = cfg.copy()
    for group in ("data", "model"):
        if any(o.startswith(f"{group}=") for o in overrides):
            continue
        given = OmegaConf.from_dotlist([o for o in overrides if o.startswith(f"{group}.")])
        cfg[group] = OmegaConf.merge(own[group], given.get(group, {}))
    return cfg


def study(cfg: DictConfig, net, probe, checkpoint: dict, run) -> None:
    """Let every plugin look, keep its result under results/<plugin>/epoch=NNNN and log it; `run` is its training's."""
    from pathlib import Path

    from interp.lit import build

    studies = build.plugins(cfg)
    for plugin in studies:
        plugin.check(net)
    loggers = build.loggers(cfg)
    epoch, step = checkpoint["epoch"] + 1, max(0, checkpoint["global_step"] - 1)
    for plugin in studies:
        result = plugin.look(net, probe)
        if run is not None:
            result = plugin.continued(result, run / "results" / plugin.name, epoch)
        plugin.keep(
            result, Path(cfg.output) / "results" / plugin.name / f"epoch={epoch:04d}", loggers, epoch=epoch, step=step
        )
        scalars = {f"{plugin.name}/{key}": value for key, value in result.scalars().items()}
        log.info("epoch %d: %s", epoch, ", ".join(f"{key} {value:.4g}" for key, value in scalars.items()))
        for logger in loggers:
            logger.log_metrics({**scalars, "epoch": epoch}, step=step)
        plugin.finish_drawing()
        plugin.summarize()
    for logger in loggers:
        logger.finalize("success")


if __name__ == "__main__":
    launch(analyze)
