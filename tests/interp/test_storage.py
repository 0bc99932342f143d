"""What is stored in fewer bytes comes back to the last bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from interp.storage import pack, unpack

WHOLE = some.sampled_from([0, 0, 0, 1, -1, 255, 256, 2**15, -(2**31), 2**31, 2**62])


def bits(tensor: torch.Tensor) -> list:
    return [tensor.dtype, tensor.shape, tensor.numpy().tobytes()]


@given(arrays.arrays("int64", arrays.array_shapes(max_dims=3, min_side=0, max_side=9), elements=WHOLE))
def test_whole_numbers_come_back(values):
    tensor = torch.from_numpy(values)
    assert bits(unpack(*pack({"a": tensor}))["a"]) == bits(tensor)


@given(arrays.arrays("float32", (3, 4), elements=some.floats(width=32)))
def test_numbers_with_a_point_come_back(values):
    tensor = torch.from_numpy(values)
    steps = (tensor.nan_to_num().clamp(0, 1) * 255).round() / 255
    found = unpack(*pack({"a": tensor, "b": steps, "c": -steps}))
    assert [bits(found[name]) for name in "abc"] == [bits(tensor), bits(steps), bits(-steps)]


@pytest.mark.parametrize(
    ("tensor", "size"),
    [
        (torch.arange(256).float().repeat(40) / 255, 256 * 40),
        (torch.arange(0, 30000, 3), 2 * 10000),
        (torch.eye(500, dtype=torch.int64) * 9, 500 * (1 + 4)),
        (torch.zeros(300, 1000, dtype=torch.int64), 0),
        (torch.rand(100, 50), 4 * 5000),
        (torch.rand(100, 50).double(), 8 * 5000),
        (torch.rand(100, 50) > 0.5, 5000),
    ],
)
def test_what_they_take(tensor, size):
    stored, forms = pack({"a": tensor})
    assert sum(part.numel() * part.element_size() for part in stored.values()) == size
    assert bits(unpack(stored, forms)["a"]) == bits(tensor)


@pytest.mark.parametrize("forms", [{"a": [2**20, 2**20]}, {"b": "whole"}, {"a": [3, 3]}, {"a": 7}, {"a": [-1, -4]}])
def test_forms_that_do_not_fit_are_errors_and_take_no_memory(forms):
    stored, _ = pack({"a": torch.eye(20, dtype=torch.int64)})
    with pytest.raises((ValueError, KeyError, TypeError, RuntimeError)):
        unpack(stored, forms)
