"""Factorisations applied to other rows, against SciPy's non-negative least squares and the rows that were fitted."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from interp.errors import UserError
from interp.factorization import Basis, encode, fitted_groups, neuron_groups, nmf
from interp.factorization.encode import encode_rows, least_squares
from interp.factorization.reducers import NEGATIVE, SOLVERS, factorise


def activations_of(images: int, seed: int, *, signed: bool = False) -> torch.Tensor:
    """(B, 12, 5, 6) with structure and noise, so that no factorisation is exact."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(images, 4, 5, 6, generator=generator) * (torch.rand(images, 4, 5, 6, generator=generator) < 0.5)
    channel = torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) ** 3
    activations = torch.einsum("bkhw,kc->bchw", maps, channel)
    activations += 0.2 * torch.rand(activations.shape, generator=generator)
    return activations - 0.3 * torch.rand(activations.shape, generator=generator) if signed else activations


def rows_of(activations: torch.Tensor) -> torch.Tensor:
    return activations.movedim(1, -1).flatten(0, 2)


def by_scipy(rows: torch.Tensor, channel: torch.Tensor) -> torch.Tensor:
    """Non-negative least squares row by row in float64: (N, K)."""
    columns = channel.double().numpy().T
    return torch.from_numpy(np.stack([nnls(columns, row)[0] for row in rows.double().numpy()]))


def left_out(rows: torch.Tensor, spatial: torch.Tensor, channel: torch.Tensor) -> float:
    return float((rows.double() - spatial.double() @ channel.double()).norm())


@pytest.mark.parametrize("groups", [1, 4, 12])
def test_non_negative_least_squares_is_scipys(groups):
    channel = nmf(rows_of(activations_of(4, 1)), groups).channel
    others = rows_of(activations_of(3, 2))
    expected = by_scipy(others, channel)
    assert groups == 1 or (expected == 0).any()  # the bounds are touched
    torch.testing.assert_close(least_squares(others, channel).double(), expected, rtol=1e-5, atol=1e-6)


def test_alike_groups_are_told_apart_as_scipy_does():
    base = torch.rand(1, 20, generator=torch.Generator().manual_seed(0))
    channel = base + 0.05 * torch.rand(5, 20, generator=torch.Generator().manual_seed(1))
    rows = torch.rand(200, 20, generator=torch.Generator().manual_seed(2))
    expected = by_scipy(rows, channel)
    torch.testing.assert_close(least_squares(rows, channel).double(), expected, rtol=1e-3, atol=1e-4)


def test_many_matrices_at_once_are_each_as_alone():
    rows = torch.stack([rows_of(activations_of(2, seed)) for seed in range(3)])
    channel = nmf(rows, 3).channel
    together = least_squares(rows, channel)
    assert together.shape == (3, 60, 3)
    for matrix, factors, spatial in zip(rows, channel, together, strict=True):
        torch.testing.assert_close(spatial, least_squares(matrix, factors))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("negative", NEGATIVE)
def test_the_rows_that_were_fitted_are_left_out_no_more_than_by_the_fit(solver, negative):
    """With both signs side by side, of these: the signed groups are made of them afterwards."""
    activations = activations_of(4, 1, signed=negative != "error")
    rows = rows_of(activations)
    factors = factorise(rows, 4, solver, negative)
    basis = Basis(factors.channel if factors.basis is None else factors.basis, solver, negative)
    spatial = encode_rows(rows, basis)
    if solver in ("pca", "kmeans"):
        torch.testing.assert_close(spatial, factors.spatial, rtol=1e-3, atol=1e-3)
    scale = torch.ones(4)
    if negative == "split" and solver != "pca":
        channel = torch.nn.functional.normalize(basis.factors, dim=1)
        scale = (channel[:, :12] - channel[:, 12:]).norm(dim=1)
        rows = torch.cat([rows.clamp_min(0), (-rows).clamp_min(0)], dim=1)
    else:
        channel, rows = factors.channel, rows.clamp_min(0) if negative == "rectify" and solver != "pca" else rows
    assert left_out(rows, spatial / scale, channel) <= left_out(rows, factors.spatial / scale, channel) * (1 + 1e-6)


def test_both_signs_of_other_images_are_encoded_side_by_side():
    _, basis = fitted_groups(activations_of(4, 1, signed=True), 3, negative="split")
    others = activations_of(2, 2, signed=True)
    rows = rows_of(others)
    sides = torch.cat([rows.clamp_min(0), (-rows).clamp_min(0)], dim=1)
    assert basis.factors.shape == (3, 24)
    signed = basis.factors[:, :12] - basis.factors[:, 12:]
    expected = by_scipy(sides, basis.factors) * signed.double().norm(dim=1)
    maps = encode(others, basis)
    assert maps.shape == (2, 3, 5, 6)
    torch.testing.assert_close(rows_of(maps).double(), expected, rtol=1e-4, atol=1e-5)
    assert encode(others.clamp_min(0), basis).shape == (2, 3, 5, 6)  # images without negatives


def test_images_of_both_signs_under_groups_without_negatives():
    _, basis = fitted_groups(activations_of(4, 1), 3, negative="split")
    others = activations_of(2, 2, signed=True)
    torch.testing.assert_close(encode(others, basis), encode(others.clamp_min(0), basis))


@pytest.mark.parametrize("solver", SOLVERS)
def test_maps_come_in_the_order_of_the_groups(solver):
    activations = activations_of(4, 1)
    groups, basis = fitted_groups(activations, 4, solver=solver)
    assert torch.equal(groups.spatial, neuron_groups(activations, 4, solver=solver).spatial)
    maps = encode(activations, basis)
    error = float((activations - torch.einsum("bkhw,kc->bchw", maps, groups.channel)).norm() / activations.norm())
    assert error <= groups.relative_error * (1 + 1e-5)


def test_kmeans_assigns_other_rows_as_scikit_learn_predicts():
    from sklearn.cluster import KMeans

    rows, others = rows_of(activations_of(4, 1)), rows_of(activations_of(3, 2))
    factors = factorise(rows, 4, "kmeans")
    model = KMeans(4, random_state=0, n_init=1, max_iter=200, tol=1e-4).fit(rows.numpy())
    spatial = encode_rows(others, Basis(factors.basis, "kmeans"))
    assert spatial.argmax(dim=1).tolist() == model.predict(others.numpy()).tolist()
    assert ((spatial != 0).sum(dim=1) <= 1).all()


def test_awkward_rows():
    channel = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    channel[1] = 0  # a dead group
    rows = torch.rand(6, 12, generator=torch.Generator().manual_seed(1))
    rows[2], rows[3] = 0, torch.nan
    spatial = encode_rows(rows, Basis(channel))
    assert not spatial[:, 1].any() and not spatial[2:4].any() and spatial[[0, 1, 4, 5]].amax(dim=1).all()
    assert encode_rows(rows[:0], Basis(channel)).shape == (0, 3)
    with pytest.raises(UserError, match="negative=rectify"):
        encode_rows(rows - 0.5, Basis(channel))
    with pytest.raises(ValueError, match="infinite"):
        encode_rows(rows.masked_fill(rows > 0.9, torch.inf), Basis(channel))
    for solver in ("pca", "kmeans"):
        with pytest.raises(ValueError, match="the rows"):
            encode_rows(rows, Basis(channel, solver))
