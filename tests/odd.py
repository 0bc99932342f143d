"""Data and networks of a user that a training cannot use as they are, by `_target_`."""

import warnings
from collections import namedtuple

import torch
from torch import Tensor, nn

from interp.lit.data import ImageData, Splits, TensorImages

Answer = namedtuple("Answer", ["logits", "features"])


class Items(TensorImages):
    """Images in a form of their own."""

    def __init__(self, images: Tensor, targets: Tensor, form: str) -> None:
        super().__init__(images, torch.eye(3)[targets] if form == "vectors" else targets)
        self.form = FORMS[form]

    def __getitem__(self, index: int):
        return self.form(self.images[index], self.targets[index], index)


FORMS = {
    "plain": lambda image, label, index: (image.float() / 255, int(label)),
    "vectors": lambda image, label, index: (image.float() / 255, label),
    "bytes": lambda image, label, index: (image, int(label)),
    "bright": lambda image, label, index: (image.clamp(0, 255).float(), int(label)),
    "alone": lambda image, label, index: image.float() / 255,
    "sizes": lambda image, label, index: (image[:, : 8 - index % 2].float() / 255, int(label)),
}


def noise(label: int | None = None, count: int = 12, classes: int = 3, size: int = 8, form: str = "plain") -> Splits:
    """Random images without a test set; with `label` the sixth has that label; `form` is one of FORMS."""
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 1, size, size), dtype=torch.uint8, generator=stream)
    images[:1, :, 0, 0], images[:1, :, 0, 1] = 0, 255
    labels = torch.arange(count) % classes
    if label is not None:
        labels[5] = label
    part = Items(images, labels, form)
    return Splits(part, part, None, tuple(f"class {index}" for index in range(classes)))


class Net(nn.Module):
    """A small network whose answer is changed by `after`."""

    def __init__(self, data: ImageData, after=lambda logits: logits, outputs: int | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(data.channels, 4, 3, padding=1)
        self.head = nn.Linear(4, outputs or len(data.class_names))
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.head(self.first(images).relu().mean(dim=(2, 3))))


class Plain(nn.Module):
    """A network that is told how many classes there are, not the data."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        if not isinstance(classes, int):
            raise ValueError(f"wanted are classes, not {classes}")
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def net(data: ImageData, kind: str = "plain") -> nn.Module:
    """A network of a user, wrong in a way of its own."""
    made = {
        "plain": lambda: Net(data),
        "tuple": lambda: Net(data, lambda logits: (logits, logits.mean())),
        "named": lambda: Net(data, lambda logits: Answer(logits, logits.mean())),
        "dictionary": lambda: Net(data, lambda logits: {"features": logits.mean(), "logits": logits}),
        "one": lambda: Net(data, outputs=1),
        "many": lambda: Net(data, outputs=1000),
        "map": lambda: Net(data, lambda logits: logits[..., None, None]),
        "mapped": lambda: Net(data, lambda logits: logits[:, :, None]),
        "argmax": lambda: Net(data, lambda logits: logits.argmax(dim=1)),
        "squeezed": lambda: Net(data, lambda logits: logits.squeeze(0)),
        "not_finite": lambda: Net(data, lambda logits: logits / 0 * 0),
        "detached": lambda: Net(data, lambda logits: logits.detach()),
        "frozen": lambda: Net(data).requires_grad_(False),
        "broken": lambda: Net(data, lambda logits: logits @ torch.ones(7, 2)),
        "in_training": lambda: TupleInTraining(data),
        "scripted": lambda: torch.jit.trace(Net(data), torch.rand(2, data.channels, data.size, data.size)),
        "quantised": lambda: nn.Sequential(nn.Flatten(), torch.ao.nn.quantized.dynamic.Linear(64, 3)),
        "raising": lambda: Plain("8"),
        "text": lambda: "resnet",
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit and quantisation are deprecated
        return made[kind]()


class TupleInTraining(Net):
    """Answers with a side head while it trains."""

    def forward(self, images: Tensor):
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


def normed(data: ImageData) -> nn.Module:
    """Ends in batch normalisation at 1 x 1."""
    return nn.Sequential(nn.Flatten(), nn.Linear(data.channels * data.size**2, 8), nn.BatchNorm1d(8),
                         nn.Linear(8, len(data.class_names)))  # fmt: skip
