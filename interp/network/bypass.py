"""How much of a change of the answer passes through a layer: its activations are exchanged between images."""

from contextlib import ExitStack
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from interp.network.modules import replaced, tensor_of, tensors_of
from interp.network.positions import Layout

ROUNDING = 100  # times as much as rounding must the answers of two images differ, for a share of it to be told


class Exchange:
    """What goes past a layer when images (B, C, H, W) exchange their activations there."""

    @torch.no_grad()
    def __init__(self, net: nn.Module, images: Tensor) -> None:
        self.net, self.images, self.told = net, images, dict[str, tuple[float, float]]()
        self.answers = _answers(net, images)
        self.noise = [
            float((exchanged - answer.roll(1, 0)).norm())
            for answer, exchanged in zip(self.answers, _answers(net, images.roll(1, 0)), strict=True)
        ]

    def bypass(self, name: str, at: Layout) -> float:
        """The share of a change of the answer that does not pass through layer `name`: 0 for a true cut, 1 irrelevant.

        |answers with the activations of the others - answers of the others| / |answers - answers of the others|, where
        class and register tokens are not exchanged. The answers are the logits or, where these do not depend on the
        image beyond rounding, what the last linear layer reads; NaN where that does not either.
        """
        return self._told(name, at)[0]

    def bears(self, name: str, at: Layout) -> bool:
        """Whether the answer changes at all with the activations at the layer's positions."""
        return self._told(name, at)[1] != 0

    def _told(self, name: str, at: Layout) -> tuple[float, float]:
        """The bypass, and the same measure of how far the answers come from what they were."""
        if name not in self.told:
            self.told[name] = self._exchange(name, at)
        return self.told[name]

    @torch.no_grad()
    def _exchange(self, name: str, at: Layout) -> tuple[float, float]:
        def exchange(tensor: Tensor) -> Tensor:
            grid = at.grid(tensor)
            return tensor - at.output(grid) + at.output(grid.roll(1, 0))  # exactly what the others have

        with replaced(self.net, name, exchange):
            exchanged_answers = _answers(self.net, self.images)
        for answer, exchanged, noise in zip(self.answers, exchanged_answers, self.noise, strict=True):
            other = answer.roll(1, 0)
            if (whole := float((answer - other).norm())) > ROUNDING * noise:
                away, moved = (float((exchanged - of).norm()) for of in (other, answer))
                return away / whole, moved / whole if moved > ROUNDING * noise else 0.0
        return nan, nan


def _answers(net: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits, and what the last linear layer or 1 x 1 convolution reads."""
    return [part.cpu().double() for part in read_by_head(net, images) if part is not None]


def read_by_head(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits of `images`, and vectors (B, D): the input of the last linear layer or 1 x 1 convolution that runs.

    The mean over its positions or tokens where it has some; None where no such layer runs.
    """
    read: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
        read[:] = [(module, tensors_of((inputs, named))[0])]

    with ExitStack() as stack:
        for module in net.modules():
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
                stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        logits = tensor_of(net(images))
    assert logits is not None  # a network puts out numbers
    if not read:
        return logits, None
    [(head, vectors)] = read
    channels = 1 if isinstance(head, nn.Conv2d) else -1
    return logits, vectors.movedim(channels, -1).unflatten(-1, (1, -1)).flatten(1, -2).mean(dim=1)
