"""Rotations, their powers, and what they do to the number of detectors; loadings of concepts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.dissection import Labels, dissect
from interp.dissection.loadings import concept_loadings, concept_positions, concept_rows, standardise
from interp.dissection.rotation import (
    AxisAlignment,
    Rotation,
    axis_alignment,
    permutation,
    random_rotation,
    rotate_units,
)
from interp.errors import UserError
from tests.conftest import identical
from tests.interp.concept_data import Channels, random_data

close = {"rtol": 0, "atol": 1e-10}


def is_rotation(matrix):
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix), dtype=torch.float64), **close)
    return torch.linalg.det(matrix) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_powers_of_a_rotation_add(size, seed, first, second):
    matrix = random_rotation(size, seed)
    turn = Rotation.of(matrix)
    assert is_rotation(matrix) and is_rotation(turn.power(first))
    torch.testing.assert_close(turn.power(1), matrix, **close)
    assert torch.equal(turn.power(0), torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(turn.power(first) @ turn.power(second), turn.power(first + second), **close)


def test_powers_of_awkward_rotations():
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    half = quarter @ quarter  # two axes turned around
    for matrix in (quarter, quarter.T, half, torch.eye(3, dtype=torch.float64), permutation(9, 1) @ permutation(9, 1)):
        if torch.linalg.det(matrix) > 0:
            turn = Rotation.of(matrix)
            torch.testing.assert_close(turn.power(1), matrix, **close)
            torch.testing.assert_close(turn.power(0.5) @ turn.power(0.5), matrix, **close)
    eighth = Rotation.of(quarter).power(0.5)
    assert eighth[1, 0] > 0.7 and Rotation.of(quarter.T).power(0.5)[1, 0] < -0.7  # the sign of the angle is kept
    for wrong in (torch.diag(torch.tensor([1.0, -1])), 2 * quarter, torch.full((2, 2), torch.nan)):
        with pytest.raises(ValueError, match="not a rotation"):
            Rotation.of(wrong)


def test_rotations_are_uniform_and_depend_on_the_seed_alone():
    turns = torch.stack([random_rotation(3, seed) for seed in range(2000)])
    assert turns.mean(dim=0).abs().max() < 0.05
    assert (turns.square().mean(dim=0) - 1 / 3).abs().max() < 0.03
    state = torch.get_rng_state()
    assert torch.equal(random_rotation(5, 1), random_rotation(5, 1)) and torch.equal(torch.get_rng_state(), state)


def test_permutation_changes_nothing_and_a_rotation_does():
    data = random_data(images=30, channels=7, concepts=6)
    options = {"quantile": 0.3, "minimum": 0.136}
    found = axis_alignment(Channels(), data, "units", rotations=3, alphas=(0.5, 1.0), at_once=3, **options)
    assert (
        0 < found.original[0] < 7 and torch.equal(found.original, found.permuted) and found.rotated.shape == (2, 3, 2)
    )
    again = axis_alignment(Channels(), data, "units", rotations=3, alphas=(0.5, 1.0), at_once=50, **options)
    assert identical(vars(found), vars(again))
    assert {"unique_detectors", "unique_detectors/rotated_1"} <= found.scalars().keys()
    assert len(set(found.rotated.flatten(0, 1)[:, 0].tolist()) | {int(found.original[0])}) > 1


def test_permuted_units_keep_their_counts_to_the_bit():
    data, order = random_data(channels=7), permutation(7, 4)
    both = dissect(Channels(), data, ["units"], quantile=0.05, view=lambda acts: {
        "own": acts["units"], "permuted": rotate_units(acts["units"], order)})  # fmt: skip
    moved = order.argmax(dim=1)
    assert not torch.equal(moved, torch.arange(7))
    for name in ("thresholds", "intersection", "area"):
        assert torch.equal(getattr(both["permuted"], name), getattr(both["own"], name)[moved])


def test_one_rotation_has_no_deviation_and_no_rotation_is_refused(tmp_path):
    found = axis_alignment(Channels(), random_data(), "units", rotations=1, alphas=(1,), quantile=0.05)
    assert not found.deviation().any()
    found.save(tmp_path)
    assert identical(vars(AxisAlignment.load(tmp_path)), vars(found))
    for options in ({"rotations": 0}, {"alphas": ()}, {"alphas": (0.0, 1.0)}):
        with pytest.raises(UserError, match="at least one rotation"):
            axis_alignment(Channels(), random_data(), "units", **options)


def test_units_are_rotated_row_by_row():
    activations, matrix = torch.rand(2, 3, 4, 5), random_rotation(3, 0)
    expected = (matrix.float() @ activations[1, :, 2, 3])[1]
    torch.testing.assert_close(rotate_units(activations, matrix)[1, 1, 2, 3], expected)
    assert torch.equal(rotate_units(activations, permutation(3, 2)).sort(dim=1).values, activations.sort(dim=1).values)


def planted(direction, rows=4000, seed=0):
    """Noise, and a shift along `direction` in every twentieth row."""
    noise = torch.randn(rows, len(direction), generator=torch.Generator().manual_seed(seed)) * 0.3
    members = torch.arange(rows) % 20 == 0
    return 5 + 10 * torch.arange(1.0, len(direction) + 1) * (noise + 4 * members[:, None] * direction), members


@pytest.mark.parametrize("units", [12, 300])
def test_loadings_tell_one_unit_from_a_combination(units):
    one, four = torch.zeros(units), torch.zeros(units)
    one[7], four[[1, 4, 6, 9]] = 1, 0.5
    found = concept_loadings(*planted(one), repeats=5)
    assert found.one_unit and found.loadings.argmax() == 7 and found.verdict == "one unit"
    found = concept_loadings(*planted(four), repeats=5)
    assert not found.one_unit and found.largest == pytest.approx(0.25, abs=0.05) and found.verdict == "a combination"
    assert set(found.loadings.topk(4).indices.tolist()) == {1, 4, 6, 9}


def test_loadings_are_those_of_the_svd():
    for rows in (500, 4000):
        data, members = planted(torch.rand(100), rows=rows)
        found = concept_loadings(data, members, repeats=0)
        _, values, right = torch.linalg.svd(standardise(data)[members], full_matrices=False)
        torch.testing.assert_close(found.loadings, right[0].abs(), rtol=1e-6, atol=1e-8)
        assert found.energy == pytest.approx(float(values[0].square() / values.square().sum()))


def test_random_rows_carry_no_concept_and_constant_units_nothing():
    data = torch.randn(400, 30, generator=torch.Generator().manual_seed(3))
    data[:, 4] = 0.1
    found = concept_loadings(data, torch.arange(400) < 100, share=0.0)
    assert found.loadings[4] < 1e-12 and found.largest < found.by_chance.max() * 1.5
    assert not concept_loadings(torch.ones(9, 3), torch.arange(9) < 4).one_unit


def test_loadings_without_rows_or_with_nan_are_refused():
    with pytest.raises(UserError, match="need a row of the concept"):
        concept_loadings(torch.rand(5, 3), torch.zeros(5).bool())
    with pytest.raises(UserError, match="NaN"):
        concept_loadings(torch.full((5, 3), torch.nan), torch.ones(5).bool())


def test_rows_of_a_layer_meet_their_labels():
    data = random_data()
    rows, present = concept_rows(Channels(), data, "units", batch_size=4)
    assert rows.shape == (11 * 36, 5) and present.shape == (11 * 36, 4)
    assert torch.equal(rows[3 * 36 + 7], data.images[3, :, 1, 1])
    assert torch.equal(present[3 * 36 :][:36], concept_positions(data.labels(3), 4, 6, 6))


def test_positions_take_the_label_at_their_centre():
    maps = torch.full((2, 4, 4), -1, dtype=torch.int32)
    maps[0, :2], maps[1, :, 2:], maps[0, 3] = 1, 0, -2
    found = concept_positions(Labels(maps, torch.ones(1).bool()), 3, 2, 2)
    assert found.tolist() == [[False, True, False], [True, True, False], [False, False, False], [True, False, False]]
