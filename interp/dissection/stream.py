"""Network dissection in a stream: one pass over the images, one over the labels (Bau et al. 2017).

The first pass runs the network, finds each unit's threshold, and keeps the maps that could still exceed it; the second
reads the labels and counts. Memory depends on the units and on the quantile's share of the positions, not on the
images. What several processes find unites to the same bits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from interp.dissection.concepts.data import ConceptData, Concepts, shuffled_labels, stack
from interp.dissection.observed import Observed, known, same_shape, start_of
from interp.dissection.result import Dissection
from interp.dissection.tally import Counts, Maps, count
from interp.errors import UserError
from interp.network.layers import Layer, capture
from interp.processes.share import from_first, is_first, part, summed

View = Callable[[dict[str, Tensor]], dict[str, Tensor]]
QUANTILE = 0.005
MINIMUM = 0.04  # IoU of a detector
BATCH = 64


def usual_quantile(layers: Iterable[Layer], concepts: Concepts) -> float:
    """The share of its positions in which a unit fires if none is asked for: 0.005, as in the source.

    A vector has one position, the whole image, and whole images are what it can overlap: units fire in as many as a
    concept of the largest category has on average, where all `layers` put out vectors.
    """
    if any(layer.layout.height * layer.layout.width > 1 for layer in layers):
        return QUANTILE
    return max(QUANTILE, 1 / max(2, concepts.largest))


@torch.no_grad()
def observe(
    net: nn.Module,
    data: ConceptData,
    layers: Iterable[str],
    *,
    thresholds: Mapping[str, Tensor] | None = None,
    quantile: float = QUANTILE,
    total: int | None = None,
    batch_size: int = BATCH,
    view: View | None = None,
) -> dict[str, Observed]:
    """The first pass: every image of `data` through `net` (in eval mode), stopping at the deepest of the `layers`.

    `view` turns the activations by layer into those to dissect (B, U, h, w), by any name. `thresholds` (U,) by name
    are taken instead of new ones. `total` counts the images of all processes where `data` is one's share; processes
    that study together (`interp.processes.share`) divide `data` themselves. Raises UserError for unknown layers,
    outputs that are no maps, and images of several sizes.
    """
    if not 0 < quantile < 1:
        raise UserError(f"quantile={quantile}: must lie between 0 and 1")
    names, observed = list(layers), dict[str, Observed]()
    device = _device(net)

    def start(name: str, shape: tuple[int, ...]) -> Observed:
        return start_of(name, shape, known(thresholds, name, shape, device), quantile, total or len(data))

    for indices in _batches(len(data), batch_size):
        images = _images(data, indices).to(device)
        activations = capture(net, images, names, batch_size)
        for name, values in (view(activations) if view else activations).items():
            if name not in observed:
                observed[name] = start(name, tuple(values.shape))
            same_shape(name, values, observed[name])
            observed[name].add(values.float())
    shapes = from_first({name: (1, len(state.broken), *state.grid) for name, state in observed.items()})
    for name, shape in shapes.items():
        if name not in observed:  # a process without a share
            observed[name] = start(name, shape)
        observed[name].unite()
    return observed


def _device(net: nn.Module) -> torch.device:
    return next((p.device for p in net.parameters()), torch.device("cpu"))


def _exact(device: torch.device) -> torch.device:
    """`device` if it knows float64, which Apple's does not, else the CPU."""
    return torch.device("cpu") if device.type == "mps" else device


def _batches(total: int, batch_size: int) -> Iterator[range]:
    if total < 1:
        raise UserError("the concept data hold no images")
    mine = part(total, batch_size)
    return (range(start, min(start + batch_size, mine.stop)) for start in range(mine.start, mine.stop, batch_size))


def _images(data: ConceptData, indices: range) -> Tensor:
    images = [data.image(index) for index in indices]
    for image in images:
        if image.shape != images[0].shape:
            shapes = f"{tuple(images[0].shape)} and {tuple(image.shape)}"
            raise UserError(f"images of several sizes, {shapes}: set the reader's `size`")
    return torch.stack(images)


def tally(
    observed: Mapping[str, Observed],
    data: ConceptData,
    thresholds: Mapping[str, Tensor],
    *,
    batch_size: int = BATCH,
    device: torch.device | str = "cpu",
) -> dict[str, Counts]:
    """The second pass: the labels of the images that were `observed`, with the same `batch_size`, for all layers."""
    counts = {name: Counts.zero(len(limits), data.concepts, device) for name, limits in thresholds.items()}
    limits = {name: thresholds[name].to(device) for name in counts}
    waiting = {name: observed[name].batches(thresholds[name]) for name in counts}
    for indices in _batches(len(data), batch_size):
        maps = {name: _on(next(batches), device) for name, batches in waiting.items()}
        for labels in stack((data.labels(index) for index in indices), data.concepts, device):
            place = torch.full((len(indices),), -1, device=device)
            place[labels.images] = torch.arange(len(labels.images), device=device)
            for name, batch in maps.items():
                here = Maps(place[batch.image], batch.unit, batch.values)
                here = here if len(labels.images) == len(indices) else here.where(here.image >= 0)
                counts[name] += count(here, limits[name], labels, data.concepts)
    return {name: Counts(*map(summed, (c.intersection, c.area, c.support))) for name, c in counts.items()}


def _on(maps: Maps, device: torch.device | str) -> Maps:
    return Maps(maps.image.to(device), maps.unit.to(device), maps.values.to(device))


def dissect(
    net: nn.Module,
    data: ConceptData,
    layers: Iterable[str],
    *,
    thresholds: Mapping[str, Tensor] | None = None,
    quantile: float = QUANTILE,
    minimum: float = MINIMUM,
    batch_size: int = BATCH,
    view: View | None = None,
    shuffles: int = 0,
    seed: int = 0,
) -> dict[str, Dissection]:
    """Dissect several layers (or what `view` makes of them) in one forward pass over `data`.

    `shuffles` further counts with the labels of images exchanged at random give the level of chance. Warns of units
    that put out NaN and of concepts without a pixel; the rest is computed. `net` must be in eval mode.
    """
    observed = observe(net, data, layers, thresholds=thresholds, quantile=quantile, batch_size=batch_size, view=view)
    limits = {name: state.thresholds() for name, state in observed.items()}
    data_sets: list[ConceptData] = [data, *(shuffled_labels(data, seed + number) for number in range(shuffles))]
    device = _exact(_device(net))
    counts, *chance = (
        tally(observed, data_set, limits, batch_size=batch_size, device=device) for data_set in data_sets
    )
    dissections = {}
    for name, limit in limits.items():
        by_chance = [Dissection.of(name, data.concepts, limit, c[name], minimum).level() for c in chance]
        saturated = observed[name].saturated()
        dissections[name] = Dissection.of(name, data.concepts, limit, counts[name], minimum, by_chance, saturated)
        if is_first():
            dissections[name].warn()
    return dissections
