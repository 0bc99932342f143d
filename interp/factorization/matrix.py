"""The rows that NMF reads block by block, of one process or of several that share them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import UserError
from interp.processes.share import folded, gathered, summed


@dataclass(frozen=True)
class Matrix:
    """Rows that are read block by block."""

    rows: Tensor  # (G, N, C) anywhere
    block: int
    device: torch.device
    total: Tensor  # (G,) float64 squared norm
    holes: bool  # some rows are missing
    shared: bool  # the rows are one process's
    count: int  # of rows of all processes

    @classmethod
    def read(cls, rows: Tensor, block: int, device: torch.device, shared: bool, count: int) -> "Matrix":
        total, holes = torch.zeros(len(rows), dtype=torch.float64, device=device), False
        for part in rows.split(block, dim=1) if rows.shape[1] else ():
            x = part.to(device).float()
            low, high = x.aminmax()
            if low.isnan():
                holes, missing = True, x.isnan().all(dim=2)
                x = x.masked_fill(missing[..., None], 0)
                low, high = x.aminmax()
            if not (low.isfinite() and high.isfinite()):
                raise ValueError(f"NMF: {int((~x.isfinite()).sum())} NaN or infinite values in a block of {x.numel()}")
            if low < 0:
                raise UserError(
                    f"{float((x < 0).float().mean()):.1%} of the activations are negative; NMF wants none: "
                    "set negative=rectify (drop them) or negative=split (factorise both signs), "
                    "or take the output of a ReLU (leave `layer` unset to have one chosen)"
                )
            total += x.flatten(1).norm(dim=1).double().square()
        return cls(rows, block, device, summed(total) if shared else total, holes, shared, count)

    def summed(self, tensor: Tensor) -> Tensor:
        """Over the processes, where they share the rows."""
        return summed(tensor) if self.shared else tensor

    def first(self, tensor: Tensor) -> Tensor:
        """The first process's, where they share the rows."""
        return folded(tensor, lambda first, _: first) if self.shared else tensor

    def together(self, place: slice | Tensor) -> Tensor:
        """Rows (G, n, C) of all processes that share them, those at `place` of each, on all of them."""
        rows = self.take(place)
        return gathered([rows.transpose(0, 1)]).transpose(0, 1).contiguous() if self.shared else rows

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for first in range(0, self.rows.shape[1], self.block):
            place = slice(first, min(first + self.block, self.rows.shape[1]))
            yield place, self.take(place)

    def take(self, place: slice | Tensor) -> Tensor:
        x = self.rows[:, place].to(self.device).float()
        return x.masked_fill(x.isnan(), 0) if self.holes else x
