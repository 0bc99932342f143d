"""Keys and passwords, hidden in whatever a run writes down."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from interp.files import replacing

HIDDEN = "(hidden)"
NAME = r"(?:api_?key|access_?key|passw(?:or)?d|secret|token|credentials?)"
_PLAIN = r"(?!null\b|None\b|\?\?\?|\$\{|\(hidden\))"  # what says nothing stays readable
_LINE = re.compile(rf"(?im)^([ \t-]*[\w.-]*{NAME}[ \t]*:[ \t]*){_PLAIN}\S.*$")
_ASSIGNED = re.compile(rf"(?i)([\w.-]*{NAME}[\"']?[ \t]*[:=][ \t]*){_PLAIN}(\"[^\"\n]*\"|'[^'\n]*'|[^\s,}}\])&]+)")
_IN_ADDRESS = re.compile(r"(://[^\s:/@]+:)[^\s@/]+@")


def hide(text: str) -> str:
    """`text` without what follows names such as api_key, without passwords in addresses and secrets of the environment.

    >>> hide("logger.wandb.api_key=abc +x={token: 12, size: 3} sqlite://me:pw@host")
    'logger.wandb.api_key=(hidden) +x={token: (hidden), size: 3} sqlite://me:(hidden)@host'
    """
    for value in _of_environment():
        text = text.replace(value, HIDDEN)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", _LINE.sub(rf"\1{HIDDEN}", text))
    return _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)


def _of_environment() -> list[str]:
    """Values of variables that are named like secrets, the longest first; short ones could be any word."""
    named = [value for key, value in os.environ.items() if re.search(rf"(?i)({NAME}|key)$", key)]
    return sorted((value for value in named if len(value) >= 8), key=len, reverse=True)


def hidden(node: Any) -> Any:
    """Nested dictionaries and lists with every secret hidden; references such as ${oc.env:NAME} stay as they are."""
    if isinstance(node, dict):
        return {key: HIDDEN if _secret(key, value) else hidden(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [hidden(value) for value in node]
    return hide(node) if isinstance(node, str) else node


def _secret(key: Any, value: Any) -> bool:
    return re.search(rf"(?i){NAME}$", str(key)) is not None and re.match(_PLAIN + r".", str(value)) is not None


def hide_in_files(*paths: Path) -> None:
    """Hide the secrets in YAML files of plain settings; others are not touched. Raises OSError."""
    for path in (path for path in paths if path.is_file()):
        own = OmegaConf.to_container(OmegaConf.load(path))
        if (clean := hidden(own)) != own:
            with replacing(path) as target:
                target.write_text(OmegaConf.to_yaml(OmegaConf.create(clean)))


class InLogs(logging.Filter):
    """Hides secrets in what a handler of `logging` is given."""

    def filter(self, record: logging.LogRecord) -> bool:
        """The record goes on, its message complete and its secrets hidden; without arguments that do not fit it.

        What a filter raises would end the call that logs; logging itself only reports such mistakes.
        """
        try:
            message = record.getMessage()
        except Exception as error:
            message = f"{record.msg} ({type(error).__name__} in the arguments of this message)"
        record.msg, record.args = hide(message), ()
        if record.exc_info:
            record.exc_text = hide(logging.Formatter().formatException(record.exc_info))
        return True


@contextmanager
def hidden_arguments() -> Iterator[None]:
    """Within, `sys.argv` shows no secrets: W&B writes it down."""
    own = sys.argv
    sys.argv = [hide(argument) for argument in own]
    try:
        yield
    finally:
        sys.argv = own
