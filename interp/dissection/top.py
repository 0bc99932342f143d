"""The images in which each unit peaks highest, from a stream, and where it fires in them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interp.dissection.concepts.data import ConceptData
from interp.dissection.result import Dissection, warn_of_saturated
from interp.dissection.stream import BATCH, dissect
from interp.dissection.tally import masks
from interp.network.layers import Layer
from interp.processes.share import folded, is_first, part


class TopImages:
    """The `keep` images with the highest values of each of U units; of equal values the earlier image comes first.

    However the stream is divided and united, the result is the same. Memory does not grow with the images.
    """

    def __init__(self, keep: int, first: int = 0) -> None:
        self.keep, self.next = keep, first  # the number of the next image
        self.values = torch.empty(0, 0)  # (U, keep) float32, descending
        self.images = torch.empty(0, 0, dtype=torch.int64)  # (U, keep)

    def add(self, peaks: Tensor) -> None:
        """Take in the values (B, U) of the next B images; NaN counts as the lowest."""
        peaks = peaks.float().T.cpu().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        numbers = torch.arange(self.next, self.next + peaks.shape[1]).expand(len(peaks), -1)
        self.next += peaks.shape[1]
        self._take(peaks, numbers)

    def unite(self) -> None:
        """Take in what those of all processes that study together have kept."""
        united = folded(torch.stack([self.values.double(), self.images.double()]), self._both)
        self.values, self.images = united[0].float(), united[1].long()

    def _both(self, first: Tensor, second: Tensor) -> Tensor:
        if not first.numel() or not second.numel():
            return first if first.numel() else second
        both = TopImages(self.keep)
        for values, images in (first, second):
            both._take(values.float(), images.long())
        return torch.stack([both.values.double(), both.images.double()])

    def _take(self, values: Tensor, images: Tensor) -> None:
        if len(self.values):
            values, images = torch.cat([self.values, values], dim=1), torch.cat([self.images, images], dim=1)
        images, order = images.sort(dim=1)
        values, best = values.gather(1, order).sort(dim=1, descending=True, stable=True)
        self.values, self.images = values[:, : self.keep], images.gather(1, best)[:, : self.keep]


def dissect_layers(
    net: nn.Module, data: ConceptData, layers: Sequence[Layer], keep: int = 5, **options
) -> tuple[dict[str, Dissection], dict[str, TopImages]]:
    """`dissect` several layers (tokens on their grid) and the `keep` images in which each unit peaks, in one pass."""
    first = part(len(data), options.get("batch_size", BATCH)).start
    tops = {layer.name: TopImages(keep, first) for layer in layers}

    def view(activations: dict[str, Tensor]) -> dict[str, Tensor]:
        grids = {layer.name: layer.layout.grid(activations[layer.name]) for layer in layers}
        for name, values in grids.items():
            tops[name].add(values.amax(dim=(2, 3)))
        return grids

    dissections = dissect(net, data, [layer.name for layer in layers], view=view, **options)
    for top in tops.values():
        top.unite()
    if is_first():
        warn_of_saturated(dissections.values())
    return dissections, tops


@torch.no_grad()
def evidence(
    net: nn.Module,
    data: ConceptData,
    layer: Layer,
    units: Tensor,
    images: Tensor,
    thresholds: Tensor,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Images uint8 (S, n, C, H, W) of `data`, numbered `images` (S, n), and where the `units` (S,) fire, on the CPU.

    The latter is bool (S, n, H, W), from the `thresholds` (U,) of all units of the layer.
    """
    if not len(units):
        channels, height, width = data.image(0).shape
        sizes = (0, images.shape[1], height, width)
        return torch.zeros(*sizes[:2], channels, *sizes[2:], dtype=torch.uint8), torch.zeros(sizes, dtype=torch.bool)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    pictures = torch.stack([data.image(index) for index in images.flatten().tolist()])
    values = layer.activations(net, pictures.to(device), batch_size).unflatten(0, images.shape)
    maps = values[torch.arange(len(units)), :, units]  # (S, n, h, w)
    fires = masks(maps.transpose(0, 1), thresholds[units], *pictures.shape[2:])
    return (pictures * 255).round().byte().unflatten(0, images.shape).cpu(), fires.transpose(0, 1).cpu()
