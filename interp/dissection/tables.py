"""CSV tables and pictures that other people made: whatever is wrong with one is said with the file's name."""

import csv
import math
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from interp.errors import UserError, unknown
from interp.image_file import flat, opened

if TYPE_CHECKING:
    from PIL.Image import Image

Row = dict[str, str]


def read_table(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a CSV file with a header line that names at least `columns`; raises UserError."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"no file {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for column in columns:
        if column not in header:
            raise unknown("column", column, header, owner=str(path))
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UserError(f"{path}, row {number}: {'more' if None in row else 'fewer'} cells than the header has")
    return rows


def whole_number(path: Path, row: Row, column: str, least: int = 0) -> int:
    """The whole number in a cell; raises UserError with the cell's text."""
    text = row[column].strip()
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
        raise UserError(f"{path}: {column}={text!r} is no whole number from {least} up, in the row {_short(row)}")
    return int(text)


def real_number(path: Path, row: Row, column: str) -> float:
    """The number >= 0 in a cell, `1e-05` included; raises UserError with the cell's text."""
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"{path}: {column}={row[column]!r} is no number from 0 up, in the row {_short(row)}")
    return value


def no_repeats(path: Path, rows: list[Row], column: str) -> None:
    """Raise UserError where two rows have the same text in `column`."""
    seen: set[str] = set()
    for row in rows:
        if row[column] in seen:
            raise UserError(f"{path}: {column} {row[column]!r} is there twice")
        seen.add(row[column])


def inside(path: Path, folder: Path, name: str) -> Path:
    """The file `name` of `folder`, named in the table `path`; raises UserError if it is elsewhere or missing."""
    parts = PurePosixPath(name).parts
    if not name or "\0" in name or name.startswith("/") or ".." in parts or PureWindowsPath(name).drive:
        raise UserError(f"{path} names the file {name!r}, which is not inside {folder}")
    if not (folder / name).is_file():
        raise UserError(f"no file {folder / name}, which {path} names")
    return folder / name


def read_picture(path: Path, height: int, width: int, modes: tuple[str, ...] = ()) -> np.ndarray:
    """A picture file of the stated size, its pixels as they are stored: EXIF turns neither images nor label maps.

    The size is compared before anything is decoded. Images come as uint8 (H, W, 3); label maps, which must have one of
    Pillow's `modes` if these are given, with their own integers. Other disagreement, damage and missing files raise
    UserError.
    """
    with opened(path, "picture") as image:
        if image.size != (width, height):
            raise UserError(f"{path} has {image.size[1]} x {image.size[0]} pixels; {height} x {width} are stated")
        return labels_of(image, path, modes) if modes else np.array(flat(image))


def labels_of(image: "Image", path: Path, modes: tuple[str, ...]) -> np.ndarray:
    """The numbers of a label map (H, W) or (H, W, 3 or 4); raises UserError where its mode is none of the `modes`."""
    if image.mode not in modes:
        raise UserError(f"{path} is a picture of mode {image.mode}; labels want {' or '.join(modes)}")
    return np.array(image)


def to_image(picture: np.ndarray) -> Tensor:
    """A picture uint8 (H, W, 3) as an image float32 (3, H, W) in [0, 1]."""
    # in NumPy: torch would wake its threads for each small picture
    return torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def resize(maps: Tensor, height: int, width: int, *, smooth: bool) -> Tensor:
    """`maps` (C, H, W) at another resolution: bilinear with antialiasing, or nearest."""
    mode, options = ("bilinear", {"antialias": True}) if smooth else ("nearest-exact", {})
    return functional.interpolate(maps[None].float(), (height, width), mode=mode, **options)[0].to(maps.dtype)


def _short(row: Row) -> str:
    return ",".join(row.values())[:80]
