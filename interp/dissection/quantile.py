"""The threshold that a unit exceeds at a stated share of all positions, from a stream (Bau et al. 2017: 0.005).

T = the (m + 1)-th largest of n values, m = floor(quantile n), without interpolation: at most m values are larger.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from interp.errors import UserError
from interp.processes.share import folded, summed


class Quantile(Protocol):
    """Threshold of each of U units."""

    def add(self, values: Tensor) -> None:
        """Take in `values` (U, n) float32 without NaN."""
        ...

    def bound(self) -> Tensor:
        """(U,) float32, no larger than the threshold will be."""
        ...

    def thresholds(self) -> Tensor:
        """(U,) float32."""
        ...

    def unite(self) -> None:
        """Take in what those of all processes that study together have seen, on each (`interp.processes.share`)."""
        ...


class Known:
    """Thresholds that were found before, such as those of the undisturbed images."""

    def __init__(self, thresholds: Tensor) -> None:
        self._thresholds = thresholds

    def add(self, values: Tensor) -> None:
        pass

    def bound(self) -> Tensor:
        return self._thresholds

    thresholds = bound

    def unite(self) -> None:
        pass


class TopValues:
    """Exact thresholds of `units` U units over `total` n values each, n known beforehand.

    Keeps the m + 1 largest values of each unit, and as many again or `spare` that wait to be sorted. Whatever the
    order and however the stream is divided and united, the result has the same bits.
    """

    def __init__(self, units: int, total: int, quantile: float, spare: int = 8192) -> None:
        self.total, self.seen = total, 0
        self.keep = math.floor(quantile * total) + 1
        self._largest = torch.empty(units, 0)
        self._waiting: list[Tensor] = []
        self._patience = max(self.keep, spare)

    def add(self, values: Tensor) -> None:
        self.seen += values.shape[1]
        self._waiting.append(values)
        if sum(v.shape[1] for v in self._waiting) >= self._patience:
            self._sort()

    def _sort(self) -> None:
        if self._waiting:
            self._largest = self._merged(self._largest.to(self._waiting[0]), *self._waiting)
            self._waiting = []

    def bound(self) -> Tensor:
        if self._largest.shape[1] < self.keep:
            self._sort()
        if self._largest.shape[1] < self.keep:
            return self._largest.new_full((len(self._largest),), -math.inf)
        return self._largest[:, -1]

    def thresholds(self) -> Tensor:
        if self.seen != self.total:
            raise ValueError(f"{self.seen} values a unit were seen, {self.total} were announced")
        self._sort()
        return self._largest[:, -1]

    def unite(self) -> None:
        self._sort()
        self.seen = int(summed(torch.tensor(self.seen)))
        self._largest = folded(self._largest, self._merged)

    def _merged(self, *values_of: Tensor) -> Tensor:
        values = torch.cat(values_of, dim=1)
        # the smallest of those kept comes last, for `bound`; the others' order does not matter
        return values.topk(min(self.keep, values.shape[1]), dim=1, sorted=True).values


class BinnedValues:
    """Thresholds from a histogram, for where n is unknown or the largest values do not fit in memory.

    A bin holds the float32 numbers that agree in sign, exponent and 7 bits of the mantissa. The result is the largest
    number of the bin that T lies in: T <= result <= T + |T| / 128 (+ 2^-133), so that at most a share of `quantile`
    exceeds it and a constant unit never does. Histograms unite by adding: same bits, however the stream is divided.
    """

    BINS = 2**16

    def __init__(self, units: int, quantile: float, total: int | None = None) -> None:
        self.quantile, self.total = quantile, total
        self.counts = torch.zeros(units, self.BINS, dtype=torch.int64)
        self._bound, self._additions = torch.full((units,), -math.inf), 0

    def add(self, values: Tensor) -> None:
        self._additions += 1
        self.counts = self.counts.to(values.device)
        bits = (values.float() + 0.0).contiguous().view(torch.int32)  # + 0.0: one zero, not two
        ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # as integers in the order of the numbers
        bins = ((ordered >> 16) + self.BINS // 2).long()
        flat = bins + torch.arange(len(values), device=values.device)[:, None] * self.BINS
        self.counts.view(-1).index_add_(0, flat.flatten(), torch.ones_like(flat).flatten())

    def unite(self) -> None:
        self.counts = summed(self.counts)

    def bound(self) -> Tensor:
        if self.total is not None and self._additions.bit_count() == 1:  # a search costs more than an addition
            bins = self._bin(math.floor(self.quantile * self.total))
            self._bound = torch.where(bins < 0, -math.inf, self._edge(bins.clamp_min(0)))
        return self._bound.to(self.counts.device)

    def thresholds(self) -> Tensor:
        seen = int(self.counts[0].sum()) if len(self.counts) else 0
        if not seen:
            raise UserError("no values: a threshold needs one at least")
        upper = self._edge(self._bin(math.floor(self.quantile * seen)) + 1)
        return torch.nextafter(upper, torch.full_like(upper, -math.inf))

    def _bin(self, larger: int) -> Tensor:
        """The bin (U,) of the value that `larger` values exceed, -1 where there are not so many."""
        from_above = self.counts.flip(1).cumsum(1)
        return self.BINS - 1 - (from_above <= larger).sum(dim=1)

    def _edge(self, bins: Tensor) -> Tensor:
        """The smallest number of each bin."""
        ordered = ((bins - self.BINS // 2) << 16).int()
        return torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
