"""What a W&B run wrote into its own file, online or offline: LevelDB's log format around protocol buffers."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32 * 1024, 7
FULL, LAST = 1, 4


def files(folder: Path) -> list[Path]:
    """The files of the W&B runs of the harness's runs in `folder` and below, the oldest first."""
    paths = [path for wandb in sorted(Path(folder).rglob("wandb")) for path in wandb.glob("*run-*/run-*.wandb")]
    return sorted(filter(Path.is_file, paths), key=lambda path: path.parent.name.removeprefix("offline-"))


def records(path: Path) -> Iterator[Any]:
    """The records of a file, in order, as `wandb.proto.wandb_internal_pb2.Record`; what a kill has torn is left out."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made when it is imported

    return map(Record.FromString, _chunks(path.read_bytes()))


def history(path: Path) -> Iterator[dict[str, Any]]:
    """Every row that was logged; what belongs to a picture, a widget or a table is under `key/path` and the like."""
    for record in records(path):
        if record.HasField("history"):
            items = record.history.item
            yield {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


def kinds(path: Path) -> dict[str, str]:
    """What was logged under each key: "scalar", or W&B's name of the medium, such as "table-file"."""
    kind_of: dict[str, str] = {}
    for row in history(path):
        media = {key.removesuffix("/_type"): kind for key, kind in row.items() if key.endswith("/_type")}
        scalars = {key: "scalar" for key, value in row.items() if isinstance(value, int | float)}
        inside = tuple(f"{key}/" for key in media)
        kind_of |= {key: kind for key, kind in scalars.items() if not key.startswith(("_", *inside))} | media
    return kind_of


def _chunks(data: bytes) -> Iterator[bytes]:
    """The content of a log file, record by record; one may span several pieces."""
    position, pieces = HEADER, []  # W&B's own header has the size of a record's
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # too little room for a header: the block's rest is padding
            position += BLOCK - position % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + HEADER])
        pieces.append(data[position + HEADER : position + HEADER + length])
        position += HEADER + length
        if kind in (FULL, LAST) and position <= len(data):
            yield b"".join(pieces)
            pieces = []
