"""How a render gets on: which pictures still gain, and a bar for renders that last, on a terminal only."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from interp.featurevis.canvas import Canvas

PATIENCE = 4.0  # seconds that a render may last without a bar
GLANCE = 8  # steps after which pictures are looked at as they are
SATURATED = 0.02  # of what a picture has gained in all: where `GLANCE` steps gain less, more of them draw noise


class Gains:
    """Which of the images of a canvas still gain; those that do not are left as they are."""

    def __init__(self, canvas: Canvas, start: Tensor, saturation: float) -> None:
        self.start = self.last = start  # (B,) objectives without transforms, before the first step and at the last look
        self.saturation = saturation
        self.moving = torch.ones_like(start, dtype=torch.bool)
        self.steps = torch.zeros_like(start, dtype=torch.int64)  # that have moved each

    @contextmanager
    def still(self, canvas: Canvas) -> Iterator[None]:
        """A step of the optimiser within moves no image that gains no more; what all images share it moves."""
        own = canvas.parameters[: canvas.own]
        kept = [parameter.detach()[~self.moving] for parameter in own]
        yield
        for parameter, before in zip(own, kept, strict=True):
            parameter.data[~self.moving] = before
        self.steps += self.moving

    def glance(self, values: Tensor) -> None:
        """Take in the objectives (B,) as they are now; an image that has gained nothing as yet goes on."""
        whole = values - self.start
        self.moving &= ~((whole > 0) & (values - self.last < self.saturation * whole))
        self.last = values


def steps_with_bar(count: int) -> Iterator[int]:
    """0 to `count` - 1; where the first steps predict more than PATIENCE seconds, a bar that goes when all are done.

    The first step does not count: it is longer than the others.
    """
    began = time.perf_counter()
    for step in range(count):
        if step == 1:
            began = time.perf_counter()
        if step == 3 and (time.perf_counter() - began) / 2 * count > PATIENCE and _interactive():
            yield from _drawn(step, count)
            return
        yield step


def _interactive() -> bool:
    from rich import get_console

    return get_console().is_interactive


def _drawn(first: int, count: int) -> Iterator[int]:
    from rich import get_console
    from rich.progress import Progress

    with Progress(console=get_console(), transient=True) as bar:
        task = bar.add_task("rendering", total=count, completed=first)
        for step in range(first, count):
            yield step
            bar.advance(task)
