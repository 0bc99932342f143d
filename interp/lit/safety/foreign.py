"""What somebody else may have written: configurations and class names out of a run's folder, checked before use."""

import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from interp.errors import NotBuilt, UserError
from interp.lit.safety.harmless import Examples, examples, is_library, own_of, resolved, source, takes, target
from interp.lit.safety.yaml_file import read_yaml
from interp.processes.memory import limited
from interp.result import Result

ALL, DOWNLOADS = ["all"], "interp.lit.data.torchvision.torchvision"
NAMES = (
    "name classes of torch.nn and torch.optim, transforms of torchvision, and what YAML files on your search path name"
)
SETTINGS = (
    "give the settings in its YAML file and plain numbers, none absurd, but no path, address, code or unknown text"
)


def settings(path: Path, groups: Iterable[str], given: Collection[str], trust: str | Collection[str]) -> DictConfig:
    """The configuration at `path`, whose `groups` call nothing that could do harm, and with harmless settings.

    Keys in `given` (such as data.root) are not looked at, since the user has set them. `trust` holds full names of
    classes, functions or their modules that are allowed beyond ours, with whatever settings, or is "all". Nothing that
    is not here is downloaded, unless data.download is in `given`. Raises UserError that names the key.
    """
    config, trust = read_yaml(path), names(trust)
    for group in groups:
        if not isinstance(config, DictConfig) or not isinstance(config.get(group), DictConfig):
            raise UserError(f"{path} has no {group}: give {group}=... yourself")
        if trust != ALL:
            config[group] = node = admitted(OmegaConf.to_container(config[group]), group, given, trust, path)
            if "_target_" not in node:
                raise UserError(f"{path} does not say what to call for {group}: give {group}=... yourself")
    return config


def admitted(
    node: Any, group: str, given: Collection[str], trust: str | Collection[str], path: Path, like: Any = None
) -> Any:
    """`node`, the `group` of a configuration that came with the file `path`, which must do no harm; no downloads.

    What it calls may also be what `like`, a configuration of the user's own, calls there. Raises UserError that names
    the key; see `settings`.
    """
    if names(trust) == ALL:
        return node
    _Door(path, examples(group, like), given, names(trust)).walk(node, group)
    if isinstance(node, dict) and source(node) == DOWNLOADS and "data.download" not in given:
        return {**node, "download": False}
    return node


def names(trust: str | Iterable[str]) -> list[str]:
    """`trust` as a list of full names, of one name or of many."""
    return [trust] if isinstance(trust, str) else [str(name) for name in trust]


@dataclass(frozen=True)
class _Door:
    path: Path
    known: Examples
    given: Collection[str]
    trust: list[str]

    def walk(self, value: Any, key: str) -> None:
        """Raise UserError for the first value in `value`, which stands at `key`, that is not let in."""
        if isinstance(value, dict | list):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            for name, item in inner:
                self.walk(item, f"{key}.{name}" if isinstance(value, dict) else f"{key}[{name}]")
            if "_target_" in value:
                self._call(cast(dict, value), key)
        elif "${" in str(value) and key not in self.given:
            raise UserError(
                f"{_printable(f'{key}={value}')} in {self.path} is not followed, since it could read your environment: "
                f"give {_printable(key)}=VALUE yourself, or trust=all if the run is your own"
            )

    def _call(self, node: dict[str, Any], key: str) -> None:
        name = target(node)
        if _trusted(name, self.trust):
            return
        if not (f"{key}._target_" in self.given or str(name) in self.known or is_library(name)):
            raise self._refused(f"{key}._target_", name, name, NAMES)
        arguments = own_of(node) if _trusted(source(node), self.trust) else node
        for argument in [argument for argument in arguments if argument != "_target_"]:
            place = f"{key}.{argument}"
            if place not in self.given and not takes(node, argument, self.known):
                raise self._refused(place, node[argument], name, SETTINGS)

    def _refused(self, place: str, value: Any, name: Any, allowed: str) -> UserError:
        place, value, name = _printable(place), _printable(value), _printable(name)
        return UserError(
            f"{place}={value} in {self.path} is refused: what comes with a checkpoint may {allowed}. If you know who "
            f"wrote it, give {f'{place}=... yourself, or ' if allowed == SETTINGS else ''}trust=[{name}]"
        )


def _printable(value: Any) -> str:
    """The first 100 characters of a value, in one line."""
    text = f"{value!s:.100}"
    return text if text.isprintable() else repr(text)


def _trusted(name: Any, trust: str | Iterable[str]) -> bool:
    """Whether the user has named it, or the module that it really lies in: not one that merely imports it."""
    given = names(trust)
    if name in given:
        return True
    if not any(str(name).startswith(f"{module}.") for module in given):
        return False
    callee = resolved(name)
    real = f"{getattr(callee, '__module__', '')}.{getattr(callee, '__qualname__', '')}"
    return any(real.startswith(f"{module}.") for module in given)


@contextmanager
def built_from(run: Path | None, trust: str | Collection[str]) -> Iterator[None]:
    """Within, data and network of the run in a folder are built, of somebody else's configuration.

    They take at most half of the free memory, whatever sizes stand there, and what goes wrong is a UserError, unless
    the user trusts in code of that run. Without a folder the configuration is the user's own.
    """
    if run is None or names(trust) == ALL:
        yield
        return
    try:
        with limited(fraction=0.5):
            yield
    except Exception as error:
        whole = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, MemoryError) or "allocate memory" in whole:
            raise UserError(
                f"data and model in {run}/.hydra/config.yaml take more than half of the free memory: give their sizes "
                "yourself, or trust=all if the run is your own"
            ) from error
        if names(trust) or (isinstance(error, UserError) and not isinstance(error, NotBuilt)):
            raise
        what = str(error) if isinstance(error, NotBuilt) else whole
        raise UserError(
            f"data and model in {run}/.hydra/config.yaml cannot be built ({what}): give data=... or model=... yourself"
        ) from error


def result_class(name: Any, trust: str | Collection[str] = ()) -> type[Result]:
    """The subclass of Result with this full name, imported where it is ours or lies in a module of `trust`.

    Raises UserError for others.
    """
    module, _, class_name = str(name).rpartition(".")
    if module not in {*names(trust), *sys.modules} and module.partition(".")[0] not in ("plugins", "interp"):
        raise UserError(
            f"the result is of class {name}, which is not ours: if you know it, give --trust {module} "
            f"(in Python trust=[{module!r}])"
        )
    try:
        kind = getattr(import_module(module), class_name, None)
    except ImportError as error:
        raise UserError(f"the result is of class {name}, which is not here: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Result)):
        raise UserError(f"{name} is no interp.result.Result")
    return kind
