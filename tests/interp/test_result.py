"""Results survive the disk, whole or not at all."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from interp.files import replacing
from interp.result import Result, finite


@dataclass(frozen=True)
class Found(Result):
    values: Tensor
    names: tuple[str, ...]
    share: float

    def scalars(self) -> dict[str, float]:
        return {"mean": float(self.values.mean())}


def test_saved_and_loaded_is_equal(tmp_path):
    found = Found(torch.rand(3, 4).T.requires_grad_(), ("a", "b"), 0.5)
    found.save(tmp_path / "epoch=0001", epoch=1)
    again = Found.load(tmp_path / "epoch=0001")
    assert torch.equal(found.values, again.values) and again.names == ("a", "b") and again.share == 0.5
    assert not found.values.requires_grad


def test_a_torn_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("earlier")
    with pytest.raises(OSError, match="disk full"), replacing(path) as beside:
        beside.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_finite_counts_what_is_not():
    with pytest.raises(ValueError, match="weights hold 2 NaN or infinite values of 3"):
        finite(torch.tensor([1.0, float("nan"), float("inf")]), "weights")
