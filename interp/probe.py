"""What is looked at: a few fixed images with their labels, the same at every epoch and in every run of a sweep."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from interp.errors import UserError
from interp.network.images import PlainImages, names_of_classes, warn_outside
from interp.network.modules import Normalized
from interp.network.quiet.switches import random_numbers_kept
from interp.processes.loader_workers import obey_parent, worker_context
from interp.processes.share import everyones, part


class LabelledImages(Protocol):
    """A data set of (image float32 (C, H, W) in [0, 1], class index)."""

    targets: Tensor  # (N,) int64, the class indices

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


@runtime_checkable
class NamedImages(Protocol):
    """A data set whose images have names of their own, such as files have."""

    image_names: Sequence[str]  # N


def names_in(dataset: object, indices: Sequence[int]) -> tuple[str, ...]:
    """What the images of `dataset` at `indices` (B) are called, '' each where they have no names."""
    return tuple(dataset.image_names[n] if isinstance(dataset, NamedImages) else "" for n in indices)


class Part:
    """The images of a data set at some `places` (n,) int64."""

    def __init__(self, dataset: LabelledImages, places: Tensor) -> None:
        self.dataset, self.places, self.targets = dataset, places.tolist(), dataset.targets[places]
        self.image_names = names_in(dataset, self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.dataset[self.places[index]]


@dataclass(frozen=True)
class Probe:
    """Images to study, with labels."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: Tensor  # (B,) int64, -1 where the class is unknown
    class_names: tuple[str, ...]  # J names
    indices: Tensor  # (B,) int64, position in the data set
    dataset: LabelledImages | None = None  # all the images that these were chosen from
    workers: int = 0  # processes that read them
    image_names: tuple[str, ...] = ()  # B, such as the names of files
    mean: tuple[float, ...] = ()  # C or 1, of the normalisation that the network studied wants of its input; else none
    std: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, dataset: Dataset, *, count: int = 10, mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None, class_names: Sequence[str] | None = None, seed: int = 0,
    ) -> "Probe":  # fmt: skip
        """Choose `count` images, evenly over the classes, of any Dataset of (image, label) pairs, without augmentation.

        An image is a float tensor (C, H, W), uint8 or PIL's. Where it is normalised, (image - mean) / std, give the
        same `mean` and `std`, one number a channel: the probe's images are in [0, 1] again, and a study of this probe
        gives the network normalised ones (`network`). uint8 and PIL images are never normalised: with them the two
        say only what the network wants. Without `class_names` classes are called as `dataset.classes` says, or by
        number. To know the labels, a data set that has no `targets` is read once as a whole; random numbers that it
        draws are its own. Warns where images are outside of [0, 1]. Raises UserError for what it cannot read.
        """
        mean, std = (tuple(map(float, () if values is None else values)) for values in (mean, std))
        with random_numbers_kept(seed):
            plain = PlainImages(dataset, mean, std)
            names = names_of_classes(dataset, plain.targets) if class_names is None else tuple(class_names)
            if (most := int(plain.targets.max())) >= len(names):
                raise UserError(
                    f"there is a label {most} and {len(names)} names of classes: give class_names=, one a class"
                )
            probe = choose_probe(plain, names, count, seed)
        warn_outside(probe.images, bool(mean))
        return replace(probe, mean=mean, std=std)

    def network(self, net: nn.Module) -> nn.Module:
        """`net` as a network of images in [0, 1]: behind the normalisation by `mean` and `std`, where there is one."""
        if not self.mean:
            return net
        weight = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(0))
        behind = Normalized(net, self.mean, self.std)
        behind.training = net.training  # by `train` its modules would no longer be what they are one by one
        behind.mean, behind.std = behind.mean.to(weight), behind.std.to(weight)
        return behind

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Probe":
        """The same probe with its tensors on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("images", "labels", "indices")}
        return replace(self, **moved)

    def agreed(self) -> "Probe":
        """The same probe; raises UserError where processes that study together have others."""
        fingerprint = (int((self.images * 255).round().long().sum()), tuple(self.labels.tolist()), self.class_names)
        if len(set(everyones(fingerprint))) > 1:
            raise UserError("the processes read different images: give each machine the same data, in the same order")
        return self

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images of the data set in its order, `size` at a time, on the probe's device; its own without one.

        Images are (n, C, H, W) float32 in [0, 1], labels (n,) int64. The loader's random stream is its own. Processes
        that study together (`interp.processes.share`) get a share each.
        """
        mine = part(len(self if self.dataset is None else self.dataset), size)
        if not mine:
            return
        if self.dataset is None:
            here = slice(mine.start, mine.stop)
            yield from zip(self.images[here].split(size), self.labels[here].split(size), strict=True)
            return
        stream, own_share = torch.Generator().manual_seed(0), Subset(cast(Dataset, self.dataset), mine)
        loader = DataLoader(
            own_share, size, num_workers=self.workers, generator=stream, worker_init_fn=obey_parent,
            multiprocessing_context=worker_context(self.workers),
        )  # fmt: skip
        for images, labels in loader:
            yield images.to(self.images.device), labels.to(self.images.device)

    def some(self, count: int) -> "Probe":
        """The probe with `count` images of its data set, balanced over the classes and always the same."""
        if self.dataset is None:
            return replace(self, **{name: getattr(self, name)[:count] for name in ("images", "labels", "indices")})
        places = balanced_choice(self.dataset.targets, count, seed=0)
        return replace(self, dataset=Part(self.dataset, places))

    def label_names(self) -> list[str]:
        """What to call each image: its class or, where that is unknown, its own name, '' where it has none."""
        names = self.image_names or ("",) * len(self)
        return [self.class_names[label] if label >= 0 else names[b] for b, label in enumerate(self.labels.tolist())]

    def names_of(self, classes: Tensor) -> list[str]:
        """The names of `classes` (B,), one an image, behind the image's own where its class is unknown."""
        names = [self.class_names[j] for j in classes.tolist()]
        own = zip(self.label_names(), self.labels.tolist(), strict=True)
        return [f"{name}: {c}" if label < 0 and name else c for c, (name, label) in zip(names, own, strict=True)]


def choose_probe(
    dataset: LabelledImages, class_names: tuple[str, ...], count: int, seed: int = 0, workers: int = 0
) -> Probe:
    """Choose `count` images of `dataset`, balanced over its classes and sorted by class, without one in its order.

    The choice depends on `seed` alone. Warns and takes every image when there are fewer than `count`.
    """
    targets = dataset.targets
    if count > len(targets):
        warnings.warn(f"the probe wants {count} images, the set has {len(targets)}: all of them are used", stacklevel=2)
    indices = balanced_choice(targets, count, seed)
    unknown = targets[indices] < 0
    indices[unknown] = indices[unknown].sort().values
    names = names_in(dataset, indices.tolist())
    images = same_size([dataset[index][0] for index in indices.tolist()], "images")
    return Probe(images, targets[indices], class_names, indices, dataset, workers, names)


def same_size(images: list[Tensor], what: str) -> Tensor:
    """`images`, each (C, H, W), as one tensor (B, C, H, W); raises UserError where their sizes differ."""
    check_sizes({tuple(image.shape) for image in images}, what)
    return torch.stack(images)


def check_sizes(sizes: set[tuple[int, ...]], what: str) -> None:
    """Raise UserError where `what`, images (C, H, W), have more than one of these sizes."""
    if len(sizes) > 1:
        first, second, *_ = sorted(sizes)
        raise UserError(
            f"the {what} have different sizes, such as {first} and {second} (channels, height, width): their source "
            "must make them alike"
        )


def balanced_choice(targets: Tensor, count: int, seed: int) -> Tensor:
    """Indices (min(count, N),) int64 that take the classes of `targets` (N,) in turn, sorted by class.

    >>> balanced_choice(torch.tensor([0, 0, 0, 1, 1, 2]), 3, seed=0).shape
    torch.Size([3])
    """
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[targets[shuffled].argsort(stable=True)]
    classes, counts = targets.unique(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank_in_class = torch.arange(len(targets)) - starts
    chosen = (rank_in_class * len(classes) + torch.arange(len(classes)).repeat_interleave(counts)).argsort()[:count]
    return by_class[chosen.sort().values]
