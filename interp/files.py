"""Files that are whole or absent: written beside their target, flushed, renamed; and read only if they end."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST = 2**28  # bytes of a text or a picture that is read whole


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new path beside `path` to write to; it takes the place of `path` only if the body succeeds.

    The temporary file lies in the target's own folder, so that the rename cannot cross file systems. It gets the
    permissions of any new file, whoever writes it. Raises OSError (read-only folder, full disk), which says what of a
    full disk is used up; an earlier file at `path` is then left as it was.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with on_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.touch()
            permissions = beside.stat().st_mode
            yield beside
            beside.chmod(permissions)  # safetensors makes a file of its own, for its owner alone
            flush(beside)
            beside.replace(path)
            flush(path.parent)  # the new name, too, must outlive a power cut
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Let an OSError of a full disk say what is used up where `path` lies: bytes, or files."""
    try:
        yield
    except OSError as error:
        if (told := explained(error, path)) is error:
            raise
        raise told from error


def explained(error: OSError, path: Path) -> OSError:
    """The error of a full disk with what is used up where `path` lies; any other as it is, and one that says it."""
    if error.errno != errno.ENOSPC or error.strerror != os.strerror(errno.ENOSPC):
        return error
    return OSError(error.errno, f"{error.strerror} ({disk(path)})", error.filename or str(path))


def disk(path: Path) -> str:
    """Where the disk of `path` is mounted, and how full it is: in bytes, or in files where it has room for no more."""
    place = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    mount = next(folder for folder in (place, *place.parents) if os.path.ismount(folder))
    inodes = os.statvfs(place) if hasattr(os, "statvfs") else None
    if inodes and inodes.f_files and not inodes.f_favail:
        return f"the disk at {mount} takes no more files: all {inodes.f_files} inodes are used"
    usage = shutil.disk_usage(place)
    return f"the disk at {mount} has {usage.free / 2**20:.1f} of {usage.total / 2**20:.1f} MiB free"


def readable(text: str) -> str:
    r"""The text with what UTF-8 does not hold written out: names of files and folders may be any bytes.

    >>> readable("caf\udce9")
    'caf\\udce9'
    """
    return text.encode(errors="backslashreplace").decode()


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
    """Wait until a file's bytes, or a folder's names, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
