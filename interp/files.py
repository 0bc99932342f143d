"""Files that are whole or absent: written beside their target, flushed, renamed; and read only if they end."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST = 2**28  # bytes of a text or a picture that is read whole


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


def regular(path: Path, most: int | None = None) -> Path:
    """`path` itself, of a regular file with at most so many bytes. Raises OSError for anything else.

    A FIFO, socket or device that somebody left under a file's name would hang whoever opens it, or never end, and a
    sparse file costs nothing until it is read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    if most is not None and found.st_size > most:
        raise OSError(errno.EFBIG, f"has more than {most:,} bytes", str(path))
    return path


def flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
