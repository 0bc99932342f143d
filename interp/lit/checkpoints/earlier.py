"""The run that a command resumes: its settings, how far it came, and whether anything is left to train."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from interp.errors import UserError
from interp.files import replacing
from interp.lit.checkpoints.checkpoint import read_checkpoint
from interp.lit.checkpoints.find import find_checkpoint, run_folder
from interp.lit.checkpoints.inherited import NONE, OPTIONS, SETTINGS, Asked, agreeing, changes, inherited
from interp.lit.checkpoints.resume import Continuity
from interp.lit.checkpoints.schedule import Plan, check_optimizer, check_step
from interp.lit.renamed import with_new_names
from interp.lit.run_folder.remains import about
from interp.lit.safety import foreign
from interp.lit.safety.secrets import hidden
from interp.lit.safety.yaml_file import read_yaml

MACHINES = ("auto", "cpu", "gpu", "ddp")  # options of trainer that differ in where the run goes on alone
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Earlier:
    """A run, by its checkpoint."""

    path: Path  # of the checkpoint
    content: dict[str, Any]  # as `read_checkpoint` gives it
    settings: Mapping[str, Any]  # as it was configured, references as they stand; empty where that is not known
    options: Mapping[str, Any]  # that it has of each group; empty where that is not known

    @property
    def epochs(self) -> int:
        """How many it has been trained."""
        return int(self.content["epoch"]) + 1

    @property
    def place(self) -> Path:
        """Its folder, or the checkpoint where that lies alone."""
        return run_folder(self.path) or self.path

    def lies_in(self, folder: Path) -> bool:
        """Whether it is the run in `folder`, which then goes on in place."""
        return self.path.parent.parent.resolve() == folder.resolve()

    def into(self, cfg: DictConfig) -> DictConfig:
        """`cfg` with the settings of the run where this command gives none.

        Raises UserError where one, which may be a stranger's, could do harm. Where there is no command line, all that
        is configured counts as given.
        """
        if (asked := self.asked()) is None:
            return cfg
        cfg, configured = cfg.copy(), as_it_stands(cfg)
        for name in SETTINGS:
            now = configured.get(name, NONE)
            setting = inherited(now, self.settings.get(name, NONE), asked, name)
            if setting != now:
                agreed = {*agreeing(now, setting, name)}
                setting = foreign.admitted(setting, name, agreed, cfg.trust, self.place, like=now)
                OmegaConf.update(cfg, name, setting, merge=False, force_add=True)
        return cfg

    def asked(self) -> Asked | None:
        """What the command line gives; None where there is none, or where the run's settings are not known."""
        if not HydraConfig.initialized() or not self.settings:
            return None
        now = HydraConfig.get().runtime.choices
        same = {group for group, option in self.options.items() if option and option == now.get(group)}
        if {self.options.get("trainer"), now.get("trainer")} <= {*MACHINES}:
            same.add("trainer")
        return Asked.by(list(HydraConfig.get().overrides.task), frozenset(same))

    def changes(self, cfg: DictConfig) -> str:
        """In one line, where this command goes on and what of its settings is not as it was."""
        differ = ", ".join(self._differences(cfg))
        if not self.settings:
            differ = "its settings are not known, so this command's hold"
        return f"resuming {self.place} after epoch {self.epochs}: {differ or 'with the same settings'}"

    def _differences(self, cfg: DictConfig) -> list[str]:
        now = hidden(as_it_stands(cfg))
        pairs = ((self.settings.get(name, NONE), now.get(name, NONE), name) for name in SETTINGS)
        return [change for pair in pairs for change in changes(*pair)]

    def write_settings(self, cfg: DictConfig) -> None:
        """Put what has been taken over into the configuration that Hydra has written, for the report and for others."""
        path = Path(cfg.output) / ".hydra" / "config.yaml"
        if self.asked() is not None and path.is_file():
            with replacing(path) as file:
                file.write_text(OmegaConf.to_yaml(OmegaConf.create(hidden(as_it_stands(cfg)))))

    def check_optimizer(self, factory: Any) -> None:
        """Raise UserError where the optimizer asked for cannot go on from the state of the run's."""
        kept, now = self.content.get("plan"), Plan.of(factory, None)
        if isinstance(kept, Mapping):
            check_optimizer(kept.get("optimizer"), now.optimizer, str(self.place))
        if not isinstance(kept, Mapping) or kept.get("settings") != now.settings:
            check_step(factory, self.content["optimizer_states"][0], str(self.place))

    def check_weights(self, cfg: DictConfig) -> None:
        """Raise UserError where a command names weights to start from that this run did not start from."""
        if cfg.weights is not None and self.settings and self.settings.get("weights") != hidden(cfg.weights):
            raise UserError(
                f"weights={cfg.weights} starts a training anew and checkpoint={cfg.checkpoint} resumes one, which has "
                "its own weights: give one of the two"
            )

    def ended(self, cfg: DictConfig) -> str:
        """That nothing is left to train for this command, and how to go on; "" where something is."""
        taken = {"epochs": self.epochs, "steps": self.content.get("global_step", 0)}
        most = {name: cfg.trainer.get(f"max_{name}") for name in taken}
        done = [name for name in taken if isinstance(most[name], int) and 0 <= most[name] <= taken[name]]
        if done:
            reason, more = f"{taken[done[0]]} of {most[done[0]]} {done[0]} are trained", f"trainer.max_{done[0]}=MORE"
        elif self.stopped(cfg):
            reason, more = f"it stopped early, after {self.epochs} epochs", "callbacks.early_stopping.patience=MORE"
        else:
            return ""
        known = about(self.place) if self.place.is_dir() else {}
        killed = bool(known) and "finished" not in (known.get("ended"), known.get("earlier"))
        if killed and not any(taken[name] > most[name] for name in done):
            return ""  # when all was trained: its end is still to come
        study = f"python analyze.py checkpoint={self.place} +plugin=NAME"
        differ = self._differences(cfg) if self.settings else []
        if unused := [change for change in differ if not change.startswith(("trainer.max_", "callbacks."))]:
            reason += f" (so this is not used: {', '.join(unused)})"
        return f"{self.place} is finished: {reason}. To train on give {more}; to study it: {study}"

    def stopped(self, cfg: DictConfig) -> bool:
        """Whether early stopping, as it is configured now, has ended the training."""
        node = cfg.callbacks.get("early_stopping") or {}
        for key, state in _states(self.content).items():
            ours = all(repr(node.get(name)) in key for name in ("monitor", "mode"))
            if ours and isinstance(waited := state.get("wait_count"), int):
                ended, patience = state.get("stopped_epoch"), state.get("patience")
                last = self.epochs > 1 and ended == self.epochs - 1 and patience == node.get("patience")
                return bool(last or waited >= node.get("patience", float("inf")))
        return False


def find(cfg: DictConfig) -> Earlier | None:
    """The run to resume, None where `cfg.checkpoint` names none; raises UserError where it cannot be resumed."""
    if cfg.checkpoint is None:
        return None
    path = find_checkpoint(cfg.checkpoint, ("last.ckpt", "best.ckpt"))
    content = read_checkpoint(path)
    if not {"epoch", "optimizer_states"} <= content.keys():
        raise UserError(
            f"{path} holds weights but no state of a training: it can be analysed, not resumed; weights={path} starts "
            "a training from it"
        )
    kept = _states(content).get(Continuity.__qualname__) or {"settings": _written(path)}
    known, options = (value if isinstance(value := kept.get(name), Mapping) else {} for name in ("settings", "options"))
    return Earlier(path, content, with_new_names(known), options)


def _states(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Of the callbacks that were there when a checkpoint was written."""
    states = content.get("callbacks")
    known = states.items() if isinstance(states, Mapping) else ()
    return {str(key): state for key, state in known if isinstance(state, Mapping)}


def _written(path: Path) -> Mapping[str, Any]:
    """The configuration beside a checkpoint that does not keep it."""
    file = (run_folder(path) or path) / ".hydra" / "config.yaml"
    if not file.is_file():
        return {}
    try:
        return as_it_stands(read_yaml(file))
    except UserError as error:
        log.warning("%s; the settings are this command's", error)
        return {}


def as_it_stands(cfg: Any) -> dict[str, Any]:
    """A configuration with its references unfollowed; empty where it is a list."""
    plain = OmegaConf.to_container(cfg)
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def settings(cfg: DictConfig, earlier: Earlier | None = None) -> dict[str, Any]:
    """What checkpoints keep of a run's configuration, its secrets hidden, and the option of each group that it has."""
    options: dict[str, Any] = {}
    if HydraConfig.initialized():
        options = {group: HydraConfig.get().runtime.choices.get(group) for group in (*OPTIONS, "experiment")}
    if earlier and (asked := earlier.asked()) and not asked.keys >= {*SETTINGS}:
        options |= {group: option for group, option in earlier.options.items() if group not in asked.options}
    return {"settings": hidden(as_it_stands(cfg)), "options": options}
