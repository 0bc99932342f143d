"""What somebody else may have written: configurations and class names out of a run's folder, checked before use."""

import re
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp.errors import UserError
from interp.files import regular
from interp.result import Result

LARGEST = 2**20  # bytes of a configuration
LOOKUPS = tuple(f"hydra.utils.get_{kind}" for kind in ("class", "method", "object", "static_method"))
KINDS = ("torch.nn.", "torchvision.transforms.", "torchvision.datasets.")  # whose classes may be named, see `_harmless`


def read_yaml(path: Path) -> Any:
    """A YAML file as DictConfig or ListConfig, its interpolations as they stand; it can neither run anything nor grow.

    Raises UserError that names the file where it is too large, damaged, repeats itself by aliases or has Python tags.
    """
    try:
        if regular(path).stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ValueError("it has aliases (*name), which Hydra never writes and which can multiply without end")
        return OmegaConf.create(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split()) or type(error).__name__}") from error


def plain(config: Any, key: str) -> Any:
    """The plain value at a dotted `key`, through references such as ${name}; None where it is missing or computed."""
    for _ in range(9):  # references, which may form a circle
        node = OmegaConf.to_container(config) if OmegaConf.is_config(config) else config
        for name in key.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        if not (isinstance(node, str) and (reference := re.fullmatch(r"\$\{([\w.]+)\}", node))):
            return None if "${" in str(node) else node
        key = reference[1]
    return None


def settings(path: Path, groups: Iterable[str], given: Collection[str], trust: Collection[str]) -> DictConfig:
    """The configuration at `path`, whose `groups` name nothing in `_target_` that could do harm.

    Keys in `given` (such as data.root) are not looked at, since the user has set them. `trust` holds full names of
    classes, functions or their modules that are allowed beyond ours, or is "all". Raises UserError that names the key.
    """
    config = read_yaml(path)
    for group in groups:
        if not isinstance(config, DictConfig) or not isinstance(config.get(group), DictConfig):
            raise UserError(f"{path} has no {group}: give {group}=... yourself")
        if trust != "all":
            allowed = named(group)
            for key, value in _values(OmegaConf.to_container(config[group]), group):
                if key not in given:
                    _check(key, value, allowed, trust, path)
    return config


def _check(key: str, value: Any, allowed: Collection[str], trust: Collection[str], path: Path) -> None:
    if "${" in str(value):
        raise UserError(
            f"{key}={value} in {path} is not followed, since it could read your environment: give {key}=VALUE "
            "yourself, or trust=all if the run is your own"
        )
    if key.endswith("._target_") and value not in allowed and not _trusted(value, trust) and not _harmless(value):
        raise UserError(
            f"{key}={value} in {path} is refused: what comes with a checkpoint may name modules of torch.nn, "
            "transforms of torchvision, and what the YAML files on your search path name. If you know who wrote it, "
            f"give trust=[{value}]"
        )


def _values(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every value within `node` with its key; a look-up by Hydra is a `_target_` of what it looks up."""
    if isinstance(node, dict):
        if node.get("_target_") in LOOKUPS:
            node = {**node, "_target_": node.get("path")}
        for name, value in node.items():
            yield from _values(value, f"{key}.{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _values(value, f"{key}[{index}]")
    else:
        yield key, node


def named(group: str) -> set[str]:
    """Every `_target_` in the YAML files of a configuration group, in all folders of Hydra's search path."""
    from hydra.core.hydra_config import HydraConfig

    sources = [(source.schema, source.path) for source in HydraConfig.get().runtime.config_sources]
    roots = [resources.files(place) if kind == "pkg" else Path(place) for kind, place in sources if place]
    folders = [root / group for root in roots if (root / group).is_dir()]
    files = [file for folder in folders for file in folder.iterdir() if file.name.endswith(".yaml")]
    nodes = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    return {str(value) for node in nodes for key, value in _values(node, "") if key.endswith("._target_")}


def _trusted(name: Any, trust: Collection[str]) -> bool:
    """Whether the user has named it, or the module that it really lies in: not one that merely imports it."""
    if name in trust:
        return True
    if not any(str(name).startswith(f"{own}.") for own in trust):
        return False
    found = _resolved(name)
    real = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    return any(real.startswith(f"{own}.") for own in trust)


def _harmless(name: Any) -> bool:
    """Whether it is a class that only computes: of torch.nn, a transform, or a data set that is read without pickle."""
    if not str(name).startswith(KINDS):
        return False
    from torch import nn
    from torchvision.datasets import CIFAR10, MNIST

    found = _resolved(name)
    if not isinstance(found, type):
        return False
    computes = issubclass(found, nn.Module) and found.__module__.startswith("torch.nn.modules.")
    return computes or found.__module__.startswith("torchvision.transforms.") or issubclass(found, CIFAR10 | MNIST)


def _resolved(name: str) -> Any:
    from hydra.utils import get_object

    try:
        return get_object(name)
    except Exception:  # whatever the import of it raises: there is nothing to allow
        return None


def result_class(name: Any, trust: Collection[str] = ()) -> type[Result]:
    """The subclass of Result with this full name, imported where it is ours or lies in a module of `trust`.

    Raises UserError for others.
    """
    module, _, own = str(name).rpartition(".")
    if module not in {*trust, *sys.modules} and module.partition(".")[0] not in ("plugins", "interp"):
        raise UserError(f"the result is of class {name}, which is not ours: if you know it, give --trust {module}")
    try:
        found = getattr(import_module(module), own, None)
    except ImportError as error:
        raise UserError(f"the result is of class {name}, which is not here: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Result)):
        raise UserError(f"{name} is no interp.result.Result")
    return found
