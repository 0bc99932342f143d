"""Plain segmentation data: an image, a mask of class numbers, a list of names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interp.dissection.concepts.data import NONE, VOID, Concepts, Labels
from interp.dissection.tables import labels_of, resize, to_image
from interp.errors import UserError
from interp.image_file import (
    ENDINGS,
    ORIENTATION,
    as_seen,
    check_size,
    flat,
    hidden,
    middle,
    opened,
    orientation,
    turn_upright,
)

if TYPE_CHECKING:
    from PIL.Image import Image

MASK_MODES = ("P", "L", "I;16", "I", "1")  # a number a pixel
VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class Segmentation:
    """Concept data of one category from `pairs` of an image and a mask, PIL pictures as torchvision's data sets give.

    The number n of a mask is `names[n]`; an empty name and `background` are no concept, `void` is no part of the
    picture. An image is turned upright as EXIF says, and its mask with it, unless the mask has EXIF data of its own or
    only its upright shape fits. Both are resized to cover a square of `size` pixels (masks: half that, nearest) and
    cropped at the centre. Every image counts as labelled. Raises UserError that names the pair (by `files` if given)
    for damaged data.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Any, Any]],
        names: Sequence[str],
        *,
        size: int = 224,
        category: str = "object",
        background: int | None = 0,
        void: int | None = 255,
        files: Sequence[str] | None = None,
    ) -> None:
        self.pairs, self.size, self.files = pairs, size, files
        numbers = [n for n, name in enumerate(names) if name and n != background]
        chosen = tuple(names[n] for n in numbers)
        if not chosen or len(set(chosen)) < len(chosen):
            raise UserError(f"the names of a segmentation must be distinct, and one at least: {', '.join(names)[:200]}")
        self.concepts = Concepts(chosen, (category,), (0,) * len(chosen))
        self._concept_of = torch.full((2**16 + 1,), -9, dtype=torch.int32)
        self._concept_of[: len(names)] = NONE
        self._concept_of[numbers] = torch.arange(len(chosen), dtype=torch.int32)
        if background is not None:
            self._concept_of[background] = NONE
        if void is not None and void >= len(names):
            self._concept_of[void] = VOID

    def __len__(self) -> int:
        return len(self.pairs)

    def image(self, index: int) -> Tensor:
        """Image `index`: float32 (3, size, size) in [0, 1]; raises UserError for a damaged file."""
        return _square(to_image(self._pair(index)[0]), self.size, smooth=True)

    def labels(self, index: int) -> Labels:
        """Labels of image `index`: one plane of size / 2; raises UserError for a number without a name."""
        image, mask = self._pair(index)
        if mask.shape != image.shape[:2]:
            raise self._wrong(index, f"has the shape {mask.shape}, its image {image.shape[0]} x {image.shape[1]}")
        given = torch.from_numpy(mask.astype(np.int64))
        concepts = self._concept_of[given.clamp(0, 2**16)]
        if (given < 0).any() or (concepts < VOID).any():
            number = int(given[(concepts < VOID) | (given < 0)][0])
            raise self._wrong(index, f"holds the number {number}, which has no name")
        maps = _square(concepts[None], max(1, self.size // 2), smooth=False)
        return Labels(maps, torch.ones(1, dtype=torch.bool))

    def _pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 (H, W, 3) and mask (H, W); decodes what PIL has opened only."""
        try:
            image, mask = self.pairs[index]
            if isinstance(image, np.ndarray) or isinstance(mask, np.ndarray):
                return np.array(image if isinstance(image, np.ndarray) else flat(image)), np.array(mask)
            stored = _Stored.of(image)
            return np.array(as_seen(image.copy())), np.array(stored.turned_alike(mask.copy()))
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, UserError):
                raise
            raise self._wrong(index, f"or its image cannot be read: {error}") from error

    def _wrong(self, index: int, what: str) -> UserError:
        return UserError(f"the mask {self.files[index] if self.files else f'of pair {index}'} {what}")


@dataclass(frozen=True)
class _Stored:
    """How an image's pixels lie in its file: what its mask must share."""

    size: tuple[int, int]
    orientation: int

    @classmethod
    def of(cls, image: "Image") -> "_Stored":
        check_size(image)
        return cls(image.size, orientation(image))

    def turned_alike(self, mask: "Image") -> "Image":
        """The mask upright: of the stored size it lies as its image, unless its own EXIF says otherwise."""
        check_size(mask)
        if mask.size == self.size and orientation(mask) == 1:
            mask.getexif()[ORIENTATION] = self.orientation
        turn_upright(mask)
        return mask


def _square(picture: Tensor, size: int, *, smooth: bool) -> Tensor:
    """`picture` (C, H, W) resized until its shorter side has `size` pixels, cropped at the centre."""
    rows, columns = middle(*picture.shape[1:])
    picture = picture[:, rows, columns]
    height, width = picture.shape[1:]
    down, across = (max(size, round(side * size / min(height, width))) for side in (height, width))
    top, left = (down - size) // 2, (across - size) // 2
    return resize(picture, down, across, smooth=smooth)[:, top : top + size, left : left + size]


class _Files(Sequence):
    """Pairs of picture files, read when asked for."""

    def __init__(self, files: list[tuple[Path, Path]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        image, mask = self.files[index]
        with opened(image, "picture") as picture:
            stored, seen = _Stored.of(picture), np.array(as_seen(picture))
        with opened(mask, "picture") as labels:
            return seen, labels_of(stored.turned_alike(labels), mask, MASK_MODES)


def segmentation_folder(root: str | Path, **options: Any) -> Segmentation:
    """`root`/images/NAME.jpg, `root`/masks/NAME.png (grey or palette), `root`/names.txt (line n + 1 names number n).

    `options` go to `Segmentation`. Raises UserError, with the file, for what is missing or damaged.
    """
    base = Path(root).expanduser()
    for part in ("images", "masks"):
        if not (base / part).is_dir():
            raise UserError(f"no folder {base / part}")
    if not (base / "names.txt").is_file():
        raise UserError(f"no file {base / 'names.txt'}: its line n + 1 names the number n")
    try:
        names = (base / "names.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {base / 'names.txt'} (line n + 1 names the number n): {error}") from error
    images = sorted(path for path in (base / "images").iterdir() if path.suffix.lower() in ENDINGS)
    images = [path for path in images if not hidden(path.name)]
    pairs = [(path, base / "masks" / f"{path.stem}.png") for path in images]
    if not pairs:
        raise UserError(f"no images in {base / 'images'}; they must end in {', '.join(ENDINGS)}")
    for _, mask in pairs:
        if not mask.is_file():
            raise UserError(f"no mask {mask}")
    masks = [str(mask) for _, mask in pairs]
    return Segmentation(_Files(pairs), [name.strip() for name in names], files=masks, **options)


def voc(root: str | Path, year: str = "2012", image_set: str = "val", **options: Any) -> Segmentation:
    """Pascal VOC's segmentation in `root`, as torchvision unpacks it; raises UserError where it is not there."""
    from torchvision.datasets import VOCSegmentation

    try:
        pairs = VOCSegmentation(str(Path(root).expanduser()), year=year, image_set=image_set, download=False)
    except (RuntimeError, OSError) as error:
        raise UserError(f"no VOC {year} {image_set} in {root}: {error}") from error
    files = list(zip(map(Path, pairs.images), map(Path, pairs.masks), strict=True))
    return Segmentation(_Files(files), VOC_NAMES, files=pairs.masks, **options)
