"""Read back what W&B wrote offline: LevelDB's log format around protocol buffers (FACTS.md)."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def records(run_folder: Path) -> Iterator[Any]:
    """What the offline run under `run_folder`/wandb, the only one, wrote down."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = run_folder.glob("wandb/offline-run-*/*.wandb")
    return map(Record.FromString, chunks(path.read_bytes()))


def history(run_folder: Path) -> list[dict]:
    """Every row that was logged."""
    rows = [record.history.item for record in records(run_folder) if record.HasField("history")]
    return [{i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items} for items in rows]


def group(run_folder: Path) -> tuple[str, str]:
    """The run's group and job type."""
    run = next(record.run for record in records(run_folder) if record.HasField("run"))
    return run.run_group, run.job_type
