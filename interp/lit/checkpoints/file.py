"""The file of a checkpoint: whole or absent, with a checksum that is looked at.

`torch.save` writes a zip archive, and `torch.load` looks at none of its checksums: flipped bits in the weights load
silently. The comment that a zip archive may end with holds the SHA-256 of all bytes before it: one file, which can be
renamed and copied, and which every reader of zip archives, torch.load too, takes as before.
"""

import hashlib
import os
import struct
import zipfile
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import torch

from interp.errors import UserError
from interp.files import explained, replacing

TAG, DIGITS = b"sha256=", 64


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write beside `path`, flush to the disk, rename; an earlier checkpoint there stays until the new one is whole.

    Raises UserError that names the disk where the file system refuses (full, read-only).
    """
    try:
        with replacing(path) as beside:
            with beside.open("wb") as file:  # given a path, torch hides what the disk said
                torch.save(checkpoint, file)
                file.seek(-2, os.SEEK_END)
                file.write(struct.pack("<H", len(TAG) + DIGITS) + TAG)  # the length of the archive's comment
            with beside.open("ab") as file:
                file.write(_digest(beside))
    except (OSError, RuntimeError) as error:
        if (refusal := _refusal(error)) is None:
            raise
        kept = f" {path} is still the one before, and whole." if path.is_file() else ""
        raise UserError(f"cannot write the checkpoint {path}: {explained(refusal, path).strerror}.{kept}") from error


def _refusal(error: BaseException | None) -> OSError | None:
    """The OSError behind torch's own error."""
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error


def _digest(path: Path, end: int | None = None) -> bytes:
    """Hexadecimal digits of the SHA-256 of a file's bytes up to `end`."""
    with (
        path.open("rb") as file,
        mmap(file.fileno(), 0, access=ACCESS_READ) as content,
        memoryview(content) as whole,
        whole[:end] as part,
    ):
        return hashlib.sha256(part).hexdigest().encode()


def matches_checksum(path: Path) -> bool | None:
    """Whether a checkpoint is what was written; None where it has no checksum (older, foreign or cut off)."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(TAG) - DIGITS))
        tag, digits = file.read(len(TAG)), file.read()
    return _digest(path, -DIGITS) == digits if tag == TAG else None


def check_archive(path: Path) -> None:
    """Raise ValueError or BadZipFile where a zip archive would unpack to more than its file holds.

    `torch.save` never deflates, and `torch.load` takes what is: 2 MB became 2.6 GB. Files in torch's older format are
    no archives and pass.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # by this torch tells the formats apart
            return
    with zipfile.ZipFile(path) as archive:
        entries, room = archive.infolist(), path.stat().st_size
        end: list = zipfile._EndRecData(archive.fp)  # type: ignore[attr-defined]  # of which readers take different parts
        if archive.start_dir != end[zipfile._ECD_OFFSET]:  # type: ignore[attr-defined]
            raise ValueError("its directory is not where it says")
    for entry in entries:
        room -= entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or room < 0:
            raise ValueError(f"{entry.filename} is deflated or larger than the file, which torch.save never writes")


def whole_beside(path: Path) -> str:
    """What to say of the checkpoints in the folder of `path` that can be used in its place."""
    others = [other for other in sorted(path.parent.glob("*.ckpt")) if other != path and other.is_file()]
    whole = [other.name for other in others if matches_checksum(other)]
    return f"; whole in {path.parent}: {', '.join(whole)}" if whole else "; no other in its folder is known to be whole"
