"""The images of anybody's data set as studies want them: float32 in [0, 1], with class indices."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from interp.errors import UserError

ROUNDING = 1e-3  # that normalising and undoing it may leave beyond [0, 1]


class PlainImages:
    """The images of `dataset`, a Dataset of (image, label) pairs, with the normalisation by `mean` and `std` undone.

    An image is a float tensor (C, H, W), uint8 from 0 to 255, or PIL's; only float ones can be normalised. Labels are
    class indices from 0, -1 where the class is unknown. Raises UserError for anything else.
    """

    def __init__(self, dataset: Any, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and len(dataset)):
            raise UserError(f"a probe is chosen from a data set with a length and indices, not {_kind(dataset)}")
        if bool(mean) != bool(std) or not all(s > 0 for s in std):
            raise UserError(f"mean={list(mean)}, std={list(std)}: give both, one number a channel, std above 0")
        self.dataset = dataset
        self.mean, self.std = (torch.tensor(list(values)).view(-1, 1, 1) for values in (mean, std))
        self.targets = torch.tensor(_labels(dataset), dtype=torch.int64)  # (N,)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = _pair(self.dataset, index)
        return self._plain(image), _label(label, index)

    def _plain(self, image: Any) -> Tensor:
        """The image (C, H, W) float32, in [0, 1] where it can be told."""
        image = image if isinstance(image, Tensor) else _pixels(image)
        if image.ndim != 3:
            raise UserError(f"an image has the shape {tuple(image.shape)}: wanted is (channels, height, width)")
        if image.dtype == torch.uint8:
            return image.float() / 255
        if not image.is_floating_point():
            raise UserError(f"an image is of {image.dtype}: wanted are floats in [0, 1], or uint8")
        image = image.detach().float().cpu()
        if not len(self.mean):
            return image
        if len(self.mean) not in (1, len(image)):
            raise UserError(f"mean= and std= have {len(self.mean)} numbers, the images {len(image)} channels")
        image = image * self.std + self.mean
        off = max(float(-image.min()), float(image.max()) - 1)
        return image.clamp(0, 1) if off <= ROUNDING else image


def warn_outside(images: Tensor, undone: bool) -> None:
    """Warn where `images` (B, C, H, W) are not in [0, 1], whether or not a normalisation was `undone`."""
    least, most = float(images.min()), float(images.max())
    if least < -ROUNDING or most > 1 + ROUNDING:
        advice = "those of the data set's own normalisation" if undone else "of the normalisation that is to be undone"
        warnings.warn(
            f"the images lie from {least:.3g} to {most:.3g}, outside of [0, 1], so that pictures of them are wrong: "
            f"give mean= and std= {advice}", stacklevel=3,
        )  # fmt: skip


def _pixels(image: Any) -> Tensor:
    """A picture of PIL as uint8 (C, H, W): grey and RGB as they are, what else it can be as RGB."""
    from PIL.Image import Image
    from torchvision.transforms.v2.functional import pil_to_tensor

    if not isinstance(image, Image):
        raise UserError(f"an image is {_kind(image)}: wanted is a tensor (C, H, W), float or uint8, or PIL's")
    if image.mode.startswith(("I", "F")):
        raise UserError(f"an image has the mode {image.mode}: turn it into a float tensor in [0, 1]")
    return pil_to_tensor(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def _labels(dataset: Any) -> list[int]:
    """The labels of all N items: known beforehand where it is one of torch's or torchvision's own, else read."""
    if isinstance(dataset, Subset):
        labels = _labels(dataset.dataset)
        return [labels[index] for index in dataset.indices]
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        known: Any = dataset.tensors[1]
    else:
        known = None if getattr(dataset, "target_transform", None) else getattr(dataset, "targets", None)
    if known is None or len(known) != len(dataset):
        known = [_pair(dataset, index)[1] for index in range(len(dataset))]
    return [_label(label, index) for index, label in enumerate(known)]


def _pair(dataset: Any, index: int) -> Sequence[Any]:
    pair = dataset[index]
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise UserError(f"item {index} of the data set is {_kind(pair)}: wanted is a pair (image, label)")
    return pair


def _label(label: Any, index: int) -> int:
    try:
        number = int(label)
        if number == float(label) and number >= -1:
            return number
    except (TypeError, ValueError, RuntimeError):
        pass
    raise UserError(f"the label of item {index} is {label!r:.60}: wanted is a class index from 0, or -1 for unknown")


def names_of_classes(dataset: Any, labels: Tensor) -> tuple[str, ...]:
    """What `dataset` calls its classes, or their numbers up to the highest of `labels` (N,)."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return tuple(map(str, names or range(int(labels.max()) + 1)))


def _kind(value: Any) -> str:
    return f"of the kind {type(value).__name__}"
