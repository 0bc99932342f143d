"""What the first pass of a dissection keeps of a layer: values for the threshold, and maps that could exceed it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interp.dissection.quantile import BinnedValues, Known, Quantile, TopValues
from interp.dissection.spool import Spool
from interp.dissection.tally import Maps
from interp.errors import UserError, unknown
from interp.processes.share import summed

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

    def unite(self) -> None:
        """Take in what all processes that study together found in their shares; each keeps its maps."""
        self.quantile.unite()
        self.broken = summed(self.broken.long()) > 0

    def thresholds(self) -> Tensor:
        """(U,) float32 on the CPU, NaN for a broken unit, which therefore never fires."""
        return self.quantile.thresholds().cpu().masked_fill(self.broken.cpu(), torch.nan)


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
    return Observed(finder, torch.zeros(units, dtype=torch.bool), grid)


def same_shape(name: str, values: Tensor, observed: Observed) -> None:
    """Raise UserError where `values` (B, U, h, w) have another shape than those `observed` before."""
    expected = (len(observed.broken), *observed.grid)
    if tuple(values.shape[1:]) != expected:
        raise UserError(
            f"layer {name!r} put out {tuple(values.shape[1:])} after {expected}: set the reader's `size`, "
            "so that all images have the same"
        )
