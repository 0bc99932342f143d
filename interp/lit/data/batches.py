"""How training images are changed, and come together in batches."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, default_collate

from interp.errors import UserError
from interp.probe import LabelledImages, same_size


class Augmented(Dataset):
    """A data set whose images pass through random transforms (torchvision v2)."""

    def __init__(self, dataset: LabelledImages, transforms: Sequence[Callable]) -> None:
        self.dataset, self.transforms, self.targets = dataset, transforms, dataset.targets

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, target = self.dataset[index]
        for transform in self.transforms:
            image = transform(image)
        return image.clamp(0, 1), target


def collate(items: list[tuple[Tensor, int]]) -> Any:
    """A batch of images (B, C, H, W) and labels (B,) int64; raises UserError where the images differ in size."""
    try:
        return default_collate(items)
    except RuntimeError:
        same_size([image for image, _ in items], "images of a batch")
        raise


def last_is_single(count: int, processes: int, batch_size: int) -> bool:
    """Whether the last batch of `count` images, divided among `processes`, holds one image.

    Raises UserError where every batch does.
    """
    share = -(-count // processes)
    if (share - 1) % batch_size:
        return False
    if min(share, batch_size) == 1:
        raise UserError(
            f"data.batch_size={batch_size} with {count} training images: batches of one image, on which the network "
            "cannot train (batch normalisation at 1 x 1 needs two): give more"
        )
    return True
