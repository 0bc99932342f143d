"""Data sets of torchvision that fit in memory, downloaded on first use."""

from pathlib import Path
from typing import Any

import torch

from interp.errors import UserError
from interp.files import regular
from interp.lit.data.images import Splits, TensorImages, stratified


def torchvision(dataset: Any, root: str, validation: float = 0.1, split_seed: int = 0, download: bool = True) -> Splits:
    """A torchvision class such as `MNIST` or `CIFAR10`, with a share of its training images held out to validate.

    Files that are not in `root` are downloaded if they may be (`download`). Raises UserError where they are not there
    then, or cannot be read: it names the files and the folder.
    """
    if not 0 < validation < 1:
        raise UserError(f"data.validation={validation}: must be a share of the training images, between 0 and 1")
    train, test = (_open(dataset, root, download, train=train) for train in (True, False))
    kept, held_out = stratified(train.targets, validation, split_seed)
    names = getattr(dataset, "classes", None) or _open_raw(dataset, root, train=False, download=False).classes
    names = tuple(name.split(" - ")[-1] for name in names)
    return Splits(train.subset(kept), train.subset(held_out), test, names)


def _open(dataset: Any, root: str, download: bool, *, train: bool) -> TensorImages:
    """One part of the set in memory; downloads it only where its files are missing."""
    folder = Path(root).expanduser()
    inner = folder / dataset.base_folder if hasattr(dataset, "base_folder") else folder / dataset.__name__ / "raw"
    try:
        for path in [path for path in inner.glob("*") if not path.is_dir()]:
            regular(path)  # which torchvision would wait for, if it were a pipe
        raw = _open_raw(dataset, root, train=train, download=False)
    except RuntimeError as error:
        if not download:
            raise UserError(
                f"{_name(dataset)} is not in data.root={root}: put {_files(dataset)} there, or allow its download with "
                "data.download=true"
            ) from error
        raw = _download(dataset, root, train)
    except (OSError, ValueError, AssertionError, EOFError, LookupError) as error:
        why = f"{type(error).__name__}: {error}"
        raise UserError(f"{_name(dataset)} in data.root={root} cannot be read ({why}): remove it") from error
    images = torch.as_tensor(raw.data)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return TensorImages(images, torch.as_tensor(raw.targets).long())


def _download(dataset: Any, root: str, train: bool):
    try:
        return _open_raw(dataset, root, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{_name(dataset)} is not in data.root={root} and could not be downloaded ({error}). Without a network, "
            f"put {_files(dataset)} there from another machine"
        ) from error


def _name(dataset: Any) -> str:
    return getattr(dataset, "__name__", str(dataset))


def _open_raw(dataset: Any, root: str, **options):
    return dataset(root=str(Path(root).expanduser()), **options)


def _files(dataset: Any) -> str:
    """The files that the set consists of, as its class lists them."""
    if hasattr(dataset, "mirrors"):  # MNIST and its like
        files = ", ".join(name.removesuffix(".gz") for name, _ in dataset.resources)
        return f"the files {files} (unpacked) into {dataset.__name__}/raw/"
    return f"{dataset.filename} (unpacked: the folder {dataset.base_folder}/)"
