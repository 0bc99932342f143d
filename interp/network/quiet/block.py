"""Look at a network without disturbing it: what is done within `with quiet(net):` is undone when the block ends.

Not undone: warning filters (imports extend them for good), lists among attributes, changes to classes, what others own.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from textwrap import shorten

import torch
from torch import nn

from interp.network.quiet.kept import Leftovers
from interp.network.quiet.state import state
from interp.network.quiet.switches import streams, switches

_Report = Callable[[list[str]], None]
_Pass = Callable[[], object]  # a forward pass


class Disturbed(RuntimeError):
    """Something could not be put back as it was: training must not go on."""


@contextmanager
def quiet(
    net: nn.Module, *, seed: int = 0, report: _Report | None = None, backup: bool = True, plain: _Pass | None = None
) -> Iterator[nn.Module]:
    """Yield `net` in eval mode, not compiled, without autocast, gradients possible, random numbers from `seed`.

    Reentrant checkpoints, through which most gradients do not pass, are not made. Afterwards all is as before:
    gradients, which are set aside meanwhile, and with `backup` weights and buffers too. `report` gets what the block
    left changed, else one warning tells; nothing is told of what `plain`, one forward pass, changes by itself: counters
    and caches of the network. Raises Disturbed if something is not restored.
    """
    leftovers, failed = Leftovers(), list[Exception]()
    with ExitStack() as stack:
        stack.callback(_tell, leftovers, failed, report, partial(_by_itself, net, plain) if plain else dict)
        stack.enter_context(_undone(net, seed, backup, leftovers, failed))
        yield net


@contextmanager
def _undone(net: nn.Module, seed: int, backup: bool, leftovers: Leftovers, failed: list[Exception]) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # Lightning validates in it, and enable_grad does not end it
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        for rows in (streams(seed), switches(), state(net, backup)):
            for kept in rows:
                for _ in range(2):  # the second goes on where Ctrl-C ended the first
                    stack.callback(kept.undo, leftovers, failed)
                kept.enter()
        yield


def _by_itself(net: nn.Module, plain: _Pass) -> Leftovers:
    """What a `plain` forward pass leaves changed."""
    leftovers, failed = Leftovers(), list[Exception]()
    with _undone(net, 0, True, leftovers, failed), torch.no_grad(), suppress(Exception):  # if it cannot run: nothing
        plain()
    _tell({}, failed, None, dict)
    return leftovers


def _tell(
    leftovers: Leftovers, failed: list[Exception], report: _Report | None, by_itself: Callable[[], Leftovers]
) -> None:
    if failed:
        raise Disturbed(f"not restored: {'; '.join(map(repr, failed))}") from failed[0]
    changes = _worded(leftovers, by_itself()) if leftovers else []
    if changes and report:
        report(changes)
    elif changes:
        warnings.warn(f"left behind and undone: {'; '.join(changes)}", stacklevel=2)


def _worded(leftovers: Leftovers, usual: Leftovers) -> list[str]:
    """A line for each thing left behind, the first that was kept first, without what is `usual`."""
    unusual = {of: [name for name in names if name not in usual.get(of, ())] for of, names in leftovers.items()}
    return [
        wording.format(owners=shorten(", ".join(reversed(owners)), 99), value=value)
        for (wording, value), owners in reversed(unusual.items())
        if owners
    ]
