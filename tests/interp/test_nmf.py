"""NMF against planted factors, scikit-learn and the awkward inputs."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from interp.errors import UserError
from interp.factorization import match_groups, neuron_groups, nmf
from interp.factorization.groups import horizontal_peak, hoyer_sparsity
from interp.factorization.nmf import leading_svd


def planted(rows: int, channels: int, groups: int, seed: int = 0, noise: float = 0.0):
    generator = torch.Generator().manual_seed(seed)
    spatial = torch.rand(rows, groups, generator=generator) * (torch.rand(rows, groups, generator=generator) < 0.4)
    channel = torch.rand(groups, channels, generator=generator) * (
        torch.rand(groups, channels, generator=generator) < 0.3
    )
    data = spatial @ channel
    return data * (1 + noise * torch.rand(data.shape, generator=generator)), channel


@pytest.mark.parametrize(("rows", "channels", "groups"), [(400, 40, 5), (60, 300, 6), (2000, 64, 8)])
def test_planted_factors_are_recovered(rows, channels, groups):
    data, channel = planted(rows, channels, groups)
    found = nmf(data, groups, sweeps=2000, tolerance=1e-7)
    cosine = (found.channel @ torch.nn.functional.normalize(channel, dim=1).T).numpy()
    assert cosine[linear_sum_assignment(-cosine)].min() > 0.99
    assert found.relative_error < 0.01


@pytest.mark.parametrize("groups", [2, 6, 12])
def test_error_is_no_worse_than_scikit_learns(groups):
    from sklearn.decomposition import NMF

    data = planted(500, 60, 15, noise=0.5)[0]
    reference = NMF(groups, init="nndsvd", max_iter=5000, tol=1e-5).fit(data.numpy())
    error = reference.reconstruction_err_ / np.linalg.norm(data.numpy())
    assert nmf(data, groups, sweeps=2000, tolerance=1e-7).relative_error <= error * 1.01


def test_reported_error_is_that_of_the_factors():
    data = planted(300, 40, 9, noise=0.3)[0]
    found = nmf(data, 4)
    residual = data.double() - found.spatial.double() @ found.channel.double()
    assert found.relative_error == pytest.approx(float(residual.norm() / data.double().norm()), rel=1e-5)
    assert found.spatial.min() >= 0 and found.channel.min() >= 0
    torch.testing.assert_close(found.channel.norm(dim=1), torch.ones(4))


def test_same_input_same_factors_whatever_the_random_state():
    data = planted(200, 30, 4)[0]
    first = nmf(data, 3)
    torch.rand(5)
    assert torch.equal(first.spatial, nmf(data, 3).spatial)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scale_of_the_data_changes_nothing(scale):
    data = planted(200, 30, 4, noise=0.5)[0]
    assert nmf(data * scale, 3).relative_error == pytest.approx(nmf(data, 3).relative_error, rel=1e-3)


def test_all_zero_gives_zero_factors():
    found = nmf(torch.zeros(20, 8), 3)
    assert not found.spatial.any() and not found.channel.any() and found.relative_error == 0


def test_more_groups_than_structure_stays_finite():
    data = planted(100, 20, 2)[0]
    found = nmf(data, 6)
    assert torch.isfinite(found.spatial).all() and torch.isfinite(found.channel).all() and found.relative_error < 0.05


@pytest.mark.parametrize(
    ("data", "groups", "error", "message"),
    [
        (torch.randn(20, 8), 2, UserError, "negative"),
        (torch.rand(20, 8), 9, UserError, "choose 1 to 8"),
        (torch.rand(20, 8), 0, UserError, "groups=0"),
        (torch.full((20, 8), float("nan")), 2, ValueError, "160 NaN"),
    ],
)
def test_bad_input_is_named(data, groups, error, message):
    with pytest.raises(error, match=message):
        nmf(data, groups)


def test_leading_singular_values_agree_with_torch():
    data = planted(300, 50, 12, noise=1.0)[0]
    torch.testing.assert_close(leading_svd(data, 5)[1], torch.linalg.svdvals(data)[:5], rtol=1e-3, atol=0)


def test_groups_are_ordered_by_the_column_of_their_peak():
    maps = torch.zeros(2, 3, 4, 6)
    maps[:, 0, 1, 5], maps[:, 1, 2, 0], maps[:, 2, 3, 3] = 1.0, 1.0, 1.0
    assert horizontal_peak(maps).tolist() == [5, 0, 3]
    activations = torch.einsum("bkhw,kc->bchw", maps, torch.eye(3, 7))
    found = neuron_groups(activations, 3)
    assert horizontal_peak(found.spatial).tolist() == [0, 3, 5]
    assert found.channel.argmax(dim=1).tolist() == [1, 2, 0]
    assert found.relative_error < 1e-3


def test_sparsity_of_zeros_is_one():
    assert hoyer_sparsity(torch.zeros(1, 5)).tolist() == [1.0]


def test_published_activations_reach_scikit_learns_error():
    from tests.conftest import SHARED

    path = SHARED / "data" / "distill" / "dog_cat_mixed4d_activations.npy"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    activations = torch.from_numpy(np.load(path)).permute(0, 3, 1, 2)
    assert neuron_groups(activations, 6, sweeps=1000, tolerance=1e-6).relative_error < 0.5285 * 1.01


def test_groups_are_matched_to_those_of_the_epoch_before():
    previous = torch.nn.functional.normalize(torch.rand(5, 30, generator=torch.Generator().manual_seed(0)) ** 4, dim=1)
    shuffled = torch.tensor([3, 0, 4, 1, 2])
    order, cosine = match_groups((previous * 3)[shuffled], previous)
    assert torch.equal(shuffled[order], torch.arange(5))
    torch.testing.assert_close(cosine, torch.ones(5))
    order, cosine = match_groups(torch.zeros(5, 30), previous)
    assert sorted(order.tolist()) == list(range(5)) and not cosine.any()
