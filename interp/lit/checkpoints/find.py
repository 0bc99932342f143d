"""Which file a user means by a checkpoint: of a run, of several, or the file itself."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.lit.run_folder.remains import about

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a model's folder, as Hugging Face and timm write it


def others(folder: Path) -> str:
    """The checkpoints in a folder, or else the latest runs in it."""
    if files := ", ".join(sorted(path.name for path in folder.glob("*.ckpt") if path.is_file())):
        return f"; {folder} has: {files}"
    runs = sorted((path.parent for path in folder.glob("*/checkpoints")), key=lambda run: run.stat().st_mtime)
    return f"; the latest runs in {folder}: {', '.join(run.name for run in runs[:-4:-1])}" if runs else ""


def find_checkpoint(path: Any, names: tuple[str, ...], key: str = "checkpoint") -> Path:
    """A checkpoint file, or the first of `names` in a run folder's checkpoints/; absolute.

    Raises UserError where there is none, or for anything but one path; `key` is the setting that gives it.
    """
    path = str(path) if isinstance(path, int) else path  # a folder that is called as a number
    if not isinstance(path, str):
        raise UserError(f"{key}={path}: give a checkpoint file or a run folder")
    if "://" in path:
        raise UserError(f"{key}={path}: addresses are not read; download the file if you know who made it")
    given = Path(path).expanduser().absolute()
    if not given.is_dir():
        return given
    for name in names:
        if (given / "checkpoints" / name).is_file():
            return given / "checkpoints" / name
    for name in WEIGHTS if key == "weights" else ():
        if (given / name).is_file():
            return given / name
    if files := ", ".join(sorted(file.name for file in given.glob("*.ckpt"))):
        run = f"the folder of the run, {given.parent}, or " if given.name == "checkpoints" else ""
        raise UserError(f"{key}={path} is a folder of checkpoints: give {run}one of its files: {files}")
    if within := next((parent for parent in given.parents if [*parent.glob("checkpoints/*.ckpt")]), None):
        raise UserError(f"{key}={path} lies in a run: give the run, {key}={within}")
    if about(given).get("command") == "analyze.py":
        raise UserError(f"{key}={path} is an analysis, which has no checkpoint: give a run of train.py")
    begun = about(given).get("command") == "train.py"
    advice = f": that run has finished no epoch, begin it anew with output={path} instead" if begun else others(given)
    raise UserError(f"no {' or '.join(names)} in {given / 'checkpoints'}{advice}")


def named_checkpoints(given: Any, names: tuple[str, ...], key: str = "checkpoint") -> dict[str, Path | None]:
    """Checkpoints (or weights, as `key` says) by name: of None (a network without one), a path, several, or named ones.

    Paths without names get the shortest end of their run's folder that tells them apart. Raises UserError.
    """
    if given is None or isinstance(given, str | int):
        return {"": None if given is None else find_checkpoint(given, names, key)}
    if isinstance(given, Mapping):
        paths = {str(name): None if path is None else find_checkpoint(path, names, key) for name, path in given.items()}
        if wrong := [name for name in paths if not re.fullmatch(r"\w[\w.-]*", name)]:
            raise UserError(f"{key} name {wrong[0]!r}: use letters, digits, '_', '-' and '.'")
        if paths:
            return paths
    checkpoints = [find_checkpoint(path, names, key) for path in given]
    if not checkpoints:
        raise UserError(f"{key}=[] is empty: name some, or give null for a network without one")
    if len(set(checkpoints)) < len(checkpoints):
        raise UserError(f"{key}={list(given)}: the same {key} twice")
    return dict(zip(_short_names(checkpoints), checkpoints, strict=True))


def _short_names(paths: list[Path]) -> list[str]:
    """The run's folder, with the file's name and the folder above where it takes them to tell the paths apart."""
    folders = [path.parent.parent if path.parent.name == "checkpoints" else path.parent for path in paths]
    forms = [
        [folder.name for folder in folders],
        [f"{folder.name}_{path.stem}" for folder, path in zip(folders, paths, strict=True)],
        [f"{folder.parent.name}_{folder.name}_{path.stem}" for folder, path in zip(folders, paths, strict=True)],
    ]
    clean = [[re.sub(r"[^\w.-]", "-", name).lstrip(".-") for name in names] for names in forms]
    apart = [names for names in clean if len(set(names)) == len(names) and all(names)]
    return apart[0] if apart else [f"checkpoint{number}" for number in range(1, len(paths) + 1)]


def run_folder(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to, None where it lies elsewhere."""
    folder = checkpoint.parent.parent
    return folder if checkpoint.parent.name == "checkpoints" and (folder / ".hydra").is_dir() else None
