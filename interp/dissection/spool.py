"""Maps that wait for their thresholds: in memory up to a limit, in a temporary file beyond it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from weakref import finalize

import numpy as np
import torch

from interp.dissection.tally import Maps
from interp.files import on_disk


class Spool:
    """Batches of maps, written once, read any number of times in the same order."""

    def __init__(self, memory: int = 2**26) -> None:
        self._file = SpooledTemporaryFile(max_size=memory)  # noqa: SIM115 (lives as long as this object)
        finalize(self, self._file.close)
        self._batches = 0

    def add(self, maps: Maps) -> None:
        """Keep `maps`; raises OSError where the disk is full."""
        self._file.seek(0, 2)
        with on_disk(Path(gettempdir())):
            for array in (maps.image, maps.unit, maps.values):
                np.save(self._file, array.cpu().numpy(), allow_pickle=False)
        self._batches += 1

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Maps]:
        """Batch by batch, on the CPU."""
        place = 0
        for _ in range(self._batches):
            self._file.seek(place)
            arrays = [np.load(self._file, allow_pickle=False) for _ in range(3)]
            place = self._file.tell()
            yield Maps(*map(torch.from_numpy, arrays))
