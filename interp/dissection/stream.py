"""Network dissection in a stream: one pass over the images, one over the labels (Bau et al. 2017).

The first pass runs the network, finds each unit's threshold, and keeps the maps that could still exceed it; the second
reads the labels and counts. Memory depends on the units and on the quantile's share of the positions, not on the
images. States of several processes merge to the same bits.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from interp.dissection.concepts import ConceptData, shuffled_labels, stack
from interp.dissection.quantile import BinnedValues, Known, Quantile, TopValues
from interp.dissection.result import Dissection
from interp.dissection.spool import Spool
from interp.dissection.tally import Counts, Maps, count
from interp.errors import UserError, unknown
from interp.layers import capture
from interp.share import from_first, is_first, part, summed

View = Callable[[dict[str, Tensor]], dict[str, Tensor]]
QUANTILE = 0.005
MINIMUM = 0.04  # IoU of a detector
BATCH = 64
MEMORY = 2**31  # bytes that the largest values of a layer may take; beyond, thresholds come from a histogram


@dataclass
class Observed:
    """What the first pass keeps of one layer."""

    quantile: Quantile
    broken: Tensor  # (U,) bool: the unit put out NaN or infinity
    grid: tuple[int, int]  # h, w
    maps: Spool = field(default_factory=Spool)

    def add(self, activations: Tensor) -> None:
        """Take in the activations (B, U, h, w) of a batch."""
        bad = ~activations.isfinite()
        if bad.any():
            self.broken |= bad.any(dim=(0, 2, 3)).to(self.broken.device)
            activations = activations.masked_fill(bad, torch.finfo(activations.dtype).min)
        self.quantile.add(activations.transpose(0, 1).flatten(1))
        self.maps.add(Maps.above(activations, self.quantile.bound().to(activations.device)))

    def merge(self, quantile: Quantile, broken: Tensor) -> None:
        """Take in what another process found in its share; its maps stay with it."""
        self.quantile.merge(quantile)
        self.broken |= broken.to(self.broken.device)

    def unite(self) -> None:
        """Take in what all processes that study together found in their shares; each keeps its maps."""
        self.quantile.unite()
        self.broken = summed(self.broken.long()) > 0

    def thresholds(self) -> Tensor:
        """(U,) float32 on the CPU, NaN for a broken unit, which therefore never fires."""
        return self.quantile.thresholds().cpu().masked_fill(self.broken.cpu(), torch.nan)


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
    that study together (`interp.share`) divide `data` themselves. Raises UserError for unknown layers, outputs that are
    no maps, and images of several sizes.
    """
    if not 0 < quantile < 1:
        raise UserError(f"quantile={quantile}: must lie between 0 and 1")
    names, observed = list(layers), dict[str, Observed]()
    device = _device(net)

    def start(name: str, shape: tuple[int, ...]) -> Observed:
        return _start(name, shape, _known(thresholds, name, shape, device), quantile, total or len(data))

    for indices in _batches(len(data), batch_size):
        images = _images(data, indices).to(device)
        activations = capture(net, images, names, batch_size)
        for name, values in (view(activations) if view else activations).items():
            if name not in observed:
                observed[name] = start(name, tuple(values.shape))
            _check(name, values, observed[name])
            observed[name].add(values.float())
    shapes = from_first({name: (1, len(one.broken), *one.grid) for name, one in observed.items()})
    for name, shape in shapes.items():
        observed.setdefault(name, start(name, shape))  # a process without a share
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


def _known(
    thresholds: Mapping[str, Tensor] | None, name: str, shape: tuple[int, ...], device: torch.device
) -> Tensor | None:
    if thresholds is None:
        return None
    if name not in thresholds:
        raise unknown("layer", name, thresholds, owner="the thresholds given")
    if thresholds[name].shape != shape[1:2]:
        raise UserError(f"{len(thresholds[name])} thresholds for the {shape[1]} units of {name}")
    return thresholds[name].to(device)


def _start(name: str, shape: tuple[int, ...], known: Tensor | None, quantile: float, images: int) -> Observed:
    if len(shape) != 4:
        raise UserError(f"layer {name!r} cannot be dissected: its output is {shape}, not (B, C, H, W)")
    units, grid = shape[1], (shape[2], shape[3])
    total = images * grid[0] * grid[1]
    if known is None and quantile * total < 1:
        warnings.warn(f"{total} positions are too few for quantile={quantile}: no unit of {name} fires", stacklevel=3)
    finder: Quantile = Known(known) if known is not None else TopValues(units, total, quantile)
    if isinstance(finder, TopValues) and 8 * units * finder.keep > MEMORY:
        finder = BinnedValues(units, quantile, total)
    return Observed(finder, torch.zeros(units, dtype=torch.bool), grid)


def _check(name: str, values: Tensor, observed: Observed) -> None:
    expected = (len(observed.broken), *observed.grid)
    if tuple(values.shape[1:]) != expected:
        raise UserError(
            f"layer {name!r} put out {tuple(values.shape[1:])} after {expected}: set the reader's `size`, "
            "so that all images have the same"
        )


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
    waiting = {name: iter(observed[name].maps) for name in counts}
    for indices in _batches(len(data), batch_size):
        maps = {name: _on(next(batches), device) for name, batches in waiting.items()}
        for labels in stack((data.labels(index) for index in indices), data.concepts, device):
            place = torch.full((len(indices),), -1, device=device)
            place[labels.images] = torch.arange(len(labels.images), device=device)
            for name, batch in maps.items():
                here = Maps(place[batch.image], batch.unit, batch.values)
                here = here if len(labels.images) == len(indices) else here.where(here.image >= 0)
                counts[name] = counts[name].merge(count(here, limits[name], labels, data.concepts))
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
    seen = observe(net, data, layers, thresholds=thresholds, quantile=quantile, batch_size=batch_size, view=view)
    limits = {name: one.thresholds() for name, one in seen.items()}
    parts: list[ConceptData] = [data, *(shuffled_labels(data, seed + number) for number in range(shuffles))]
    device = _exact(_device(net))
    counts, *chance = (tally(seen, part, limits, batch_size=batch_size, device=device) for part in parts)
    found = {}
    for name, limit in limits.items():
        by_chance = [Dissection.of(name, data.concepts, limit, c[name], minimum).level() for c in chance]
        found[name] = Dissection.of(name, data.concepts, limit, counts[name], minimum, by_chance)
        if is_first():
            found[name].warn()
    return found
