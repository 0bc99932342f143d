"""What is wrong with a data set, said before anything is trained on it."""

from typing import Any

import torch
from torch import Tensor

from interp.errors import UserError
from interp.probe import LabelledImages
from interp.words import word

SETS = {"train": "training", "val": "validation", "test": "test"}


def check_splits(splits: Any, labelled: bool) -> None:
    """Raise UserError for what a training cannot use: fewer than two classes, wrong labels, what is no image.

    Looks at every label and at the first image of each set. Without `labelled`, -1 stands for a class that is unknown.
    """
    missing = [name for name in ("train", "val", "test", "class_names") if not hasattr(splits, name)]
    if missing:
        raise UserError(f"data: its source gives {type(splits).__name__}; wanted is interp.lit.data.Splits")
    names = list(map(word, splits.class_names))
    if len(names) < 2:
        raise UserError(
            f"the data has {_count(len(names), 'class', 'classes')} ({', '.join(names)}): at least 2 are needed"
        )
    for key, what in SETS.items():
        if (images := getattr(splits, key)) is not None:
            check_labels(images, what, names, labelled)
            check_image(images, what)


def check_labels(images: LabelledImages, what: str, names: list[str], labelled: bool) -> None:
    """Raise UserError that names the first label which is no class."""
    if len(images) == 0:
        raise UserError(f"there are no {what} images")
    if not hasattr(images, "targets"):
        raise UserError(f"the {what} images ({type(images).__name__}) have no `targets`: a class index for each image")
    labels = _labels(images.targets, what)
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.is_complex():
        raise UserError(
            f"the labels of the {len(images)} {what} images are {_form(labels)}: wanted is one whole number an image, "
            "the index of its class; several labels an image are not supported"
        )
    if labelled and (labels == -1).all():
        raise UserError(f"the {what} images have no labels: they can be studied by analyze.py, but not trained on")
    wrong = (labels < (0 if labelled else -1)) | (labels >= len(names))
    if wrong.any():
        at = int(wrong.nonzero()[0, 0])
        unknown = "" if labelled else ", or -1 where the class is unknown"
        raise UserError(
            f"label {int(labels[at])} of {what} image {at} ({int(wrong.sum())} such of {len(labels)}) is no class: "
            f"allowed are 0 to {len(names) - 1} ({_some(names)}){unknown}"
        )


def _labels(targets: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the labels of the {what} images are no numbers ({error}): wanted are class indices"
        ) from error


def check_image(images: LabelledImages, what: str) -> None:
    """Raise UserError where the first image is no float32 (C, H, W) in [0, 1]."""
    item = images[0]
    image = item[0] if isinstance(item, tuple | list) and len(item) == 2 else item
    wanted = "wanted is (image, class index), the image float32 (C, H, W) in [0, 1]"
    if image is item or not isinstance(image, Tensor) or image.ndim != 3 or image.dtype != torch.float32:
        form = _form(image) if isinstance(image, Tensor) else type(image).__name__
        raise UserError(
            f"{what} image 0 is {form if image is not item else f'an item {type(item).__name__}'}: {wanted}"
        )
    if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
        raise UserError(f"{what} image 0 has values from {image.min():.4g} to {image.max():.4g}: {wanted}")


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
