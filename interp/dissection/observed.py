"""What the first pass of a dissection keeps of a layer: values for the threshold, and maps that could exceed it."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interp.dissection.quantile import BinnedValues, Known, Quantile, TopValues
from interp.dissection.spool import Spool
from interp.dissection.tally import Maps
from interp.errors import UserError, unknown
from interp.processes.share import folded, summed

MEMORY = 2**31  # bytes that the largest values of a layer may take; beyond, thresholds come from a histogram


def firing_thresholds(thresholds: Tensor, smallest: Tensor, largest: Tensor) -> Tensor:
    """What units exceed where they fire, (U,), from the `thresholds` of the quantile and the range of their values.

    A unit saturates if the threshold is its maximum, as that of ReLU6 may be: nothing exceeds it, though the unit does
    tell positions apart. It fires at its maximum: what it exceeds is the next smaller number. These are more positions
    than the quantile's share; upsampled, it fires between such neighbours. The threshold of a constant unit stays: it
    never fires.
    """
    saturated = (thresholds >= largest) & (smallest < largest)
    return torch.where(saturated, torch.nextafter(largest, largest.new_tensor(-torch.inf)), thresholds)


class Range:
    """The values of each of U units so far: the smallest, the largest, and for how many batches there was but one."""

    def __init__(self, units: int) -> None:
        self.smallest, self.largest = torch.full((units,), torch.inf), torch.full((units,), -torch.inf)
        self.only = torch.full((units,), -torch.inf)  # the value that a unit had in all of its constant batches
        self.constant = torch.zeros(units, dtype=torch.int64)  # batches before the first in which the unit varied

    def add(self, values: Tensor) -> None:
        """Take in the `values` (U, n) of a batch."""
        smallest, largest = values.amin(dim=1), values.amax(dim=1)  # ten times as fast as aminmax
        self.smallest = torch.minimum(self.smallest.to(smallest), smallest)
        self.largest = torch.maximum(self.largest.to(largest), largest)
        self.only = torch.where(self.one_value, self.largest, self.only.to(largest))
        self.constant = self.constant.to(values.device) + self.one_value

    @property
    def one_value(self) -> Tensor:
        """(U,) bool: the unit was constant so far."""
        return self.smallest == self.largest

    def unite(self) -> None:
        """Take in the smallest and the largest of all processes; batches are each one's own."""
        self.smallest = folded(self.smallest, torch.minimum)
        self.largest = folded(self.largest, torch.maximum)


@dataclass
class Observed:
    """What the first pass keeps of one layer."""

    quantile: Quantile
    broken: Tensor  # (U,) bool: the unit put out NaN or infinity
    grid: tuple[int, int]  # h, w
    saturable: bool  # whether units that saturate fire: not at given thresholds, nor where the quantile lets none fire
    maps: Spool = field(default_factory=Spool)  # but those of units that were constant until then
    images: list[int] = field(default_factory=list)  # how many a batch
    range: Range = field(init=False)

    def __post_init__(self) -> None:
        self.range = Range(len(self.broken))

    def add(self, activations: Tensor) -> None:
        """Take in the activations (B, U, h, w) of a batch."""
        bad = ~activations.isfinite()
        if bad.any():
            self.broken |= bad.any(dim=(0, 2, 3)).to(self.broken.device)
            activations = activations.masked_fill(bad, torch.finfo(activations.dtype).min)
        values = activations.transpose(0, 1).flatten(1)
        self.quantile.add(values)
        self.range.add(values)
        bound = self._fires(self.quantile.bound().to(activations.device))
        self.maps.add(Maps.above(activations, bound.masked_fill(self.range.one_value, torch.inf)))
        self.images.append(len(activations))

    def unite(self) -> None:
        """Take in what all processes that study together found in their shares; each keeps its maps."""
        self.quantile.unite()
        self.range.unite()
        self.broken = summed(self.broken.long()) > 0

    def _fires(self, thresholds: Tensor) -> Tensor:
        if not self.saturable:
            return thresholds
        return firing_thresholds(thresholds, *(end.to(thresholds) for end in (self.range.smallest, self.range.largest)))

    def thresholds(self) -> Tensor:
        """What units exceed where they fire: (U,) float32 on the CPU, NaN for a broken unit, which never fires."""
        return self._fires(self.quantile.thresholds().cpu()).masked_fill(self.broken.cpu(), torch.nan)

    def saturated(self) -> Tensor:
        """(U,) bool on the CPU: the unit fires at its maximum alone, see `firing_thresholds`."""
        return self.thresholds() < self.quantile.thresholds().cpu()

    def batches(self, thresholds: Tensor) -> Iterator[Maps]:
        """The maps of each batch that may exceed the `thresholds` (U,), on the CPU.

        Of a unit that was constant until then one number was kept, from which its maps are made again.
        """
        constant, only = self.range.constant.cpu(), self.range.only.cpu()
        for number, (images, maps) in enumerate(zip(self.images, self.maps, strict=True)):
            units = ((number < constant) & (only > thresholds.cpu())).nonzero()[:, 0]
            yield maps + Maps.even(images, units, only[units], self.grid) if len(units) else maps


def known(
    thresholds: Mapping[str, Tensor] | None, name: str, shape: tuple[int, ...], device: torch.device
) -> Tensor | None:
    """The thresholds (U,) given for the layer `name`, None where none are; raises UserError where they do not fit."""
    if thresholds is None:
        return None
    if name not in thresholds:
        raise unknown("layer", name, thresholds, owner="the thresholds given")
    if thresholds[name].shape != shape[1:2]:
        raise UserError(f"{len(thresholds[name])} thresholds for the {shape[1]} units of {name}")
    return thresholds[name].to(device)


def start_of(name: str, shape: tuple[int, ...], known: Tensor | None, quantile: float, images: int) -> Observed:
    """For outputs of `shape` (B, U, h, w): with `known` thresholds (U,), or to find those of all `images`."""
    if len(shape) != 4:
        raise UserError(f"layer {name!r} cannot be dissected: its output is {shape}, not (B, C, H, W)")
    units, grid = shape[1], (shape[2], shape[3])
    total = images * grid[0] * grid[1]
    if known is None and quantile * total < 1:
        warnings.warn(f"{total} positions are too few for quantile={quantile}: no unit of {name} fires", stacklevel=3)
    finder: Quantile = Known(known) if known is not None else TopValues(units, total, quantile)
    if isinstance(finder, TopValues) and 8 * units * finder.keep > MEMORY:
        finder = BinnedValues(units, quantile, total)
    return Observed(finder, torch.zeros(units, dtype=torch.bool), grid, known is None and quantile * total >= 1)


def same_shape(name: str, values: Tensor, observed: Observed) -> None:
    """Raise UserError where `values` (B, U, h, w) have another shape than those `observed` before."""
    expected = (len(observed.broken), *observed.grid)
    if tuple(values.shape[1:]) != expected:
        raise UserError(
            f"layer {name!r} put out {tuple(values.shape[1:])} after {expected}: set the reader's `size`, "
            "so that all images have the same"
        )
