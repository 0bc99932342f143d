"""A progress bar for renders that last, on a terminal only."""

import time
from collections.abc import Iterator

PATIENCE = 4.0  # seconds that a render may last without a bar


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
