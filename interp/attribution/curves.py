"""How fast an answer goes as pixels go, and comes as they come, in the order of a map (Petsiuk et al. 2018)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from interp.attribution.methods import Task
from interp.vectors import fraction

CURVE = 8  # points of a deletion or insertion curve
ORDERS = 8  # of the pixels, drawn at random, that the curves are compared with


@dataclass(frozen=True)
class Chance:
    """What R random orders of the pixels reach on B images: what the curves of a map are compared with."""

    areas: Tensor  # (R, B) under the curves of deletion, and of insertion in the opposite order, which are the same
    ends: tuple[Tensor, Tensor]  # (B,) the probabilities of the images and of the blank one, where every curve ends

    def gain(self, better: Tensor) -> tuple[float, float]:
        """Mean of `better` (B,), areas less the mean of chance or the reverse, and by how many standard errors.

        The error is that of a random order: sqrt(sum of the R areas' variances / B^2 * (1 + 1 / R)).
        """
        orders, count = self.areas.shape
        error = (self.areas.double().var(dim=0).sum() * (1 + 1 / orders)).sqrt() / count
        mean = better.double().mean()
        return float(mean), float(fraction(mean, error))

    def gains(self, deleted: Tensor, inserted: Tensor) -> dict[str, float]:
        """How much better than chance areas (B,) of deletion and insertion are, each as `gain` has it."""
        expected = self.areas.mean(dim=0)
        better = {"deletion": expected - deleted, "insertion": inserted - expected}
        pairs = {name: self.gain(of) for name, of in better.items()}
        return {f"{name}_{kind}": of[i] for name, of in pairs.items() for i, kind in enumerate(("gain", "z"))}

    @classmethod
    def of(cls, net: nn.Module, task: Task, orders: int = ORDERS) -> "Chance":
        """As many as fit into a batch are tried at once. Draws from torch's global stream."""
        ends = probability(net, task), probability(net, replace(task, images=task.blanks))
        drawn = torch.stack([torch.rand_like(task.images[:, 0]) for _ in range(orders)])
        areas = []
        for some_orders in drawn.split(max(1, task.batch_size // len(task.images))):
            count = len(some_orders)
            images, targets = task.images.repeat(count, 1, 1, 1), task.targets.repeat(count)
            repeated = replace(task, images=images, targets=targets)
            ends_of_all = ends[0].repeat(count), ends[1].repeat(count)
            area = _area(net, repeated, repeated.blanks, some_orders.flatten(0, 1), ends_of_all)
            areas.append(area.view(count, -1))
        return cls(torch.cat(areas), ends)


def areas(
    net: nn.Module, task: Task, order: Tensor, ends: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Areas (B,) in [0, 1] under the curves of deletion and of insertion (Petsiuk et al. 2018) by `order` (B, H, W).

    The curves are the target's probability while the pixels, highest first, are taken from the image, or come to the
    blank one. `ends`, if known: the probabilities (B,) of the images and of the blank one.
    """
    ends = ends or (probability(net, task), probability(net, replace(task, images=task.blanks)))
    backwards = replace(task, images=task.blanks)
    return _area(net, task, task.blanks, order, ends), _area(net, backwards, task.images, order, ends)


def _area(net: nn.Module, task: Task, others: Tensor, order: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """Mean probability (B,) while more and more of the task's pixels are taken from `others`."""
    between = [probability(net, replace(task, images=images)) for images in _mixed(task.images, others, order)]
    return torch.stack([*ends, *between]).mean(dim=0)


def _mixed(images: Tensor, others: Tensor, order: Tensor) -> Iterator[Tensor]:
    """`images` with more and more of their pixels, highest in `order` (B, H, W) first, taken from `others`.

    Neither none nor all of them.
    """
    ranks = order.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(order)[:, None]
    for count in torch.linspace(0, ranks[0].numel(), CURVE)[1:-1].round().tolist():
        yield torch.where(ranks < count, others, images)


@torch.no_grad()
def probability(net: nn.Module, task: Task) -> Tensor:
    """The probabilities (B,) of the targets."""
    return logits(net, task).softmax(dim=1).gather(1, task.targets[:, None])[:, 0]


@torch.no_grad()
def logits(net: nn.Module, task: Task) -> Tensor:
    return torch.cat([net(part.images).float() for part in task.parts()])
