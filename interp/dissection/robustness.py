"""Do the same units detect the same concepts in disturbed images? Thresholds are those of the undisturbed ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.confusion import answers
from interp.dissection.changes import change, rank_correlation
from interp.dissection.concepts.data import ConceptData
from interp.dissection.result import Dissection
from interp.dissection.stream import BATCH, dissect
from interp.dissection.top import TopImages
from interp.network.layers import Layer, unwrap
from interp.processes.share import gathered, part


class _WithLogits(nn.Module):
    """`net` whose logits are a layer too, so that one forward pass serves all."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.logits = net, nn.Identity()
        self.prefix = next(name for name, module in self.named_modules() if module is unwrap(net)) + "."

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.net(images))


@dataclass(frozen=True)
class Seen:
    """What a network made of some images."""

    found: dict[str, Dissection]  # by layer
    tops: dict[str, TopImages]  # by layer
    pooled: dict[str, Tensor]  # by layer: (N, U) mean activation of each image
    answers: Tensor  # (N,) int64, predicted classes, -1 where the logits are NaN or infinite


def see(net: nn.Module, data: ConceptData, layers: Sequence[Layer], keep: int = 5, **options) -> Seen:
    """Dissect `layers`, and note pooled activations and predicted classes, in one pass; `options` go to `dissect`.

    Unlike a dissection alone it holds U numbers an image: for a probe of some thousands.
    """
    whole, answered = _WithLogits(net), list[Tensor]()
    first = part(len(data), options.get("batch_size", BATCH)).start
    tops = {layer.name: TopImages(keep, first) for layer in layers}
    pooled: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}

    def view(activations: dict[str, Tensor]) -> dict[str, Tensor]:
        answered.append(answers(activations["logits"]).cpu())
        grids = {layer.name: layer.layout.grid(activations[whole.prefix + layer.name]) for layer in layers}
        for name, values in grids.items():
            tops[name].add(values.amax(dim=(2, 3)))
            pooled[name].append(values.float().mean(dim=(2, 3)).cpu())
        return grids

    dissections = dissect(
        whole, data, [*(whole.prefix + layer.name for layer in layers), "logits"], view=view, **options
    )
    for top in tops.values():
        top.unite()
    return Seen(dissections, tops, {name: gathered(batches) for name, batches in pooled.items()}, gathered(answered))


SURVIVAL = ("detectors", "concepts", "kept", "lost", "gained", "IoU kept", "rank correlation")


def survival(before: Seen, after: Seen, layer: str) -> Tensor:
    """What became of the detectors of a layer: (7,) float64 in the order of `SURVIVAL`.

    Detectors now and the concepts that have one; detectors kept, lost and gained; the mean over the detectors from
    before of the IoU with their concept over what it was (0 without any); the mean over units without NaN of Spearman's
    correlation of their pooled activations, over the same images.
    """
    changes = change(before.found[layer], after.found[layer])
    had = before.found[layer].detectors
    first, second = (seen.pooled[layer] for seen in (before, after))
    alive = (first.std(dim=0, correction=0) > 0) & (first.isfinite() & second.isfinite()).all(dim=0)
    correlation = rank_correlation(first[:, alive], second[:, alive])
    counts = [*after.found[layer].level(), *(int(part.sum()) for part in (changes.kept, changes.lost, changes.gained))]
    means = [float(part.mean()) if len(part) else 0.0 for part in (changes.iou_kept[had], correlation)]
    return torch.tensor([*counts, *means], dtype=torch.float64)
