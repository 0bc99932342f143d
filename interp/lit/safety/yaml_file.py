"""A YAML file that somebody else may have written, read so that it can neither run anything nor grow."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp.errors import UserError
from interp.files import regular
from interp.lit.renamed import with_new_names

CONFIGURATION_BYTES, CONFIGURATION_LEVELS = 2**20, 50


def read_yaml(path: Path) -> Any:
    """A YAML file as DictConfig or ListConfig, its interpolations as they stand; it can neither run anything nor grow.

    What an earlier version called by another name has its new one.

    Raises UserError that names the file where it is too large, damaged, repeats itself by aliases or has Python tags.
    """
    try:
        text = regular(path, CONFIGURATION_BYTES).read_text(encoding="utf-8")
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader))
        return OmegaConf.create(with_new_names(OmegaConf.to_container(OmegaConf.create(text))))
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _check_events(events: Iterable[yaml.Event]) -> None:
    """Raise ValueError where a YAML file, as far as it is read, has aliases or is nested without end."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases (*name), which Hydra never writes and which can multiply without end")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > CONFIGURATION_LEVELS:  # 5,000 levels took the parser 20 seconds
            raise ValueError(f"it is nested more than {CONFIGURATION_LEVELS} levels deep")


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
