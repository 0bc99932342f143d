"""Thresholds of a stream against sorting all of it, however it is cut, ordered, and merged."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.dissection.quantile import BinnedValues, Known, TopValues
from interp.errors import UserError
from tests.processes import unite

streams = st.tuples(
    st.integers(0, 2**31),  # seed
    st.lists(st.integers(1, 400), min_size=1, max_size=12),  # lengths of the pieces
    st.sampled_from([0.5, 0.1, 0.02, 0.005]),
    st.sampled_from(["normal", "relu", "few values", "constant", "wide"]),
)


def draw(kind, units, count, seed):
    values = torch.randn(units, count, generator=torch.Generator().manual_seed(seed))
    return {
        "normal": values,
        "relu": (values - 1).clamp_min(0),
        "few values": values.round(),
        "constant": torch.full_like(values, -0.3),
        "wide": values.sign() * (20 * values).exp().clamp_max(1e38),
    }[kind]


def sorted_threshold(values, quantile):
    return values.sort(dim=1, descending=True).values[:, math.floor(quantile * values.shape[1])]


@settings(max_examples=200, deadline=None)
@given(streams)
def test_streamed_threshold_is_that_of_sorting(stream):
    seed, lengths, quantile, kind = stream
    values = draw(kind, 3, sum(lengths), seed)
    expected = sorted_threshold(values, quantile)
    whole = TopValues(3, sum(lengths), quantile, spare=50)
    halves = [TopValues(3, sum(lengths), quantile, spare=50) for _ in range(2)]
    for number, piece in enumerate(values.split(lengths, dim=1)):
        whole.add(piece)
        assert (whole.bound() <= expected).all()
        halves[number % 2].add(piece)
    unite(halves)
    assert torch.equal(whole.thresholds(), expected) and torch.equal(halves[0].thresholds(), expected)


@settings(max_examples=200, deadline=None)
@given(streams)
def test_histogram_stays_in_its_bound_and_merges_to_the_same_bits(stream):
    seed, lengths, quantile, kind = stream
    values = draw(kind, 1, sum(lengths), seed)
    expected = sorted_threshold(values, quantile)
    whole, known = BinnedValues(1, quantile), BinnedValues(1, quantile, sum(lengths))
    halves = [BinnedValues(1, quantile) for _ in range(2)]
    for number, piece in enumerate(values.split(lengths, dim=1)):
        for sketch in (whole, known, halves[number % 2]):
            sketch.add(piece)
        assert (known.bound() <= expected).all()
    unite(halves)
    found = whole.thresholds()
    assert torch.equal(found, halves[0].thresholds())
    assert (found >= expected).all() and (found <= expected + expected.abs() / 128 + 2**-133).all()
    assert ((values > found[:, None]).sum(dim=1) <= quantile * values.shape[1]).all()


def test_memory_does_not_grow_with_the_stream():
    top = TopValues(2, 1_000_000, 0.0005, spare=1000)
    for seed in range(100):
        top.add(draw("normal", 2, 10_000, seed))
        assert top._largest.shape[1] + sum(v.shape[1] for v in top._waiting) <= 2 * 501 + 10_000


def test_a_stream_of_another_length_is_refused():
    top = TopValues(2, 10, 0.1)
    top.add(torch.zeros(2, 9))
    with pytest.raises(ValueError, match="9 values a unit were seen, 10 were announced"):
        top.thresholds()
    with pytest.raises(UserError, match="no values"):
        BinnedValues(2, 0.1).thresholds()


def test_known_thresholds_stay():
    known = Known(torch.tensor([1.0, 2.0]))
    known.add(torch.full((2, 5), 9.0))
    assert known.bound().tolist() == known.thresholds().tolist() == [1, 2]
