"""A file that one process at a time holds, and that tells who: by flock, which ends with the process however that ends.

Where a file system has no locks, a second file beside it, which only one process can make, names process and machine.
"""

import os
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STARTING = 60.0  # seconds after which a mark without a word in it is not that of a process that begins
_locks = weakref.WeakSet["Lock"]()


class Lock:
    """Holds `path`, which is made where it is missing, until `release`.

    Raises BlockingIOError while another process holds it, OSError where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.mark = path, path.with_suffix(".lock")
        self.marked = False
        while True:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._acquire()
            except BlockingIOError:
                os.close(self.file)
                raise
            with suppress(FileNotFoundError):  # who held it has just taken it away
                if os.path.samestat(os.fstat(self.file), path.stat()):
                    break
            os.close(self.file)
        _locks.add(self)

    def _acquire(self) -> None:
        try:
            if fcntl is None:
                raise OSError("no locks")
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError("") from None
        except OSError:
            self._make_mark()

    def _make_mark(self) -> None:
        while not self.marked:
            try:
                with self.mark.open("x") as file:
                    file.write(f"{os.getpid()} {socket.gethostname()}")
                self.marked = True
            except FileExistsError:
                if _lives(self.mark):
                    raise BlockingIOError(f"; if it has ended, delete {self.mark}") from None
                self.mark.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Replace what the file holds, in place: another file would not be locked. Raises OSError."""
        os.ftruncate(self.file, 0)
        os.lseek(self.file, 0, os.SEEK_SET)
        os.write(self.file, content)

    def release(self) -> None:
        """Let other processes have it."""
        if self.marked:
            self.mark.unlink(missing_ok=True)
        _locks.discard(self)
        os.close(self.file)


def _lives(mark: Path) -> bool:
    """Whether the process that made the mark may still run; of another machine's nobody here can tell."""
    try:
        process, machine = mark.read_text().split()
        if machine == socket.gethostname():
            os.kill(int(process), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except ValueError:  # not yet written, or never
        return time.time() - mark.stat().st_mtime < STARTING
    except PermissionError:  # somebody else's process
        return True
    return True


def _let_go() -> None:
    """A child made by fork shares its parent's locks, which would outlive the parent."""
    for lock in list(_locks):
        os.close(lock.file)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
