"""Studies and pictures are made of parts: one that fails is left out, with the reason, and costs no other."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from textwrap import shorten
from typing import TypeVar

import torch

from interp.errors import UserError
from interp.network.quiet import Disturbed
from interp.processes.exchange import PeerFailed

log = logging.getLogger(__name__)
T = TypeVar("T")
WHOLE = (torch.OutOfMemoryError, Disturbed, PeerFailed)  # these concern the whole study


def attempt(left_out: list[str], name: str, make: Callable[[], T], *, settings: bool = True) -> T | None:
    """What `make` returns; None where it raises, and then `left_out` gets the name and the reason.

    Raises what concerns the whole study: memory, other processes and, where the part depends on `settings` that the
    user has chosen, UserError.
    """
    try:
        return make()
    except Exception as error:
        _note(left_out, name, error, settings)
        return None


def each_of(left_out: list[str], makers: Mapping[str, Callable[[], T]], *, settings: bool = True) -> dict[str, T]:
    """What each of the `makers` returns, by name, as `attempt` has it; raises the first error where all fail."""
    results, errors = dict[str, T](), list[Exception]()
    for name, make in makers.items():
        try:
            results[name] = make()
        except Exception as error:
            _note(left_out, name, error, settings)
            errors.append(error)
    if errors and not results:
        raise errors[0]
    return results


def of_those_that_can(
    left_out: list[str], names: list[str], make: Callable[[list[str]], T], *, settings: bool = True
) -> tuple[list[str], T]:
    """The `names` and what `make` returns for all of them at once; where it raises, of those for which it does not.

    Raises the first error where it raises for each alone, and what `attempt` raises.
    """
    try:
        return names, make(names)
    except Exception as error:
        if len(names) < 2:
            raise
        _note([], "", error, settings)
    able = list(each_of(left_out, {name: partial(make, [name]) for name in names}, settings=settings))
    return able, make(able)


def _note(left_out: list[str], name: str, error: Exception, settings: bool) -> None:
    if isinstance(error, WHOLE) or (settings and isinstance(error, UserError)):
        raise error
    log.debug("%s is left out", name, exc_info=error)
    left_out.append(f"{name} ({reason(error)})")


def reason(error: Exception) -> str:
    """The error in one short line."""
    text = shorten(str(error), 200, placeholder=" ...")
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def omissions(left_out: list[str] | tuple[str, ...]) -> str:
    """A sentence, with a space before it, on what is left out; '' where nothing is."""
    return f" Left out: {'; '.join(left_out)}." if left_out else ""


def drawn(kind: str, makers: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """What each of the `makers` returns, by name; one that raises is reported with its traceback and left out."""
    results = {}
    for name, make in makers.items():
        try:
            results[name] = make()
        except Exception as error:
            log.warning("the %s %s is left out: %s", kind, name, reason(error), exc_info=error)
    return results
