"""Where a setting that does not exist was meant to go."""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from conf.groups import BUILT, CONF, NAMED, groups, groups_of, options
from conf.kinds import load_target
from interp.lit.hydra_versions import BASE

CALLED = {"learning_rate": "lr", "epochs": "max_epochs", "gpus": "devices", "workers": "num_workers",
          "target": "_target_"}  # elsewhere  # fmt: skip


def nearest_setting(key: str) -> str:
    """What to say of a `key` that is no setting: the one that was meant, or those beside it."""
    parent, _, leaf = key.rpartition(".")
    script = "analyze" if Path(sys.argv[0]).stem == "analyze" else "train"
    settings = dict(_settings(_composed(script, *_choices()), ""))
    leaf = CALLED.get(leaf, leaf)
    same = sorted((name for name in settings if name.rpartition(".")[2] == leaf), key=lambda name: name.count("."))
    beside = sorted({name.removeprefix(f"{parent}.").partition(".")[0] for name in settings if _within(name, parent)})
    beside += [] if parent else [group for group in groups_of(script) if group not in beside]
    if leaf == "_target_" and parent:
        return f"did you mean _target_? '{parent}={{_target_: ...}}'"
    if parent.partition(".")[0] == "plugin" and not beside:
        name = parent.partition(".")[2].partition(".")[0]
        return f"is that plugin loaded? Add +plugin={name}. Plugins: {', '.join(options('plugin'))}"
    if script == "analyze" and key.partition(".")[0] == "trainer":
        return "analyze.py trains nothing; the device is accelerator=cpu, gpu or auto"
    if near := get_close_matches(leaf, beside, n=1, cutoff=0.8):
        return _meant(f"{parent}.{near[0]}" if parent else near[0], parent, beside)
    home = parent.partition(".")[0]
    if same and home not in BUILT:
        return f"did you mean {' or '.join(same[:3])}?"
    if others := _other_options(home, leaf, groups_of(script)):
        return f"{others[0][0]} is a setting of {' and '.join(f'{group}={name}' for _, group, name in others[:4])}"
    if same:
        return f"did you mean {' or '.join(same[:3])}?"
    if parent in settings and _takes(settings[parent], leaf):
        return f"it is not in the YAML file, so add it with a plus: +{key}=VALUE"
    far = get_close_matches(leaf, beside, n=1, cutoff=0.5) or [""]
    return _meant((f"{parent}.{far[0]}" if parent else far[0]) if far[0] else "", parent, beside)


def _meant(name: str, parent: str, beside: list[str]) -> str:
    guess = f"did you mean {name}? " if name else ""
    listing = (
        f"{'There' if parent else 'Top level'} is: {', '.join(beside)}" if beside else "nothing by that name exists"
    )
    added = f"; a new one takes a plus: +{parent}.NAME={{_target_: ...}}" if parent in NAMED else ""
    return f"{guess}{listing}{added}"


def _settings(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every dotted key of a configuration with what stands there, dictionaries as well."""
    if key and not key.rpartition(".")[2].startswith("_"):
        yield key, node
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _settings(value, f"{key}.{name}" if key else str(name))


def _within(name: str, parent: str) -> bool:
    return name.startswith(f"{parent}.") if parent else True


def _other_options(group: str, leaf: str, known: list[str]) -> list[tuple[str, str, str]]:
    """(key, group, option) of the options, in `group` if it is one, whose YAML has a setting `leaf`."""
    searched = [] if group in NAMED else [group] if group in BUILT else [*BUILT, "plugin"]
    files = [path for name in searched if name in known for path in sorted((CONF / name).glob("*.yaml"))]
    having = [(f.parent.name, f.stem) for f in files if re.search(rf"^{leaf}:", f.read_text(encoding="utf-8"), re.M)]
    return [(f"{g}.{name}.{leaf}" if g == "plugin" else f"{g}.{leaf}", g, name) for g, name in having]


def _takes(node: Any, leaf: str) -> bool:
    """Whether the `_target_` of a node has a parameter of this name."""
    try:
        return leaf in inspect.signature(load_target("", node["_target_"])).parameters
    except (LookupError, TypeError, ValueError):  # no `_target_`, or none that can be looked into
        return False


def _choices() -> list[str]:
    """The choices of options on the command line."""
    return [a for a in sys.argv[1:] if re.fullmatch(rf"\+?({'|'.join(groups())})=[\w\[\],]+", a)]


@cache
def _composed(script: str, *choices: str) -> dict[str, Any]:
    """The configuration that these choices make, without any other settings."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), **BASE):
        for overrides in (list(choices), []):  # what was chosen may be wrong as well
            try:
                cfg: DictConfig = compose(script, overrides)
            except HydraException:
                continue
            return {str(key): value for key, value in OmegaConf.to_container(cfg).items()}  # type: ignore[union-attr]
    return {}
