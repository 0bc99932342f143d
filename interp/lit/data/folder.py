"""A user's own images: folders train/<class>/ and val/<class>/, optionally test/<class>/."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from interp.errors import UserError
from interp.files import readable
from interp.image_file import ENDINGS, as_seen, hidden, middle, opened
from interp.lit.data.images import Splits

log = logging.getLogger(__name__)
NOTES = (".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".log")  # no pictures to convert
AT_ONCE = 256  # files whose headers one thread reads in a row


class ImageFiles(Dataset):
    """Image files with class indices, decoded when asked for: as a viewer shows them, resized and cropped to `size`.

    An image whose pixels turn out damaged is reported once, and the next one of its class that can be read stands in
    for it, always the same: a training does not end for it. Raises UserError where there is none.
    """

    def __init__(self, files: list[Path], targets: list[int], size: int) -> None:
        self.files, self.targets = files, torch.tensor(targets, dtype=torch.int64)
        self.transform = v2.Compose(
            [v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )
        base = os.path.commonpath([file.parent for file in files]) if files else ""
        self.image_names = [readable(file.relative_to(base).as_posix()) for file in files]
        self._reported = torch.zeros(len(files), dtype=torch.bool).share_memory_()  # by whichever worker

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            return self._read(index), int(self.targets[index])
        except UserError as error:
            return self._stand_in(index % len(self), error), int(self.targets[index])

    def _read(self, index: int) -> Tensor:
        with opened(self.files[index]) as image:
            seen = as_seen(image)
            rows, columns = middle(seen.height, seen.width)
            square = self.transform(seen.crop((columns.start, rows.start, columns.stop, rows.stop)))
            return square.as_subclass(Tensor)

    def _stand_in(self, index: int, error: UserError) -> Tensor:
        alike = (self.targets == self.targets[index]).nonzero()[:, 0]
        for other in (*alike[alike > index].tolist(), *alike[alike < index].tolist()):
            try:
                image = self._read(other)
            except UserError:  # is reported when it is asked for
                continue
            if not self._reported[index]:
                self._reported[index] = True
                log.warning("%s; until then %s stands in for it", error, self.files[other])
            return image
        raise error


def image_folder(root: str, size: int = 64) -> Splits:
    """Images of `root`/train/<class>/* and `root`/val/<class>/*, and test/ where there is one.

    Hidden files and folders are left out, files of other formats are counted in a warning. Raises UserError that names
    the folder for a missing part, a class without images or classes that differ, and the files that are no images.
    """
    base, unread = Path(str(root)).expanduser(), Counter[str]()
    train, val = _part(base / "train", size, unread), _part(base / "val", size, unread)
    test = _part(base / "test", size, unread) if (base / "test").is_dir() else (None, train[1])
    for name, (_, classes) in {"val": val, "test": test}.items():
        if classes != train[1]:
            difference = ", ".join(sorted(set(classes) ^ set(train[1])))
            raise UserError(f"{base / name} and {base / 'train'} have different classes: {difference}")
    _tell(base, unread)
    return Splits(train[0], val[0], test[0], tuple(train[1]))


def images(root: str, size: int = 224, class_names: Sequence[str] = ()) -> Splits:
    """All images in `root` and its folders, without labels (-1), for a network that is not trained on them.

    `class_names` are those of the network; none: ImageNet's 1,000. Files are chosen and refused as by `image_folder`.
    Raises UserError where there is no image.
    """
    from torchvision.models import EfficientNet_B0_Weights

    base, unread = Path(str(root)).expanduser(), Counter[str]()
    files = _images_in(base, unread)
    if not files:
        raise UserError(f"no images in data.root={base}: {', '.join(ENDINGS)} are read{_also(unread)}")
    _check(files)
    _tell(base, unread)
    class_names = [class_names] if isinstance(class_names, str) else class_names
    part = ImageFiles(files, [-1] * len(files), size)
    return Splits(part, part, None, tuple(class_names or EfficientNet_B0_Weights.DEFAULT.meta["categories"]))


def _part(folder: Path, size: int, unread: Counter[str]) -> tuple[ImageFiles, list[str]]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: data=image_folder wants train/<class>/ and val/<class>/ in data.root")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not hidden(p.name))
    if not classes:
        raise UserError(f"{folder} has no class folders: put the images of each class into {folder}/<class>/")
    counts = [Counter[str]() for _ in classes]
    by_class = [_images_in(folder / name, count) for name, count in zip(classes, counts, strict=True)]
    if empty := [index for index, files in enumerate(by_class) if not files]:
        named = ", ".join(str(folder / classes[index]) for index in empty)
        also = _also(sum((counts[index] for index in empty), Counter()))
        raise UserError(f"no images in {named}; they must end in {', '.join(ENDINGS)}{also}")
    unread.update(sum(counts, Counter()))
    files = [file for files in by_class for file in files]
    _check(files)
    return ImageFiles(files, [index for index, files in enumerate(by_class) for _ in files], size), classes


def _images_in(folder: Path, unread: Counter[str]) -> list[Path]:
    """Files in `folder` and its folders that end as images do, sorted; the endings of others are counted."""
    files = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not hidden(name)]
        for path in (Path(place, name) for name in names if not hidden(name)):
            if path.suffix.lower() in ENDINGS:
                files.append(path)
            elif path.suffix.lower() not in NOTES:
                unread[path.suffix.lower()] += 1
    return sorted(files)


def _refuse(error: OSError) -> None:
    raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _check(files: list[Path]) -> None:
    """Read the headers; raises UserError that names the files which are no images or far too large."""
    chunks = [files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE)]
    with ThreadPoolExecutor() as pool:
        errors = {file: error for part in pool.map(_errors, chunks) for file, error in part}
    if errors:
        (_, first), *others = errors.items()
        named = ", ".join(str(file) for file, _ in others[:4]) + (", ..." if len(others) > 4 else "")
        raise UserError(f"{first}. Nor can {len(others)} more: {named}" if others else str(first)) from first


def _errors(files: list[Path]) -> list[tuple[Path, UserError]]:
    errors = []
    for file in files:
        try:
            with opened(file):
                pass
        except UserError as error:
            errors.append((file, error))
    return errors


def _also(unread: Counter[str]) -> str:
    """What else lies there, to be put behind a message."""
    return f". {_unread(unread)}" if unread else ""


def _unread(unread: Counter[str]) -> str:
    """The counts of endings in a sentence.

    >>> _unread(Counter({".heic": 12}))
    '12 files ending in .heic are not read: convert them to JPEG or PNG'
    """
    counts = [
        f"{count} file{'s' * (count > 1)} {f'ending in {ending}' if ending else 'without an ending'}"
        for ending, count in unread.most_common()
    ]
    is_, them = ("is", "it") if unread.total() == 1 else ("are", "them")
    return f"{', '.join(counts)} {is_} not read: convert {them} to JPEG or PNG"


def _tell(base: Path, unread: Counter[str]) -> None:
    if unread:
        rank_zero_only(log.warning)("data.root=%s: %s", base, _unread(unread))
