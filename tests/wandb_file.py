"""Read back what W&B wrote offline: LevelDB's log format around protocol buffers (FACTS.md)."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

BLOCK, HEADER = 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def chunks(data: bytes) -> Iterator[bytes]:
    """The records of a log file; one may span several pieces."""
    position, parts = HEADER, []  # W&B's own header has the size of a record's
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # too little room for a header: the block's rest is padding
            position += BLOCK - position % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + HEADER])
        parts.append(data[position + HEADER : position + HEADER + length])
        position += HEADER + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


def history(run_folder: Path) -> list[dict]:
    """Every row that was logged to the offline run under `run_folder`/wandb."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = run_folder.glob("wandb/offline-run-*/*.wandb")
    rows = []
    for chunk in chunks(path.read_bytes()):
        record = Record.FromString(chunk)
        if record.HasField("history"):
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows
