"""Adversarial images: small changes that mislead a network (FGSM: Goodfellow et al. 2015; PGD: Madry et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from interp.dissection.concepts.data import ConceptData, Concepts, Labels


def attack(net: nn.Module, images: Tensor, targets: Tensor, radius: float, steps: int) -> Tensor:
    """`images` (B, C, H, W) moved away from `targets` (B,), by at most `radius` / 255 a value, within [0, 1].

    `steps` along the sign of the gradient of the cross-entropy, from the image itself (no random start); 1 is FGSM.
    """
    reach = radius / 255
    lowest, highest = (images - reach).clamp_min(0), (images + reach).clamp_max(1)
    stride = reach if steps == 1 else 2.5 * reach / steps
    moved = images.detach()
    for _ in range(steps):
        with torch.enable_grad():
            moved = moved.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(net(moved), targets, reduction="sum"), moved)
        moved = (moved.detach() + stride * gradient.sign()).clamp(lowest, highest)
    return moved


class Attacked:
    """Concept data under an attack on `net`: made as they are read, `batch_size` at a time; the labels stay."""

    def __init__(
        self, data: ConceptData, net: nn.Module, targets: Tensor, radius: float, steps: int, batch_size: int = 64
    ) -> None:
        self.data, self.net, self.targets = data, net, targets
        self.radius, self.steps, self.batch_size = radius, steps, batch_size
        self._start, self._images = -1, torch.empty(0)

    @property
    def concepts(self) -> Concepts:
        """Those of `data`."""
        return self.data.concepts

    def __len__(self) -> int:
        return len(self.data)

    def image(self, index: int) -> Tensor:
        """Image `index`, on the CPU: read in order each batch is attacked once, out of order each image alone."""
        start = index - index % self.batch_size
        if index == start != self._start:
            self._images, self._start = self._attack(range(start, min(start + self.batch_size, len(self)))), start
        return self._images[index - start] if start == self._start else self._attack(range(index, index + 1))[0]

    def _attack(self, chosen: range) -> Tensor:
        device = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        images = torch.stack([self.data.image(index) for index in chosen]).to(device)
        targets = self.targets[chosen.start : chosen.stop].to(device)
        return attack(self.net, images, targets, self.radius, self.steps).cpu()

    def labels(self, index: int) -> Labels:
        """Those of `data`."""
        return self.data.labels(index)
