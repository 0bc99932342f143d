"""Errors that a user can mend: they name what was given, what exists and the nearest name."""

import site
import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

HERE = [str(Path(__file__).parents[1] / name) for name in ("conf", "interp", "plugins")]
ELSEWHERE = (*HERE, "<", sysconfig.get_path("stdlib"), *site.getsitepackages())


class UserError(ValueError):
    """Something in the user's settings or data is wrong; the message alone is enough to mend it.

    The entry points print it without a traceback and exit with code 1. What a loader's worker process raised, torch
    raises again with the worker's traceback in its message: this is left out.

    >>> print(UserError("Caught UserError in DataLoader worker.\\nTraceback ...\\ninterp.errors.UserError: no layer"))
    no layer
    """

    def __init__(self, message: str = "") -> None:
        _, _, last = message.rpartition(f"{UserError.__module__}.{UserError.__qualname__}: ")
        super().__init__(last.strip() if message.startswith("Caught UserError in ") else message)


class NotBuilt(UserError):
    """The code that a node of the configuration names raised, where it was to build data, a network or another part."""


def unknown(kind: str, name: str, options: Iterable[str], owner: str = "", hint: str = "") -> UserError:
    """The error for a `name` that is none of the `options`; `owner` says whose options they are.

    >>> str(unknown("layer", "layr2", ["layer1", "layer2"], owner="ResNet"))
    "no layer 'layr2' in ResNet; did you mean 'layer2'? It has: layer1, layer2"
    """
    name, options = str(name), list(options)
    shown = ", ".join(options[:40]) + (f", ... ({len(options)} in all)" if len(options) > 40 else "")
    near = get_close_matches(name, options, n=1, cutoff=0.5)
    did_you_mean = f"did you mean {near[0]!r}? " if near else ""
    place = f" in {owner}" if owner else ""
    listing = f"{'It has' if owner else 'Choose from'}: {shown}" if options else "there are none"
    return UserError(f"no {kind} {name!r}{place}; {did_you_mean}{listing}" + (f". {hint}" if hint else ""))


def reason(error: BaseException) -> str:
    """The error in one line, with the place in the user's own code where there is one."""
    frames = [at for at in traceback.extract_tb(error.__traceback__) if not at.filename.startswith(ELSEWHERE)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text, kind = " ".join(str(error).split()), type(error).__name__
    return f"{text if kind in text else f'{kind}: {text}'}{place}"
