"""Keys and passwords, hidden in whatever a run writes down or prints.

What has the form of a secret is hidden wherever it stands (`interp.lit.safety.secret_forms`). The values under names
such as api_key, the passwords in addresses and secrets of the environment are also remembered, from the command line
and the composed configuration, and hidden as they are: with spaces, escaped, quoted, encoded.
"""

import html
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp.files import replacing
from interp.lit.safety.secret_forms import HIDDEN, hide_forms, is_secret, passwords
from interp.lit.terminal import visible

LONG = 8  # characters: a shorter value is hidden as a whole word alone, or not remembered
_remembered: set[str] = set()


def remember(value: Any) -> None:
    """Hide this value wherever it stands from now on, unless it is so short that it could be any word."""
    bare = re.sub(r"(?i)^\s*(?:basic|bearer|digest|token)\s+", "", str(value)).strip()
    for text in {str(value), bare, unquote(bare)}:
        if len(text) >= LONG or (len(text) >= 5 and not re.fullmatch(r"[^\W\d_]+|[\d.eE+-]+", text)):
            _remembered.add(text)


def remember_all(node: Any, secret: bool = False) -> None:
    """Remember what stands under secret names in nested dictionaries and lists, and passwords in addresses."""
    if isinstance(node, dict):
        for name, value in node.items():
            remember_all(value, secret or is_secret(name, value))
    elif isinstance(node, list | tuple):
        for value in node:
            remember_all(value, secret)
    elif isinstance(node, str | int | float) and not isinstance(node, bool):
        for value in [node] * secret + list(passwords(str(node))):
            remember(value)


def remember_configuration(config: Any) -> None:
    """The same of a configuration as it is composed, references resolved where they can be."""
    remember_all(OmegaConf.to_container(config))
    for name in config:
        with suppress(OmegaConfBaseException):  # a reference that leads nowhere is for whoever reads it
            node = config[name]
            remember_all({name: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node})


def remember_arguments(arguments: list[str]) -> None:
    """The same of overrides on a command line, as they stand there and as Hydra reads them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for argument in arguments:
        name, _, value = argument.partition("=")
        if is_secret(name, value):
            remember(value)
            remember(value.strip("'\""))
        remember_all(value)
        with suppress(HydraException):  # told by Hydra itself, when it reads them
            override = OverridesParser.create().parse_override(argument)
            values = override.sweep_iterator() if override.is_discrete_sweep() else [override.value()]
            for item in values:
                remember_all({name: getattr(item, "text", item)})  # a quoted text, among several


def hide(text: str) -> str:
    """`text` without what follows names such as api_key, passwords in addresses, private keys and remembered values.

    >>> hide("logger.wandb.api_key=abc +x={token: 12, size: 3} sqlite://me:pw@host")
    'logger.wandb.api_key=(hidden) +x={token: (hidden), size: 3} sqlite://me:(hidden)@host'
    """
    known = frozenset(_remembered | _of_environment(tuple(os.environ.items())))
    return hide_forms(_pattern(known).sub(HIDDEN, text) if known else text)


@lru_cache(maxsize=4)
def _of_environment(variables: tuple[tuple[str, str], ...]) -> set[str]:
    """Values of variables that are named like secrets, and passwords in addresses; short ones could be any word."""
    pairs = [(name, value) for name, value in variables if name not in ("PWD", "OLDPWD")]
    named = {value for name, value in pairs if name.upper().endswith("KEY") or is_secret(name, value)}
    return {value for value in named.union(*(passwords(value) for _, value in pairs)) if len(value) >= LONG}


@lru_cache(maxsize=4)
def _pattern(values: frozenset[str]) -> re.Pattern[str]:
    """Any of these texts, the longest first, however it is quoted and escaped; short ones as whole words."""
    forms = {value: "".join(map(_any_form, value)) for value in sorted(values, key=len, reverse=True)}
    return re.compile("|".join(form if len(v) >= LONG else rf"(?<!\w){form}(?!\w)" for v, form in forms.items()))


def _any_form(character: str) -> str:
    r"""A pattern of a character as it is, after backslashes, and as addresses, HTML, JSON and YAML write it."""
    if re.fullmatch(r"[A-Za-z0-9_]", character):
        return character
    if character.isspace():
        return r"(?:\\*\s+|\\+[nrt]|\+|%20|%0[9AD])"
    code = ord(character)
    forms = [character, quote(character, safe=""), html.escape(character), f"&#{code};", f"&#x{code:x};"]
    forms += ["''"] if character == "'" else []
    escaped = [f"x{code:02x}", f"u{code:04x}", f"U{code:08x}"]
    return rf"(?:\\*(?:{'|'.join(dict.fromkeys(map(re.escape, forms)))})|\\+(?i:{'|'.join(escaped)}))"


def hidden(node: Any) -> Any:
    """Nested dictionaries and lists with every secret hidden; references such as ${oc.env:NAME} stay as they are."""
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    if isinstance(node, dict):
        return {key: HIDDEN if is_secret(key, value) else hidden(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [hidden(value) for value in node]
    return _hidden_text(node) if isinstance(node, str) else node


def _hidden_text(text: str) -> str:
    """A text that may be an override, of which the whole value is hidden: it may have spaces and commas."""
    name, equals, value = text.partition("=")
    return f"{name}={HIDDEN}" if equals and is_secret(name, value) else hide(text)


def hide_in_files(*paths: Path) -> None:
    """Hide the secrets in YAML files of plain settings; others are not touched. Raises OSError."""
    for path in (path for path in paths if path.is_file()):
        own = OmegaConf.to_container(OmegaConf.load(path))
        if (clean := hidden(own)) != own:
            with replacing(path) as target:
                target.write_text(OmegaConf.to_yaml(OmegaConf.create(clean)))


class InLogs(logging.Filter):
    """Hides secrets and writes control characters out in what a handler of `logging` is given."""

    def filter(self, record: logging.LogRecord) -> bool:
        """The record goes on, its message complete and its secrets hidden; without arguments that do not fit it.

        What a filter raises would end the call that logs; logging itself only reports such mistakes.
        """
        try:
            message = record.getMessage()
        except Exception as error:
            message = f"{record.msg} ({type(error).__name__} in the arguments of this message)"
        record.msg, record.args = visible(hide(message)), ()
        if record.exc_info:
            record.exc_text = visible(hide(logging.Formatter().formatException(record.exc_info)))
        record.stack_info = record.stack_info and visible(hide(record.stack_info))
        return True


def hide_in_logs() -> None:
    """Have every handler of the root logger hide secrets."""
    for handler in logging.root.handlers:
        handler.addFilter(_in_logs)  # which does nothing the second time


_in_logs, _streams_hide = InLogs(), False


@contextmanager
def hidden_arguments() -> Iterator[None]:
    """Within, `sys.argv` shows no secrets: W&B writes it down."""
    arguments = sys.argv
    sys.argv = [_hidden_text(argument) for argument in arguments]
    try:
        yield
    finally:
        sys.argv = arguments


def hide_in_streams(again: bool = False) -> None:
    """Have whatever is printed from now on, tracebacks of Python itself included, go through `hide`.

    W&B wraps the same method for a copy of its own: once it has, do it `again` (if ever), and the copy has none either.
    """
    global _streams_hide
    _streams_hide = _streams_hide or not again
    for stream in filter(None, (sys.stdout, sys.stderr)):
        write = stream.write
        if _streams_hide and not hasattr(write, "hides"):
            stream.write = partial(_write, write)
            stream.write.hides = True


def _write(write: Callable[[str], int], text: str) -> int:
    write(hide(text) if isinstance(text, str) else text)
    return len(text)
