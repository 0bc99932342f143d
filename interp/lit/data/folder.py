"""A user's own images: folders train/<class>/ and val/<class>/, optionally test/<class>/."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from interp.errors import UserError
from interp.lit.data.images import Splits

LARGEST = 80_000_000  # pixels of an image, below where Pillow warns: a small file can hold a picture that fills memory


class ImageFiles(Dataset):
    """Image files with class indices, decoded when asked for: resized and cropped to `size`, RGB."""

    def __init__(self, files: list[Path], targets: list[int], size: int) -> None:
        self.files, self.targets = files, torch.tensor(targets, dtype=torch.int64)
        self.transform = v2.Compose(
            [v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
        try:
            with Image.open(self.files[index]) as image:
                if image.width * image.height > LARGEST:
                    raise ValueError(f"{image.width} x {image.height} pixels, more than {LARGEST:,}")
                return self.transform(image.convert("RGB")).as_subclass(Tensor), int(self.targets[index])
        except (OSError, ValueError, SyntaxError, *bombs) as error:
            raise UserError(f"cannot read the image {self.files[index]}: {error}; repair or remove it") from error


def image_folder(root: str, size: int = 64) -> Splits:
    """Images of `root`/train/<class>/* and `root`/val/<class>/*; test/ where there is one, else val/ again.

    Raises UserError that names the folder for a missing part, a class without images, or classes that differ.
    """
    base = Path(root).expanduser()
    train, val = _part(base / "train", size), _part(base / "val", size)
    test = _part(base / "test", size) if (base / "test").is_dir() else val
    for name, (_, classes) in {"val": val, "test": test}.items():
        if classes != train[1]:
            difference = ", ".join(sorted(set(classes) ^ set(train[1])))
            raise UserError(f"{base / name} and {base / 'train'} have different classes: {difference}")
    return Splits(train[0], val[0], test[0], tuple(train[1]))


def images(root: str, size: int = 224, class_names: Sequence[str] = ()) -> Splits:
    """All images in `root` and its folders, without labels (-1), for a network that is not trained on them.

    `class_names` are those of the network; none: ImageNet's 1,000. Raises UserError where there is no image.
    """
    from torchvision.models import EfficientNet_B0_Weights

    base = Path(root).expanduser()
    files = sorted(p for p in base.rglob("*") if p.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        raise UserError(f"no images in data.root={base}: {', '.join(IMG_EXTENSIONS)} are read")
    part = ImageFiles(files, [-1] * len(files), size)
    return Splits(part, part, part, tuple(class_names or EfficientNet_B0_Weights.DEFAULT.meta["categories"]))


def _part(folder: Path, size: int) -> tuple[ImageFiles, list[str]]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: data=image_folder wants train/<class>/ and val/<class>/ in data.root")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    if not classes:
        raise UserError(f"{folder} has no class folders: put the images of each class into {folder}/<class>/")
    by_class = [sorted(p for p in (folder / c).rglob("*") if p.suffix.lower() in IMG_EXTENSIONS) for c in classes]
    if empty := [name for name, files in zip(classes, by_class, strict=True) if not files]:
        endings = ", ".join(IMG_EXTENSIONS)
        raise UserError(f"no images in {', '.join(str(folder / name) for name in empty)}; they must end in {endings}")
    targets = [index for index, files in enumerate(by_class) for _ in files]
    return ImageFiles([file for files in by_class for file in files], targets, size), classes
