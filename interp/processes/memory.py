"""How much memory there is, and code that may not take it all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def free() -> int | None:
    """Bytes that are free on this machine, or in its control group if that has less; None where Linux does not say."""
    amounts = []
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        amounts += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # the word "max": no limit
        amounts.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(amounts, default=None)


@contextmanager
def limited(fraction: float) -> Iterator[None]:
    """Within, taking more than a fraction of the free memory raises MemoryError, or torch's RuntimeError.

    The kernel holds it (RLIMIT_AS), so that nothing is filled first; where it does not, as on macOS, there is no limit.
    """
    amount = free()
    if amount is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[0])
    limit = taken + int(fraction * amount)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
