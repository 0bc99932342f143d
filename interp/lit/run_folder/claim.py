"""A folder belongs to one run at a time: claimed before anything is written, given back when the run has ended.

`.run.json` says whose it is and how that ended, and is locked while the run goes on: so a run that goes on is told
apart from what a killed one has left. Imports nothing heavy.
"""

import json
import logging
import os
import shutil
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.lit.run_folder.lock import Lock
from interp.lit.run_folder.rank import first_process
from interp.lit.run_folder.remains import FILE, PARTS, about, half_written, results, set_aside

log = logging.getLogger(__name__)
HOLDS = "EPOCHSCOPE_HOLDS"  # tells the processes that a run starts which folder is theirs


class Claim:
    """A folder that this process holds, what stood in it before, and whether its run has begun to train or to study."""

    def __init__(self, path: Path, made: list[Path], lock: Lock, owner: object) -> None:
        self.path, self.made, self.lock = path, made, lock
        self.owner = None if owner is None else weakref.ref(owner)
        if owner is None:
            os.environ[HOLDS] = str(path)
        kept = [path / FILE, *(path / ".hydra").glob("*.yaml")]
        self.kept = {file: file.read_bytes() for file in kept if file.is_file() and not file.is_symlink()}
        self.kept = {file: content for file, content in self.kept.items() if content}  # the lock makes an empty one
        self.before = {file.name for file in path.iterdir() if file not in (lock.path, lock.mark)}
        self.earlier = about(path)
        self.about: dict[str, Any] = {}

    def write(self, **about: Any) -> None:
        """Write down whose the folder is, or how that run has ended. Raises OSError."""
        self.about |= about
        self.lock.write(json.dumps(self.about, indent=1).encode())

    def begin_with(self, command: str) -> None:
        """Write down whose the folder is from now on, and take away what killed processes have half written there."""
        whose = {"command": command, "pid": os.getpid(), "host": socket.gethostname(), "began": time.strftime("%F %T")}
        job, earlier = os.environ.get("SLURM_JOB_ID"), self.earlier.get("ended")
        self.write(**whose, job=job, earlier=earlier, ended="", begun=False)
        for file in half_written(self.path):
            file.unlink(missing_ok=True)

    def give_back(self, ended: str) -> None:
        """Let others have the folder; `ended` is how the run did: finished or failed."""
        try:
            self.write(**about(self.path) | {"ended": ended})
        except OSError as error:
            log.warning("%s does not say that the run has %s: %s", self.lock.path, ended, error.strerror)
        self.release()

    def withdraw(self) -> None:
        """Take away what this command has made in the folder, put back what it has written over, and give it back."""
        new = [file for file in self.path.iterdir() if file.name not in self.before]
        ours = {FILE, self.lock.mark.name, ".hydra", "results", *PARTS}
        if all(file.name in ours or file.suffix == ".log" for file in new):  # else somebody else has put things there
            for file in new:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.lock.path.unlink(missing_ok=True)
        for file, content in self.kept.items():
            file.write_bytes(content)
        with suppress(OSError):  # not empty
            for folder in self.made:
                folder.rmdir()
        self.release()

    def release(self) -> None:
        """Let others have the folder, without a word."""
        _held.pop(self.path, None)
        if os.environ.get(HOLDS) == str(self.path):
            del os.environ[HOLDS]
        self.lock.release()


_held = dict[Path, Claim]()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)


def take(folder: Path, command: str, owner: object = None) -> Claim:
    """Claim `folder`, which is made where it is missing, and clear away what killed processes have half written there.

    `owner` is the trainer where it is no command of ours. Raises UserError while another run goes on there, OSError
    where it cannot be written.
    """
    path = folder.resolve()
    otherwise = "choose another output=FOLDER" if owner is None else "give this Trainer another default_root_dir"
    if path in _held:
        raise UserError(f"{folder} is in use by another run of this process: {otherwise}")
    if (path / FILE).is_symlink():  # a stranger's could lead to your files
        raise UserError(f"{folder / FILE} is a link: delete it, or {otherwise}")
    new_folders = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        claim = _held[path] = Claim(path, new_folders, Lock(path / FILE), owner)
    except BlockingIOError as error:
        raise UserError(f"{folder} is in use by {_whose(path)}: wait for it to end, or {otherwise}{error}") from None
    try:
        claim.begin_with(command)
    except BaseException:
        claim.withdraw()
        raise
    return claim


def _whose(folder: Path) -> str:
    known = about(folder)
    process = f"process {known.get('pid')} on {known.get('host')}, since {known.get('began')}"
    return f"{known.get('command', 'another run')} ({process})"


@contextmanager
def held(folder: Path, command: str, goes_on: bool = False) -> Iterator[None]:
    """Within, `folder` is this run's alone; what an earlier one has left there is set aside unless this one `goes_on`.

    Of several processes of one run the first holds it for all. A run that is refused before it begins leaves nothing.
    """
    if not first_process():
        yield
        return
    claim, ended = _held.get(folder.resolve()) or take(folder, command), "failed"
    try:
        if not goes_on:
            set_aside(claim.path, [*(claim.path / part for part in PARTS), *results(claim.path)])
        yield
        ended = "finished"
    except UserError:
        withdraw(claim.path)
        raise
    finally:
        if claim.path in _held:
            claim.give_back(ended)


def end(folder: Path) -> None:
    """Give back a folder that was claimed without `held`."""
    if claim := _held.get(folder.resolve()):
        claim.give_back("finished")


def begin(folder: Path) -> None:
    """From now on `folder` stays, however the run ends; said by the process that trains: its holder or a child."""
    if not begun(folder):
        with suppress(OSError):  # a full disk, for one, is told by what needs it
            (folder / FILE).write_text(json.dumps(about(folder) | {"begun": True}, indent=1))


def begun(folder: Path) -> bool:
    """Whether the run in `folder` has begun to train or to study."""
    return bool(about(folder).get("begun"))


def withdraw(folder: Path | None = None) -> None:
    """Leave nothing in `folder`, or in any, of a command that was refused, or had nothing to do, before it began."""
    for claim in list(_held.values()):
        if folder in (None, claim.path) and not begun(claim.path):
            claim.withdraw()


def join(folder: Path, trainer: object) -> bool:
    """Claim `folder` for all studies of a trainer; whether that is new, and no command of ours holds it.

    Raises UserError where another trainer or run goes on there.
    """
    claim = _held.get(folder.resolve())
    if claim is not None and claim.owner is not None and claim.owner() is None:  # that trainer is gone
        claim.give_back("failed")
        claim = None
    if claim is not None and (claim.owner is None or claim.owner() is trainer):
        return False
    if os.environ.get(HOLDS) == str(folder.resolve()):  # the process that has started this one holds it
        return False
    take(folder, "a Trainer", trainer)
    return True


def leave(folder: Path, trainer: object) -> None:
    """Give back what `join` has claimed."""
    claim = _held.get(folder.resolve())
    if claim is not None and claim.owner is not None and claim.owner() is trainer:
        if claim.lock.path not in claim.kept:
            claim.lock.path.unlink()
        claim.release()
