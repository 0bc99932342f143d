"""Saliency against a baseline (Simonyan et al. 2013, and the MNIST interrogation document)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp import vectors


@dataclass(frozen=True)
class Saliency:
    """Gradients of each image's target logit, in logits per unit of brightness; all (B, C, H, W)."""

    gradient: Tensor  # at the image
    baseline: Tensor  # of the same logit at an image without content

    @property
    def delta(self) -> Tensor:
        """What the gradient shows beyond the baseline."""
        return self.gradient - self.baseline


def saliency(net: nn.Module, images: Tensor, targets: Tensor, blank: Tensor, batch_size: int = 64) -> Saliency:
    """Gradients at `images` (B, C, H, W) and at `blank` (C, 1, 1) of the logits `targets` (B,) int64.

    `net` must be in eval mode. `batch_size` images at a time bound the memory.
    """
    blanks = blank.to(images).expand_as(images[:1]).expand_as(images)
    gradients_of_batches = [
        [_gradient(net, batch, target) for batch in (image, empty)]
        for image, empty, target in zip(*(t.split(batch_size) for t in (images, blanks, targets)), strict=True)
    ]
    gradient, baseline = (torch.cat(column) for column in zip(*gradients_of_batches, strict=True))
    return Saliency(gradient, baseline)


def mean_colour(net: nn.Module, images: Tensor) -> Tensor | None:
    """The colour (C, 1, 1) or (1, 1, 1) that `net` takes from `images` (B, C, H, W) in [0, 1], None where it has none.

    That is its `mean`, as `interp.network.layers.Normalized` has one.
    """
    mean = getattr(net, "mean", None)
    if not isinstance(mean, Tensor) or mean.numel() not in (1, images.shape[1]):
        return None
    mean = mean.detach().view(-1, 1, 1)
    return mean if ((mean >= 0) & (mean <= 1)).all() else None


def _gradient(net: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    chosen = net(images).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(chosen, images)[0]


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """`interp.vectors.spearman` (B,) in float32."""
    return vectors.spearman(first, second).float()
