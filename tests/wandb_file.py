"""What W&B received of the one run in a folder, read back from the run's own file."""

import json
from pathlib import Path
from typing import Any

from interp.lit.wandb import file as wandb_file


def only(run_folder: Path) -> Path:
    (path,) = (path for path in wandb_file.files(run_folder) if path.parent.name.startswith("offline"))
    return path


def history(run_folder: Path) -> list[dict]:
    """Every row that was logged."""
    return list(wandb_file.history(only(run_folder)))


def records(run_folder: Path, kind: str) -> list[Any]:
    """All records of one kind, such as `metric` or `artifact`."""
    return [getattr(record, kind) for record in wandb_file.records(only(run_folder)) if record.HasField(kind)]


def begin(run_folder: Path) -> Any:
    """Group, job type, tags, project of the run."""
    return records(run_folder, "run")[0]


def group(run_folder: Path) -> tuple[str, str]:
    """The run's group and job type."""
    return begin(run_folder).run_group, begin(run_folder).job_type


def config(run_folder: Path) -> dict[str, Any]:
    """The configuration that was sent."""
    updates = [item for record in records(run_folder, "config") for item in record.update]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


def table(run_folder: Path, row: dict, key: str) -> tuple[list[str], list[list]]:
    """Columns and rows of the table that a row of the history holds under `key`, with its pictures.

    These are only in the artifact that W&B makes of it; the table among the run's files says "Image" in their place.
    """
    client = row[f"{key}/artifact_path"].split("/")[2]
    (made,) = (artifact for artifact in records(run_folder, "artifact") if artifact.client_id == client)
    files = {entry.path: Path(entry.local_path) for entry in made.manifest.contents}
    content = json.loads(files[f"{key}.table.json"].read_text())
    pictures = {cell["path"] for cells in content["data"] for cell in cells if isinstance(cell, dict)}
    assert all(files[path].read_bytes().startswith(b"\x89PNG") for path in pictures)
    return content["columns"], content["data"]
