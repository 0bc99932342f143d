"""Objects from the composed configuration, by `_target_` alone."""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry, CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, StrategyRegistry
from omegaconf import DictConfig
from torch import nn

from interp.errors import NotBuilt, UserError, reason, unknown
from interp.lit.checkpoints.checkpoint import RandomState, WholeCheckpointIO
from interp.lit.checkpoints.resume import EpochScalars
from interp.lit.checkpoints.schedule import laid
from interp.lit.classifier import Classifier
from interp.lit.data import ImageData
from interp.lit.network_check import check_network
from interp.lit.processes.ending import EndTogether
from interp.lit.sinks import forgiving

# Lightning refuses callbacks of a kind that its own switch has turned off.
SWITCHES = {"checkpointing": Checkpoint, "progress_bar": ProgressBar, "model_summary": ModelSummary}
PLAIN: dict[str, Any] = {"_partial_": True, "_convert_": "all"}  # makers with settings as checkpoints take them


@contextmanager
def telling(node: DictConfig, key: str) -> Iterator[None]:
    """Let a UserError inside come out as itself; anything else that goes wrong becomes one that names `key`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause: BaseException = error
        while isinstance(error, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        raise NotBuilt(f"{key} ({node.get('_target_')}): {reason(cause)}") from error


def build(node: DictConfig, key: str, **given: Any) -> Any:
    """The object that `node` (at `key` of the configuration) describes; raises UserError that names `key`."""
    with telling(node, key):
        return instantiate(node, **given)


def data(cfg: DictConfig, *, labelled: bool = True) -> ImageData:
    """The DataModule, its images already read and checked; without `labelled` their classes may be unknown."""
    module = build(cfg.data, "data")
    with telling(cfg.data, "data"):
        if not isinstance(module, ImageData):
            raise UserError(f"data gives {type(module).__name__}; wanted is interp.lit.data.ImageData with a `source`")
        module.check(labelled)
        _ = module.probe
    return module


def network(cfg: DictConfig, images: ImageData, *, trains: bool = True, weights_follow: bool = False) -> nn.Module:
    """The network, its input and head fitted to the data, tried on two images.

    Its node describes a network, or what makes one of the data (its parameter `data`, or its first). Where its weights
    follow, from a checkpoint, a builder that takes `download` is told to load none itself.
    """
    make: partial = build(cfg.model, "model", _partial_=True)
    if weights_follow and "download" in inspect.signature(make.func).parameters:
        make = partial(make, download=False)
    with telling(cfg.model, "model"):
        net = make(**dict.fromkeys(_takes_data(make), images))
        if not isinstance(net, nn.Module):
            raise UserError(f"model ({cfg.model._target_}) gives {type(net).__name__}; wanted is a torch.nn.Module")
    check_network(net, f"model ({cfg.model._target_})", images, trains=trains)
    return net


def _takes_data(make: partial) -> list[str]:
    """The parameter that takes the data: `data`, or the first without a value; none where all have one."""
    free = [p for p in inspect.signature(make.func).parameters.values() if p.name not in make.keywords]
    wanting = [p.name for p in free if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    return [p.name for p in free if p.name == "data"] or wanting[:1]


def optimizer(cfg: DictConfig) -> Any:
    """What makes the optimizer of parameters."""
    return build(cfg.optimizer, "optimizer", **PLAIN)


def classifier(cfg: DictConfig, net: nn.Module, images: ImageData) -> Classifier:
    """The LightningModule with its optimizer and scheduler, both tried on the network's parameters."""
    make = optimizer(cfg)
    scheduler = build(cfg.scheduler, "scheduler", **PLAIN) if cfg.get("scheduler") else None
    module = Classifier(net, images.class_names, make, scheduler, cfg.get("compile", False))
    with telling(cfg.optimizer, "optimizer"):
        tried = make(net.parameters())
    if scheduler:
        with telling(cfg.scheduler, "scheduler"):
            laid(scheduler, tried, steps=100)
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


def check_accelerator(key: str, name: Any) -> None:
    """Raise UserError where there is no accelerator of the name that is set under `key`, or not on this machine."""
    known = ["auto", "gpu", *AcceleratorRegistry.available_accelerators()]
    if str(name) not in known and not isinstance(name, Accelerator):
        raise unknown(key, str(name), known)
    here = ["cpu", *(kind for kind, has in (("cuda", CUDAAccelerator), ("mps", MPSAccelerator)) if has.is_available())]
    if (name == "gpu" and here == ["cpu"]) or (name in ("cuda", "mps") and name not in here):
        raise UserError(f"{key}={name}: this machine has {', '.join(here)}; auto takes what there is")


def trainer(cfg: DictConfig, studies: list[Callback], sinks: Sequence[Logger] = ()) -> Trainer:
    """Lightning's trainer. Plugins come before the callbacks that read their scalars.

    Raises UserError for a strategy that spreads the weights over processes.
    """
    nodes = {key: node for key, node in (cfg.get("callbacks") or {}).items() if node}
    callbacks = [build(node, f"callbacks.{key}", _convert_="all") for key, node in nodes.items()]
    off = tuple(kind for name, kind in SWITCHES.items() if cfg.trainer.get(f"enable_{name}") is False)
    callbacks = [
        *studies,
        RandomState(),
        EpochScalars(),
        EndTogether(),
        *(c for c in callbacks if not isinstance(c, off)),
    ]
    check_accelerator("trainer.accelerator", cfg.trainer.get("accelerator", "auto"))
    make: partial[Trainer] = build(cfg.trainer, "trainer", _partial_=True, _convert_="all")
    _refuse_sharded(make.keywords.get("strategy", "auto"))
    if (batches := cfg.trainer.get("accumulate_grad_batches", 1)) < 1:
        raise UserError(f"trainer.accumulate_grad_batches={batches}: must be at least 1")
    devices = make.keywords.get("devices", "auto")
    if isinstance(devices, str) and not re.fullmatch(r"auto|-?\d+(\s*,\s*\d+)*,?", devices):
        raise UserError(f"trainer.devices={devices}: wanted is a whole number, such as 1, a list of them, or auto")
    keeps = {} if any(isinstance(c, Checkpoint) for c in callbacks) else {"enable_checkpointing": False}
    with telling(cfg.trainer, "trainer"):
        return make(callbacks=callbacks, logger=list(sinks) or False, plugins=[WholeCheckpointIO()], **keeps)


def _refuse_sharded(strategy: Any) -> None:
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    kind = StrategyRegistry[name]["strategy"] if name in StrategyRegistry else type(strategy)
    if issubclass(kind, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        raise UserError(
            f"trainer.strategy={name} spreads the weights over processes, and studies and checkpoints need them whole: "
            "choose trainer.strategy=ddp, which keeps all of them on each"
        )
