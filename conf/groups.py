"""The configuration groups: the folders of conf/, and what their YAML files say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parent
NAMED = ("plugin", "callbacks", "logger")  # nodes that hold any number of things by name
BUILT = ("data", "model", "optimizer", "scheduler", "trainer")  # nodes that hold one thing


def groups() -> list[str]:
    """The configuration groups: the folders of conf/."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and any(path.glob("*.yaml")))


def groups_of(script: str) -> list[str]:
    """The groups of which train.yaml or analyze.yaml chooses options."""
    defaults: Any = OmegaConf.load(CONF / f"{script}.yaml").defaults
    return [str(group) for default in defaults if isinstance(default, DictConfig) for group in default]


def options(group: str) -> list[str]:
    """The options of a group, such as nmf, saliency of plugin."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    """A YAML file of an option, with those that it begins with; interpolations as they stand."""
    node = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
    for default in node.pop("defaults", []):
        name = default if isinstance(default, str) else ""
        base = (CONF if name.startswith("/") else path.parent) / f"{name.strip('/').partition('@')[0]}.yaml"
        if name != "_self_" and base.is_file():
            node = {**read(base), **node}
    return node


def option_like(group: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """What the first YAML file of `group` says that names the same `_target_` as `node`, and `source`; else nothing."""
    for path in sorted((CONF / group).glob("*.yaml")):
        if f"_target_: {node.get('_target_')}\n" in path.read_text(encoding="utf-8"):
            option = read(path)
            for part in (option, *option.values()):
                if isinstance(part, dict) and _targets(part) == _targets(node):
                    return part
    return {}


def _targets(node: Mapping[str, Any]) -> list[Any]:
    source = node.get("source")
    return [node.get("_target_"), source.get("_target_") if isinstance(source, Mapping) else None]
