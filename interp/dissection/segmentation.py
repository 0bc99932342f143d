"""Plain segmentation data: an image, a mask of class numbers, a list of names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.dissection.concepts import NONE, VOID, Concepts, Labels
from interp.dissection.tables import read_picture, resize, to_image
from interp.errors import UserError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MASK_MODES = ("P", "L", "I;16", "I", "1")  # a number a pixel
VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class Segmentation:
    """Concept data of one category from `pairs` of an image and a mask, PIL pictures as torchvision's data sets give.

    The number n of a mask is `names[n]`; an empty name and `background` are no concept, `void` is no part of the
    picture. Both are resized to cover a square of `size` pixels (masks: half that, nearest) and cropped at the centre.
    Every image counts as labelled. Raises UserError that names the pair (by `files` if given) for damaged data.
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
            return np.array(image if isinstance(image, np.ndarray) else image.convert("RGB")), np.array(mask)
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, UserError):
                raise
            raise self._wrong(index, f"or its image cannot be read: {error}") from error

    def _wrong(self, index: int, what: str) -> UserError:
        return UserError(f"the mask {self.files[index] if self.files else f'of pair {index}'} {what}")


def _square(picture: Tensor, size: int, *, smooth: bool) -> Tensor:
    """`picture` (C, H, W) resized until its shorter side has `size` pixels, cropped at the centre."""
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
        return read_picture(image), read_picture(mask, modes=MASK_MODES)


def segmentation_folder(root: str | Path, **options: Any) -> Segmentation:
    """`root`/images/NAME.jpg, `root`/masks/NAME.png (grey or palette), `root`/names.txt (line n + 1 names number n).

    `options` go to `Segmentation`. Raises UserError, with the file, for what is missing or damaged.
    """
    base = Path(root).expanduser()
    try:
        names = (base / "names.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {base / 'names.txt'} (line n + 1 names the number n): {error}") from error
    for part in ("images", "masks"):
        if not (base / part).is_dir():
            raise UserError(f"no folder {base / part}")
    images = sorted(path for path in (base / "images").iterdir() if path.suffix.lower() in IMAGES)
    pairs = [(path, base / "masks" / f"{path.stem}.png") for path in images]
    if not pairs:
        raise UserError(f"no images in {base / 'images'}; they must end in {', '.join(IMAGES)}")
    for _, mask in pairs:
        if not mask.is_file():
            raise UserError(f"no mask {mask}")
    files = [str(mask) for _, mask in pairs]
    return Segmentation(_Files(pairs), [name.strip() for name in names], files=files, **options)


def voc(root: str | Path, year: str = "2012", image_set: str = "val", **options: Any) -> Segmentation:
    """Pascal VOC's segmentation in `root`, as torchvision unpacks it; raises UserError where it is not there."""
    from torchvision.datasets import VOCSegmentation

    try:
        pairs = VOCSegmentation(str(Path(root).expanduser()), year=year, image_set=image_set, download=False)
    except (RuntimeError, OSError) as error:
        raise UserError(f"no VOC {year} {image_set} in {root}: {error}") from error
    return Segmentation(pairs, VOC_NAMES, files=pairs.masks, **options)
