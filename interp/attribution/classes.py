"""Attributions to every class at once: which positions, channels and groups of a layer pushed which logits.

The studies use positions and groups. Channels (the article's other half, its sister notebook) are a building block for
use from Python:

>>> from interp.network.layers import Layer
>>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(5))
>>> images = torch.rand(2, 3, 6, 6)
>>> _ = net.eval()(images)
>>> tail = Tail(net, images, Layer.named(net, images, "1"))
>>> pushed = channel_attribution(tail, torch.tensor([4]))  # of the logit of class 4
>>> pushed.shape
torch.Size([1, 2, 8])
>>> torch.allclose(pushed.sum(dim=2)[0], all_classes(tail)[:, 4].sum(dim=(1, 2)), atol=1e-5)
True
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp.attribution.tail import Tail
from interp.errors import unknown
from interp.words import class_index


def all_classes(tail: Tail, *, smooth: bool = False, chunk: int = 128) -> Tensor:
    """Spatial attributions (B, J, h, w) of every class, in logits: the sum over channels of gradient x activation.

    By forward-mode products over positions or by backward products over classes, whichever are fewer, `chunk` images'
    worth of them at once (the memory grows with it).
    """
    activations = tail.activations
    images, _, height, width = activations.shape
    size = max(1, chunk // images)
    classes = tail(activations).shape[1]
    if classes <= height * width:
        batches = torch.arange(classes, device=activations.device).split(size)
        attributions = torch.cat([(tail.pull(part, smooth) * activations).sum(dim=2) for part in batches])
        return attributions.transpose(0, 1)
    places = torch.arange(height * width, device=activations.device).split(size)
    attributions = torch.cat([tail.push(_only(activations, part), smooth) for part in places])
    return attributions.permute(1, 2, 0).unflatten(2, (height, width))


def _only(activations: Tensor, places: Tensor) -> Tensor:
    """The activations (B, C, h, w) at one position each (T,), zeros elsewhere: (T, B, C, h, w)."""
    mask = torch.nn.functional.one_hot(places, activations.shape[2] * activations.shape[3]).to(activations)
    return activations * mask.view(len(places), 1, 1, *activations.shape[2:])


def channel_attribution(tail: Tail, classes: Tensor, smooth: bool = False) -> Tensor:
    """Attribution (T, B, C) of each channel to the logits of `classes`, (T,) or one an image (T, B), in logits."""
    return (tail.pull(classes, smooth) * tail.activations).sum(dim=(3, 4))


def group_effects(tail: Tail, spatial: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
    """The linear effect of each group on every class, (B, K, J), and of what the groups leave out, (B, J), in logits.

    Groups are maps (B, K, h, w) x channel factors (K, C). The sum over groups and the residual is gradient x
    activation, since the effect is linear in the activations: K + 1 forward-mode products.
    """
    activations_of_groups = group_activations(spatial, channel)
    residual = tail.activations - activations_of_groups.sum(dim=0)
    pushed = tail.push(torch.cat([activations_of_groups, residual[None]]))
    return pushed[:-1].transpose(0, 1), pushed[-1]


def ablation_effects(tail: Tail, spatial: Tensor, channel: Tensor) -> Tensor:
    """The exact effect (B, K, J) of each group: the logits less those without the group's activations."""
    logits = tail(tail.activations)
    return torch.stack([logits - tail(tail.activations - part) for part in group_activations(spatial, channel)], dim=1)


def group_activations(spatial: Tensor, channel: Tensor) -> Tensor:
    """The part (K, B, C, h, w) of the activations that is each group's."""
    return torch.einsum("bkhw,kc->kbchw", spatial, channel)


def choose_classes(logits: Tensor, labels: Tensor, wanted: Sequence[str], names: Sequence[str], top: int = 5) -> Tensor:
    """The classes (B, T) int64 to look at for each image, none twice, from logits (B, J) and labels (B,), -1 unknown.

    `wanted` holds class names, or "true" (nothing where it is unknown), "predicted", "top" (the `top` largest logits);
    the rest of the T places, where words mean the same class, is filled by the next largest logits. Raises UserError
    for another word.
    """
    ranked = logits.argsort(dim=1, descending=True, stable=True)
    words = {"true": labels[:, None], "predicted": ranked[:, :1], "top": ranked[:, :top]}
    for name in set(wanted) - words.keys():
        if (index := class_index(name, names)) is None:
            raise unknown("class", name, [*words, *names])
        words[name] = torch.full_like(labels, index)[:, None]
    asked = torch.cat([words[word] for word in wanted], dim=1)
    count = min(asked.shape[1], logits.shape[1])
    rows = [
        list(dict.fromkeys(j for j in (*first, *rest) if j >= 0))[:count]
        for first, rest in zip(asked.tolist(), ranked.tolist(), strict=True)
    ]
    return torch.tensor(rows, device=logits.device)
