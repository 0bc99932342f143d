"""Objects from the composed configuration, by `_target_` alone."""

from functools import partial
from inspect import signature
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, StrategyRegistry
from omegaconf import DictConfig

from interp.errors import UserError
from interp.layers import Normalized
from interp.lit.checkpoint import RandomState, WholeCheckpointIO
from interp.lit.classifier import Classifier
from interp.lit.data import ImageData
from interp.lit.ending import EndTogether
from interp.lit.resume import EpochScalars
from interp.lit.sinks import forgiving


def build(node: DictConfig, key: str, **given: Any) -> Any:
    """The object that `node` (at `key` of the configuration) describes.

    A UserError inside comes out as itself; anything else that goes wrong becomes one that names `key`.
    """
    try:
        return instantiate(node, **given)
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        raise UserError(f"{key} ({node.get('_target_')}): {cause}") from error


def data(cfg: DictConfig) -> ImageData:
    """The DataModule, its images already read: what is wrong with them shows here."""
    module = build(cfg.data, "data")
    _ = module.probe
    return module


def network(cfg: DictConfig, images: ImageData, weights_follow: bool = False) -> Normalized:
    """The network, its input and head fitted to the data.

    Where its weights follow, from a checkpoint, a builder that takes `download` is told to load none itself.
    """
    make = build(cfg.model, "model")
    if weights_follow and isinstance(make, partial) and "download" in signature(make.func).parameters:
        make = partial(make, download=False)
    return make(images)


def classifier(cfg: DictConfig, net: Normalized, images: ImageData) -> Classifier:
    """The LightningModule with its optimizer and scheduler."""
    scheduler = build(cfg.scheduler, "scheduler") if cfg.get("scheduler") else None
    optimizer = build(cfg.optimizer, "optimizer")
    module = Classifier(net, images.class_names, optimizer, scheduler, cfg.get("compile", False))
    module.example_input_array = images.probe.images[:1]  # gives the model summary its sizes
    return module


def plugins(cfg: DictConfig) -> list[Any]:
    """The studies, each named by its key in the configuration unless it names itself."""
    nodes = (cfg.get("plugin") or {}).items()
    studies = [build(node, f"plugin.{key}", **({} if "name" in node else {"name": key})) for key, node in nodes]
    names = [study.name for study in studies]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two plugins are named {twice[0]!r}: their results would overwrite each other; rename one")
    return studies


def loggers(cfg: DictConfig) -> list[Logger]:
    """The sinks, whose failures cost a warning; W&B's run may begin here."""
    return [forgiving(build(node, f"logger.{key}")) for key, node in (cfg.get("logger") or {}).items()]


def trainer(cfg: DictConfig, studies: list[Callback], sinks: list[Logger]) -> Trainer:
    """Lightning's trainer. Plugins come before the callbacks that read their scalars.

    Raises UserError for a strategy that spreads the weights over processes.
    """
    callbacks = [build(node, f"callbacks.{key}") for key, node in cfg.callbacks.items() if node]
    make: partial[Trainer] = build(cfg.trainer, "trainer", _partial_=True)
    _refuse_sharded(make.keywords.get("strategy", "auto"))
    callbacks = [*studies, RandomState(), EpochScalars(), EndTogether(), *callbacks]
    return make(callbacks=callbacks, logger=sinks or False, plugins=[WholeCheckpointIO()])


def _refuse_sharded(strategy: Any) -> None:
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    kind = StrategyRegistry[name]["strategy"] if name in StrategyRegistry else type(strategy)
    if issubclass(kind, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        raise UserError(
            f"trainer.strategy={name} spreads the weights over processes, and studies and checkpoints need them whole: "
            "choose trainer.strategy=ddp, which keeps all of them on each"
        )
