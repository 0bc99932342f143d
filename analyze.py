"""Study finished runs or checkpoints: python analyze.py checkpoint=PATH +plugin=nmf"""

import logging
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from conf.check import check, launch, told_clearly
from interp.errors import NotBuilt, UserError
from interp.lit.hydra_versions import BASE

log = logging.getLogger("analyze")


@hydra.main(**BASE, config_path="conf", config_name="analyze")
@told_clearly
def analyze(cfg: DictConfig) -> None:
    """Run the plugins on the network of each checkpoint (or of the model group) and compare what they found."""
    check(cfg, "analyze")
    if not cfg.get("plugin") and not cfg.layers:
        raise UserError("no plugin to run: add one, such as +plugin=nmf, or --layers for where studies look")
    from lightning import seed_everything

    from interp.lit import build
    from interp.lit.console import calm, print_layers
    from interp.lit.processes.torchrun import join
    from interp.lit.run_folder import claim
    from interp.lit.run_folder.remains import refuse

    calm()
    seed_everything(cfg.seed, verbose=False)
    rank, place = join()
    if rank:
        logging.getLogger().setLevel(logging.ERROR)  # the first process tells
    build.check_accelerator("accelerator", cfg.accelerator)
    networks = networks_of(cfg, place)
    for network in networks if cfg.layers and rank == 0 else ():
        print_layers(network.name, network.net, network.probe)
    if not cfg.get("plugin"):
        return
    refuse(Path(cfg.output), resumable=False)
    with claim.held(Path(cfg.output), "analyze.py"):
        study_all(cfg, networks, first=rank == 0)


def networks_of(cfg: DictConfig, place: int) -> list["Network"]:
    """The network of each checkpoint, on the device at `place`; raises UserError where they cannot be compared."""
    from interp.lit.checkpoints.find import named_checkpoints

    key = "checkpoint" if cfg.weights is None else "weights"
    paths = named_checkpoints(cfg[key], ("best.ckpt", "last.ckpt"), key)
    if unknown := sorted(set(map(str, cfg.only)) - set(paths)):
        raise UserError(f"only.{unknown[0]}: no {key} has this name; there is {', '.join(paths)}")
    networks = [Network(cfg, name, path, place) for name, path in paths.items()]
    if len(networks) > 1:
        same_probe(networks)
    return networks


def study_all(cfg: DictConfig, networks: list["Network"], first: bool) -> None:
    """Let all plugins look at the networks; of several processes the `first` keeps and tells.

    Raises UserError where some failed, SystemExit after a signal.
    """
    from interp.lit.processes.ending import note_signals
    from interp.lit.wandb import artifacts
    from interp.processes.signals import signal_of

    loggers = begin(cfg) if first else []
    status, failed, ended = "failed", list[str](), None
    note_signals()
    try:
        for network in networks:
            if network.path:
                artifacts.use(loggers, network.path)
        failed = study(cfg, networks, loggers, first)
        status = "failed" if failed else "success"
    except KeyboardInterrupt as error:
        ended = signal_of(error)
    finally:
        conclude(cfg, networks, loggers, status, ended)
    if ended:
        raise SystemExit(128 + ended)
    if failed:
        raise UserError(f"{len(failed)} of {len(networks[0].plugins)} studies failed: {'; '.join(failed)}")


def begin(cfg: DictConfig) -> list:
    """The loggers, which have the whole configuration, its secrets hidden; from now on the folder stays."""
    from interp.lit import build
    from interp.lit.run_folder import claim
    from interp.lit.safety.secrets import hidden

    claim.begin(Path(cfg.output))
    loggers = build.loggers(cfg)
    for logger in loggers:
        logger.log_hyperparams(hidden(OmegaConf.to_container(cfg, resolve=True)))
    return loggers


def conclude(cfg: DictConfig, networks: list["Network"], loggers: list, status: str, ended) -> None:
    """Write what was found so far, whatever ended the analysis, and say in one line where it is."""
    import signal

    from interp.lit.processes.ending import wait_for_first
    from interp.lit.wandb import artifacts
    from interp.lit.wandb.logger import close_wandb
    from interp.processes.share import ProcessLost

    if ended:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # others of the same end, as torchrun's, would cost the report
    lost = isinstance(sys.exception(), ProcessLost)
    for plugin in (plugin for network in networks for plugin in network.plugins):
        plugin.finish_drawing()
    for logger in loggers:
        logger.finalize(status)
    artifacts.keep(loggers, Path(cfg.output))
    say_where(cfg, ended, close_wandb(128 + ended if ended else int(status == "failed")))
    if not lost:
        wait_for_first()


def say_where(cfg: DictConfig, ended, runs: str | None) -> None:
    """Say in one line how the analysis went, where its results and W&B `runs` are, and which studies failed."""
    from interp.files import readable
    from interp.lit.run_folder import failures

    outcome = f"Ended early by {ended.name}" if ended else "Done" if sys.exception() is None else "Ended early"
    failed = failures.told(failures.read(Path(cfg.output), []))
    more = f"; W&B: {runs}" * bool(runs) + f"; {failed}" * bool(failed)
    log.info("%s: results and report in %s", outcome, readable(f"{cfg.output}{more}"))


class Network:
    """The network of a checkpoint with its run's own data, and the plugins that look at it."""

    def __init__(self, cfg: DictConfig, name: str, path, place: int) -> None:
        import torch
        from lightning import Fabric

        from interp.lit import build
        from interp.lit.checkpoints.checkpoint import read_checkpoint
        from interp.lit.checkpoints.find import run_folder
        from interp.lit.classifier import load_file, load_weights

        foreign = cfg.weights is not None
        checkpoint = {} if path is None or foreign else read_checkpoint(path)
        self.name, self.path, self.run = name, path, None if path is None or foreign else run_folder(path)
        settings = OmegaConf.merge(with_run(cfg, self.run), cfg.only.get(name) or {})
        images = self._build(cfg, settings)
        if path is None:
            say_where_weights_come_from(settings)
        elif foreign:
            load_file(self.net, images.class_names, path, cfg.weights_head)
        else:
            load_weights(self.net, images.class_names, checkpoint)
        device = Fabric(accelerator=cfg.accelerator, devices=1).device
        self.net.to(torch.device("cuda", place) if device.type == "cuda" else device)
        self.probe, self.plugins = images.probe, build.plugins(settings)
        self.epoch, self.step = checkpoint.get("epoch", -1) + 1, max(0, checkpoint.get("global_step", 0) - 1)
        for plugin in self.plugins:
            plugin.check(self.net)

    def _build(self, cfg: DictConfig, settings: DictConfig):
        """The network, as yet without its weights, and the data, which is returned; `cfg` is the command's own."""
        from interp.lit import build
        from interp.lit.safety.foreign import built_from

        with built_from(self.run, cfg.trust):
            try:
                check(settings, "analyze", of_run=True)
            except UserError as error:
                if self.run is None or fits(with_run(cfg, self.run, overridden=False)):
                    raise
                raise NotBuilt(str(error)) from error  # so that it names the run's configuration
            images = build.data(settings, labelled=False)
            self.net = build.network(settings, images, trains=False, weights_follow=self.path is not None)
        return images


def say_where_weights_come_from(cfg: DictConfig) -> None:
    """Warn that a network without a checkpoint has the weights that its builder gives it: random ones as a rule."""
    name, ours = str(cfg.model._target_), "interp.lit.models."
    if cfg.model.get("weights") or cfg.model.get("pretrained") or name == f"{ours}efficientnet_lite0":
        return
    kind = (
        "random weights are studied"
        if name.startswith(ours)
        else "the weights are those that model makes: random ones?"
    )
    log.warning("no checkpoint is given: %s; give checkpoint=RUN_FOLDER, or a pretrained model", kind)


def fits(cfg: DictConfig) -> bool:
    """Whether every setting is one that its data or model take."""
    try:
        check(cfg, "analyze", of_run=True)
    except UserError:
        return False
    return True


def with_run(cfg: DictConfig, run, *, overridden: bool = True) -> DictConfig:
    """`cfg` with the data and model of the run that the checkpoint belongs to; what the user set wins, if `overridden`.

    Raises UserError where the run's configuration, which may be a stranger's, names what could do harm.
    """
    if run is None:
        return cfg
    from hydra.core.hydra_config import HydraConfig

    from interp.lit.safety import foreign

    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    groups = [group for group in ("data", "model") if not any(o.startswith(f"{group}=") for o in overrides)]
    keys = [o.partition("=")[0] for o in overrides]
    of_run = foreign.settings(run / ".hydra" / "config.yaml", groups, given=keys, trust=cfg.trust)
    cfg = cfg.copy()
    for group in groups:
        given = OmegaConf.from_dotlist([o for o in overrides if o.startswith(f"{group}.") and overridden])
        cfg[group] = OmegaConf.merge(of_run[group], given.get(group, {}))
    return cfg


def same_probe(networks: list[Network]) -> None:
    """Show every network the images of the first; raises UserError where it was made for others."""
    first = networks[0].probe
    for network in networks[1:]:
        if network.probe.class_names != first.class_names or network.probe.images.shape != first.images.shape:
            raise UserError(
                f"{network.name} was trained on other classes or sizes of images than {networks[0].name}: "
                "compare networks of the same data, or give one data set for all with data=..."
            )
        network.probe = first


def study(cfg: DictConfig, networks: list[Network], loggers: list, first: bool = True) -> list[str]:
    """Let every plugin look at the networks; one that fails does not keep the others from it. What failed, and why.

    Of several processes all look, and the `first` keeps what is found. Raises Disturbed where a study has changed a
    network for good: the others would study something else.
    """
    import traceback

    from interp.network.quiet import Disturbed
    from interp.processes.share import ProcessLost

    failed = []
    for position, key in enumerate(plugin.name for plugin in networks[0].plugins):
        try:
            look(cfg, networks, position, key, loggers, first)
        except (Disturbed, ProcessLost):
            raise
        except Exception as error:
            if not isinstance(error, UserError):
                log.warning("plugin %s failed\n%s", key, traceback.format_exc())
            failed.append(
                f"plugin.{key}: {error if isinstance(error, UserError) else f'{type(error).__name__}: {error}'}"
            )
    return failed


def look(cfg: DictConfig, networks: list[Network], position: int, key: str, loggers: list, first: bool) -> None:
    """Study each network with its plugin at `position`, keep and log what was found, side by side of several.

    What goes wrong with one network costs no other; the first error is raised when all have been studied. It ends the
    look at that network on all processes: they must not look at different ones.
    """
    from functools import partial

    from interp.network.quiet import Disturbed
    from interp.processes.share import ProcessLost, together
    from interp.processes.signals import interrupt_if_noted

    results, alone, result_of, errors = Path(cfg.output) / "results", len(networks) == 1, {}, list[Exception]()
    for network in networks:
        plugin, history = network.plugins[position], results / (key if alone else f"{key}.{network.name}")
        together(interrupt_if_noted, name=key)
        try:
            result = plugin.look(network.net, network.probe)
            kept = partial(keep_of, network, plugin, result, history, loggers, key)
            result_of[network.name] = together(kept, shared=False, name=key)
        except (Disturbed, ProcessLost):
            raise
        except Exception as error:  # the other networks are studied all the same
            errors.append(error)
            if first:
                plugin.note(history, network.epoch, error)
    if len(result_of) > 1:
        together(partial(compare, networks, plugin, result_of, results / key, loggers), shared=False, name=key)
    if errors:
        raise errors[0]


def keep_of(network: Network, plugin, result, history: Path, loggers: list, key: str):
    """Keep a result of one network, following what its run has of the same study; the result that was kept."""
    if network.run is not None:
        result = plugin.continued(result, history, network.epoch, earlier=network.run / "results" / key)
    keep(plugin, result, history, loggers, network.epoch, network.step)
    return result


def compare(networks: list[Network], plugin, result_of: dict, history: Path, loggers: list) -> None:
    """Keep the results of the networks, by name, side by side."""
    from interp.comparison import SideBySide

    epoch, step = max(network.epoch for network in networks), networks[-1].step
    keep(plugin, SideBySide(result_of), history, loggers, epoch, step)


def keep(plugin, result, history: Path, loggers: list, epoch: int, step: int) -> None:
    """Write, log and print one result of `plugin` under the name of its folder `history`."""
    scalars = plugin.keep(result, history, loggers, epoch=epoch, step=step)
    scalars = {f"{history.name}/{key}": value for key, value in scalars.items()}
    log.info("epoch %d: %s", epoch, ", ".join(f"{key} {value:.4g}" for key, value in scalars.items()))
    for logger in loggers:
        logger.log_metrics({**scalars, "epoch": epoch}, step=step)
    plugin.finish_drawing()
    plugin.summarize()


if __name__ == "__main__":
    sys.argv[1:] = ["layers=true" if argument == "--layers" else argument for argument in sys.argv[1:]]
    launch(analyze)
