"""Files that are whole or absent: written beside their target, flushed, renamed; and read only if they end."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new path beside `path` to write to; it takes the place of `path` only if the body succeeds.

    The temporary file lies in the target's own folder, so that the rename cannot cross file systems. Raises OSError
    (read-only folder, full disk); an earlier file at `path` is then left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        flush(beside)
        beside.replace(path)
        flush(path.parent)  # the new name, too, must outlive a power cut
    finally:
        beside.unlink(missing_ok=True)


def inside(path: Path, folder: Path) -> bool:
    """Whether `path` lies in `folder` when links are followed: a stranger's may lead to your files."""
    return path.resolve().is_relative_to(folder.resolve())


def regular(path: Path) -> Path:
    """`path` itself, of a regular file. Raises OSError where there is none, or a folder, FIFO, socket or device.

    Those that somebody left under a file's name would hang whoever opens them, or never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return path


def flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
