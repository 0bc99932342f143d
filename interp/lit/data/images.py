"""The one DataModule: images in [0, 1] with class names, whatever the source."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from lightning import LightningDataModule
from lightning.fabric.utilities.seed import pl_worker_init_function
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from interp.errors import UserError
from interp.files import readable
from interp.lit.data.batches import Augmented, collate, last_is_single
from interp.lit.data.checks import check_splits
from interp.probe import LabelledImages, Probe, check_sizes, choose_probe
from interp.processes.loader_workers import obey_parent, worker_context
from interp.words import word

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Three sets of labelled images and what their classes are called."""

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages | None  # None: there is none, and nothing is tested
    class_names: tuple[str, ...]


class TensorImages(Dataset):
    """Images that fit in memory: uint8 (N, C, H, W) with int64 class indices (N,)."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Tensor) -> "TensorImages":
        """The images at `indices`, int64 (M,)."""
        return TensorImages(self.images[indices], self.targets[indices])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].float().div_(255), int(self.targets[index])


class ImageData(LightningDataModule):
    """Loaders of a source of images, and what a network must know of them.

    `source` is a function that takes `options` and returns `Splits`; it is called once, when first needed. `augment`
    applies to training images only. The probe is drawn from the validation images by `probe_seed`, never from the
    loaders. `mean` and `std` of each channel, in [0, 1], are those of the training images where they are not given.
    """

    needs_two = False  # set where the network cannot train on one image at a time: the last batch is left out then

    def __init__(
        self,
        source: Callable[..., Splits],
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Sequence[Callable] = (),
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        probe_images: int = 10,
        probe_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.source, self.options = source, options
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augment, self.given_mean, self.given_std = list(augment), mean, std
        self.probe_images, self.probe_seed = probe_images, probe_seed
        if not callable(source):
            raise UserError(
                f"data.source gives {type(source).__name__}: wanted is a function that returns Splits; is it given "
                "with _partial_: true?"
            )
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0),
                                   ("probe_images", probe_images, 1)):  # fmt: skip
            if value < least:
                raise UserError(f"data.{name}={value}: must be at least {least}")

    @cached_property
    def splits(self) -> Splits:
        """The three sets of images."""
        return self.source(**self.options)

    def check(self, labelled: bool = True) -> None:
        """Raise UserError for what a training cannot use; without `labelled`, images may have no class (-1)."""
        check_splits(self.splits, labelled)
        _ = self.normalization

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, J of them, in letters that every file and logger takes."""
        return tuple(readable(word(name)) for name in self.splits.class_names)

    @cached_property
    def channels(self) -> int:
        """Channels of an image."""
        return self.splits.val[0][0].shape[0]

    @cached_property
    def size(self) -> int:
        """Height of an image in pixels."""
        return self.splits.val[0][0].shape[1]

    @cached_property
    def normalization(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel: as given, or of (at most 2,000 of) the training images."""
        given = {"mean": self.given_mean, "std": self.given_std}
        for name, values in given.items():
            if values is not None and (len(values) != self.channels or not all(0 <= v <= 1 for v in values)):
                raise UserError(
                    f"data.{name}={list(values)}: wanted are {self.channels} numbers in [0, 1], one a channel, or null"
                )
        if not all(value > 0 for value in self.given_std or ()):
            raise UserError(f"data.std={list(self.given_std or ())}: a standard deviation must be above 0")
        mean, std = (list(values) if values is not None else None for values in given.values())
        return mean or self._measured[0], std or self._measured[1]

    @cached_property
    def _measured(self) -> tuple[list[float], list[float]]:
        chosen = torch.linspace(0, len(self.splits.train) - 1, min(2000, len(self.splits.train))).long()
        shape = tuple(self.splits.train[0][0].shape)
        count, total, squares = 0, torch.zeros(self.channels).double(), torch.zeros(self.channels).double()
        for index in chosen.tolist():  # one at a time: 2,000 images of 224 pixels take 2.4 GB
            image = self.splits.train[index][0]
            check_sizes({shape, tuple(image.shape)}, "training images")
            pixels = image.flatten(1).double()
            count, total, squares = count + pixels.shape[1], total + pixels.sum(1), squares + pixels.square().sum(1)
        variance = (squares - total.square() / count) / max(1, count - 1)
        return (total / count).tolist(), variance.clamp_min(0).sqrt().clamp_min(1e-3).tolist()

    @cached_property
    def probe(self) -> Probe:
        """The images that plugins look at: the same at every epoch and in every run."""
        return choose_probe(
            self.splits.val, self.class_names, self.probe_images, self.probe_seed, workers=self.num_workers
        )

    @property
    def training_images(self) -> LabelledImages:
        """What is trained on, through its random transforms."""
        images = self.splits.train
        return Augmented(images, self.augment) if self.augment else images

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.training_images, shuffle=True, drop_last=self._leaves_out_the_last())

    def _leaves_out_the_last(self) -> bool:
        """Whether the last batch of an epoch is left out, which is said."""
        count, processes = len(self.splits.train), self.trainer.world_size if self.trainer else 1
        if not self.needs_two or not last_is_single(count, processes, self.batch_size):
            return False
        if not self.trainer or self.trainer.is_global_zero:
            log.warning(
                "the last batch of each epoch would be one image (%d images, data.batch_size=%d), on which the network "
                "cannot train: it is left out", count, self.batch_size,
            )  # fmt: skip
        return True

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.splits.val)

    def test_dataloader(self) -> DataLoader:
        if self.splits.test is None:
            raise UserError("the data has no test set")
        return self._loader(self.splits.test)

    def _loader(self, images: LabelledImages, shuffle: bool = False, drop_last: bool = False) -> DataLoader:
        # No persistent workers: their random streams would run on from epoch to epoch, where a resumed run begins anew.
        return DataLoader(
            cast(Dataset, images),
            batch_size=self.batch_size,
            shuffle=shuffle,
            sampler=None if shuffle else self._each_once(images),
            drop_last=drop_last,
            collate_fn=collate,
            num_workers=self.num_workers,
            worker_init_fn=_start_worker,
            multiprocessing_context=worker_context(self.num_workers),
            pin_memory=torch.cuda.is_available(),
        )

    def _each_once(self, images: LabelledImages) -> DistributedSampler | None:
        """Each image on one of many processes, where Lightning's own sampler repeats some, which then count twice.

        Every process needs an image, as all measure together: of fewer images than processes all read all.
        """
        if self.trainer is None or self.trainer.world_size == 1:
            return None
        if len(images) < self.trainer.world_size:
            return DistributedSampler(cast(Dataset, images), num_replicas=1, rank=0, shuffle=False)
        place = cast(dict, self.trainer.distributed_sampler_kwargs)
        return UnrepeatedDistributedSampler(cast(Dataset, images), shuffle=False, **place)


def _start_worker(number: int) -> None:
    """Seed as Lightning does where no function is given, and leave the signals of the whole job to the main process."""
    if int(os.environ.get("PL_SEED_WORKERS", 0)):
        pl_worker_init_function(number)
    obey_parent()


def stratified(targets: Tensor, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split indices in two, the second with `share` of every class of `targets` (N,); int64, each sorted.

    >>> [len(part) for part in stratified(torch.arange(100) % 10, 0.2)]
    [80, 20]
    """
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    by_class = [shuffled[targets[shuffled] == c] for c in targets.unique()]
    cuts = [round(len(members) * share) for members in by_class]
    held_out = torch.cat([members[:cut] for members, cut in zip(by_class, cuts, strict=True)])
    kept = torch.cat([members[cut:] for members, cut in zip(by_class, cuts, strict=True)])
    return kept.sort().values, held_out.sort().values
