"""The Broden format on disk (Bau et al. 2017): CSV tables beside images and label maps of R + 256 G."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interp.dissection.concepts.data import NONE, Concepts, Labels
from interp.dissection.tables import (
    Row,
    inside,
    no_repeats,
    read_picture,
    read_table,
    real_number,
    resize,
    to_image,
    whole_number,
)
from interp.errors import UserError, unknown
from interp.image_file import IMAGE_PIXELS


@dataclass(frozen=True)
class _Entry:
    image: Path
    size: tuple[int, int]  # of the image, height and width
    label_size: tuple[int, int]
    planes: tuple[Path, ...]
    whole: tuple[int, ...]  # concepts that cover the whole image


class Broden:
    """Concept data in `root` as its authors publish it: index.csv, label.csv, category.csv, c_*.csv, images/.

    `categories` and `split` ("train" or "val") choose; rows without any label are left out, as in the source. `size`
    resizes the images (not the labels) to a square. A label of several categories belongs to that with the largest
    coverage, the later one of equals; an image is labelled for a category if it carries a label that belongs to it.
    Raises UserError, with the file, for damaged tables and missing files at once, for damaged pictures when read.
    """

    def __init__(
        self,
        root: str | Path,
        categories: tuple[str, ...] | None = None,
        split: str | None = None,
        size: int | None = None,
    ) -> None:
        self.root, self.size = Path(root).expanduser(), size
        if not self.root.is_dir():
            raise UserError(f"no folder {self.root}")
        self.categories = self._categories(categories)
        self.concepts, self._concept_of = self._concepts()
        self._index = self.root / "index.csv"
        self._entries = self._read_index(split)

    def __len__(self) -> int:
        return len(self._entries)

    def image(self, index: int) -> Tensor:
        """Image `index`: float32 (3, H, W) in [0, 1]; raises UserError for a damaged file."""
        entry = self._entries[index]
        image = to_image(read_picture(entry.image, *entry.size))
        return image if self.size is None else resize(image, self.size, self.size, smooth=True)

    def labels(self, index: int) -> Labels:
        """Labels of image `index`, at the resolution that index.csv states; raises UserError for a damaged file."""
        entry = self._entries[index]
        planes = [self._plane(path, *entry.label_size) for path in entry.planes]
        maps = np.stack(planes + [np.full(entry.label_size, concept, np.int32) for concept in entry.whole])
        present = np.zeros(len(self.concepts) + 1, bool)
        present[maps] = True  # NONE is the last
        labelled = np.isin(np.arange(len(self.categories)), np.array(self.concepts.category)[present[:-1]])
        return Labels(torch.from_numpy(maps), torch.from_numpy(labelled))

    def _plane(self, path: Path, height: int, width: int) -> np.ndarray:
        """A label map (h, w) int32 of concepts."""
        picture = read_picture(path, height, width, modes=("RGB", "RGBA"))
        numbers = picture[..., 0] + 256 * picture[..., 1].astype(np.uint16)  # uint8 would overflow
        if picture[..., 2].any():
            raise UserError(f"{path} is no label map: its blue channel is not 0")
        concepts = self._concept_of[numbers]
        if concepts.min() < NONE:
            number = int(numbers[concepts < NONE][0])
            raise UserError(f"{path} holds the number {number}, which is no label of {', '.join(self.categories)}")
        return concepts

    def _categories(self, chosen: tuple[str, ...] | None) -> tuple[str, ...]:
        path = self.root / "category.csv"
        rows = read_table(path, ("name",))
        no_repeats(path, rows, "name")
        names = [row["name"] for row in rows]
        for name in chosen or ():
            if name not in names:
                raise unknown("category", name, names, owner=str(path))
        for name in names:
            if not re.fullmatch(r"\w[\w -]*", name):
                raise UserError(f"{path}: {name!r} cannot be the name of a category")
        if not names:
            raise UserError(f"{path} names no category")
        return tuple(name for name in names if chosen is None or name in chosen)

    def _concepts(self) -> tuple[Concepts, np.ndarray]:
        """The concepts in the order of label.csv, and from number to concept: int32, NONE for 0, -9 for unknown."""
        path = self.root / "label.csv"
        rows = read_table(path, ("number", "name"))
        no_repeats(path, rows, "number")
        no_repeats(path, rows, "name")
        names = {whole_number(path, row, "number", least=1): row["name"] for row in rows}
        if max(names, default=0) >= 2**16:
            raise UserError(f"{path}: number {max(names)} does not fit a label map, which ends at {2**16 - 1}")
        primary = self._primary(names)
        numbers = [number for number in names if number in primary]
        concept_of = np.full(2**16, -9, np.int32)
        concept_of[0] = NONE
        concept_of[numbers] = range(len(numbers))
        category = tuple(primary[number] for number in numbers)
        return Concepts(tuple(names[number] for number in numbers), self.categories, category), concept_of

    def _primary(self, names: dict[int, str]) -> dict[int, int]:
        """From a label's number to the category in which it covers most."""
        best: dict[int, tuple[float, int]] = {}
        for place, category in enumerate(self.categories):
            path = self.root / f"c_{category}.csv"
            rows = read_table(path, ("number", "coverage"))
            no_repeats(path, rows, "number")
            for row in rows:
                number = whole_number(path, row, "number", least=1)
                if number not in names:
                    raise UserError(f"{path}: number {number} is not in {self.root / 'label.csv'}")
                best[number] = max(best.get(number, (0.0, 0)), (real_number(path, row, "coverage"), place))
        return {number: place for number, (_, place) in best.items()}

    def _read_index(self, split: str | None) -> list[_Entry]:
        rows = read_table(self._index, ("image", "split", "ih", "iw", "sh", "sw", *self.categories))
        no_repeats(self._index, rows, "image")
        splits = sorted({row["split"] for row in rows})
        if split is not None and split not in splits:
            raise unknown("split", split, splits, owner=str(self._index))
        chosen = [row for row in rows if split in (None, row["split"])]
        entries = [self._entry(row) for row in chosen if any(self._tokens(row))]
        if not entries:
            raise UserError(f"{self._index} has no image with a label of {', '.join(self.categories)}")
        return entries

    def _tokens(self, row: Row) -> list[str]:
        tokens = (token.strip() for category in self.categories for token in row[category].split(";"))
        return [token for token in tokens if token not in ("", "0")]

    def _entry(self, row: Row) -> _Entry:
        images = self.root / "images"
        size, label_size = (self._sides(row, *sides) for sides in (("ih", "iw"), ("sh", "sw")))
        tokens = dict.fromkeys(self._tokens(row))
        whole = [token for token in tokens if not token.lower().endswith(".png")]
        return _Entry(
            image=inside(self._index, images, row["image"]),
            size=size,
            label_size=label_size,
            planes=tuple(inside(self._index, images, token) for token in tokens if token not in whole),
            whole=tuple(self._whole(token, row) for token in whole),
        )

    def _sides(self, row: Row, *columns: str) -> tuple[int, int]:
        height, width = (whole_number(self._index, row, column, least=1) for column in columns)
        if height * width > IMAGE_PIXELS:
            raise UserError(f"{self._index}: {row['image']} has {height} x {width} pixels, too many to be true")
        return height, width

    def _whole(self, token: str, row: Row) -> int:
        """The concept of a number that covers the whole image."""
        number = int(token) if re.fullmatch("[0-9]{1,9}", token) else -1
        concept = int(self._concept_of[number]) if 0 < number < len(self._concept_of) else -9
        if concept < 0:
            known = ", ".join(self.categories)
            fault = f"is no label of {known}" if number >= 0 else "is neither a number nor a PNG file"
            raise UserError(f"{self._index}: {token!r} {fault}, for the image {row['image']}")
        return concept
