"""NMF against planted factors, scikit-learn and the awkward inputs."""

import runpy

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from interp.errors import UserError
from interp.factorization import match_groups, neuron_groups, nmf, trust
from interp.factorization.groups import horizontal_peak, hoyer_sparsity
from interp.factorization.nmf import Factors
from interp.factorization.reducers import SOLVERS, factorise, reduce
from interp.factorization.start import leading_svd, svd_floor
from interp.factorization.trust import choose_groups
from interp.processes.share import together
from tests import oracle
from tests.processes import on_processes


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
    assert nmf(data, groups, sweeps=2000, tolerance=1e-7).relative_error <= error * 1.001


def test_reported_error_is_that_of_the_factors():
    data = planted(300, 40, 9, noise=0.3)[0]
    found = nmf(data, 4)
    residual = data.double() - found.spatial.double() @ found.channel.double()
    assert float(found.relative_error) == pytest.approx(float(residual.norm() / data.double().norm()), rel=1e-5)
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
    assert float(nmf(data * scale, 3).relative_error) == pytest.approx(float(nmf(data, 3).relative_error), rel=1e-3)


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
        (torch.full((20, 8), float("inf")), 2, ValueError, "160 NaN"),
        (torch.rand(20, 8).index_fill(1, torch.tensor([3]), float("nan")), 2, ValueError, "20 NaN"),
    ],
)
def test_bad_input_is_named(data, groups, error, message):
    with pytest.raises(error, match=message):
        nmf(data, groups)


def test_leading_singular_values_agree_with_torch():
    data = planted(300, 50, 12, noise=1.0)[0]
    torch.testing.assert_close(leading_svd(data[None], 5)[1][0], torch.linalg.svdvals(data)[:5], rtol=1e-3, atol=0)


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


@pytest.mark.parametrize("groups", range(2, 13))
def test_published_activations_reach_scikit_learns_error(groups):
    from sklearn.decomposition import NMF

    rows = torch.from_numpy(np.load(shared("distill", "dog_cat_mixed4d_activations.npy"))).flatten(0, 2)
    reference = NMF(groups, init="nndsvd", max_iter=3000, tol=1e-6).fit(rows.numpy())
    expected = reference.reconstruction_err_ / np.linalg.norm(rows.numpy())
    assert float(nmf(rows, groups).relative_error) == pytest.approx(expected, rel=1e-3)
    assert float(nmf(rows, groups, sweeps=3000, tolerance=1e-7).relative_error) == pytest.approx(expected, rel=1e-4)


def shared(*parts: str):
    from tests.conftest import SHARED

    path = SHARED.joinpath("data", *parts)
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


@pytest.mark.parametrize("seed", [0, 1])
def test_it_ends_where_no_small_step_helps(seed):
    rows = planted(300, 40, 9, seed, noise=0.5)[0]

    def distance(**options) -> float:
        factors = (*vars(nmf(rows, 6, **options)).values(),)[:2]
        return oracle.distance_from_optimum(*(tensor.double().numpy() for tensor in (rows, *factors)))

    assert distance(sweeps=3000, tolerance=1e-9) < 1e-6 and distance(sweeps=1) > 1e-4


def test_the_shared_oracle_finds_nothing_wrong():
    shared_oracle = runpy.run_path(str(shared("attribution_oracle.py")))
    data = planted(300, 40, 9, noise=0.5)[0]
    found = nmf(data, 6, sweeps=3000, tolerance=1e-9)
    best = shared_oracle["best_of"](data.numpy(), 6, restarts=4)[0]
    shared_oracle["check_nmf"](
        data.numpy(), found.spatial.numpy(), found.channel.numpy(), best, slack=0.01, kkt_max=1e-3
    )


def test_many_matrices_at_once_are_each_as_alone():
    data = torch.stack([planted(90, 40, 5, seed, noise=0.3)[0] for seed in range(4)])
    together = nmf(data, 3, sweeps=500, tolerance=1e-7)
    assert together.spatial.shape == (4, 90, 3) and together.channel.shape == (4, 3, 40)
    for index, matrix in enumerate(data):
        alone = nmf(matrix, 3, sweeps=500, tolerance=1e-7)
        assert float(together.relative_error[index]) == pytest.approx(float(alone.relative_error), rel=1e-4)
        torch.testing.assert_close(together.channel[index], alone.channel, rtol=0, atol=0.02)


def test_blocks_and_samples_of_rows_reach_the_same_error():
    data = planted(9000, 32, 6, noise=0.5)[0]
    whole = nmf(data, 5, sample=9000, block=9000)
    for options in ({"block": 1000}, {"sample": 500}, {"sample": 500, "block": 700, "device": "cpu"}):
        assert float(nmf(data, 5, **options).relative_error) == pytest.approx(float(whole.relative_error), rel=5e-3)


def test_missing_rows_count_for_nothing():
    data = planted(200, 30, 4, noise=0.5)[0]
    holed = torch.cat([data[:50], torch.full((7, 30), float("nan")), data[50:]])
    found, expected = nmf(holed, 3), nmf(data, 3)
    assert not found.spatial[50:57].any()
    assert float(found.relative_error) == pytest.approx(float(expected.relative_error), rel=1e-3)


def test_zero_columns_stay_zero_and_half_precision_is_read():
    data = planted(200, 30, 4)[0]
    data[:, 5] = 0
    assert not nmf(data, 3).channel[:, 5].any()
    assert float(nmf(data.bfloat16(), 3).relative_error) == pytest.approx(float(nmf(data, 3).relative_error), rel=0.05)


def test_a_warm_start_is_where_it_goes_on_from():
    data = planted(200, 30, 4, noise=0.5)[0]
    cold = nmf(data, 3, sweeps=500, tolerance=1e-7)
    warm = nmf(data, 3, start=cold.channel, sweeps=1)
    assert float(warm.relative_error) == pytest.approx(float(cold.relative_error), rel=1e-4)
    torch.testing.assert_close(warm.channel, cold.channel, rtol=0, atol=1e-2)


def test_a_dead_start_is_revived():
    data = planted(200, 30, 4)[0]
    start = torch.rand(4, 30, generator=torch.Generator().manual_seed(0))
    start[2] = 0
    assert float(nmf(data, 4, start=start, sweeps=2000, tolerance=1e-7).relative_error) < 0.02


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_normalised_factors_and_their_error(solver):
    data = planted(300, 40, 6, noise=0.3)[0]
    found = reduce(data, 5, solver)
    residual = float((data - found.spatial @ found.channel).norm() / data.norm())
    assert float(found.relative_error) == pytest.approx(residual, rel=1e-3)
    torch.testing.assert_close(found.channel.norm(dim=1), torch.ones(5))
    if solver == "pca":
        assert residual == pytest.approx(float(svd_floor(data[None], 5)), rel=1e-3)
    else:
        assert found.spatial.min() >= 0 and residual >= float(svd_floor(data[None], 5))
    with pytest.raises(UserError, match="no solver 'skleran'; did you mean 'sklearn'"):
        reduce(data, 5, "skleran")


def test_the_count_of_planted_groups_is_found():
    data, _ = planted(600, 60, 5)
    count, curve = choose_groups(data, least_gain=0.005)
    assert count == 5 and len(curve) == 16 and curve[4] < 0.02
    assert choose_groups(torch.rand(50, 3))[0] <= 3


def test_trust_tells_structure_from_chance():
    structured = trust(planted(500, 40, 5)[0], 5)
    assert structured.restart_stability > 0.95 and structured.null_error > 0.3 and structured.floor_error < 0.01
    noise = trust(torch.rand(500, 40, generator=torch.Generator().manual_seed(1)), 5)
    assert noise.restart_worst < 0.9 and noise.null_error == pytest.approx(noise.floor_error, rel=0.1)
    exact = torch.linalg.svdvals(torch.rand(50, 20, generator=torch.Generator().manual_seed(0)).double())
    matrix = torch.rand(50, 20, generator=torch.Generator().manual_seed(0))
    expected = float((exact[4:].square().sum() / exact.square().sum()).sqrt())
    assert float(svd_floor(matrix[None], 4)) == pytest.approx(expected, rel=1e-3)


def test_both_signs_of_planted_activations_are_factorised():
    generator = torch.Generator().manual_seed(0)
    channel = torch.nn.functional.normalize(torch.randn(3, 30, generator=generator), dim=1)
    spatial = torch.rand(4, 3, 8, 8, generator=generator) * (torch.rand(4, 3, 8, 8, generator=generator) < 0.3)
    activations = torch.einsum("bkhw,kc->bchw", spatial, channel)
    found = neuron_groups(activations, 3, negative="split", sweeps=2000, tolerance=1e-7)
    cosine = (found.channel @ channel.T).numpy()
    assert cosine[linear_sum_assignment(-cosine)].min() > 0.97
    expected = activations.clamp_max(0).square().sum() / activations.square().sum()
    assert found.negative_share == pytest.approx(float(expected), rel=1e-4)
    assert neuron_groups(activations, 3, negative="rectify").channel.min() >= 0
    with pytest.raises(UserError, match="negative=rectify.*negative=split"):
        neuron_groups(activations, 3)


def test_groups_are_matched_to_those_of_the_epoch_before():
    previous = torch.nn.functional.normalize(torch.rand(5, 30, generator=torch.Generator().manual_seed(0)) ** 4, dim=1)
    shuffled = torch.tensor([3, 0, 4, 1, 2])
    order, cosine = match_groups((previous * 3)[shuffled], previous)
    assert torch.equal(shuffled[order], torch.arange(5))
    torch.testing.assert_close(cosine, torch.ones(5))
    order, cosine = match_groups(torch.zeros(5, 30), previous)
    assert sorted(order.tolist()) == list(range(5)) and not cosine.any()


def of_part(rank: int, data: torch.Tensor, cut: int, groups: int) -> Factors:
    own = data[:cut] if rank == 0 else data[cut:]
    return together(lambda: nmf(own, groups, shared=True))


@pytest.mark.parametrize(("rows", "cut"), [(300, 200), (300, 300), (9000, 4000)])
def test_two_processes_factorise_the_rows_of_both(rows, cut, tmp_path):
    """The same factors but for rounding; of so many that it starts from a sample, which differs, as good ones."""
    data = planted(rows, 12, 6, noise=2.0)[0]
    first, second = on_processes(2, of_part, tmp_path, data, cut, 4)
    alone = nmf(data, 4)
    assert torch.equal(first.channel, second.channel) and len(first.spatial) == cut and first.sweeps == second.sweeps
    if rows < 8192:
        torch.testing.assert_close(first.channel, alone.channel, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.cat([first.spatial, second.spatial]), alone.spatial, rtol=1e-4, atol=1e-4)
        assert float(first.relative_error) == pytest.approx(float(alone.relative_error), rel=1e-5)
    assert float(first.relative_error) == pytest.approx(float(alone.relative_error), rel=1e-2)
    residual = data - torch.cat([first.spatial, second.spatial]) @ first.channel
    assert float(first.relative_error) == pytest.approx(float(residual.norm() / data.norm()), rel=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_error_of_both_signs_is_that_of_the_signed_groups(solver):
    activations = torch.randn(4, 12, 5, 5, generator=torch.Generator().manual_seed(0))
    found = neuron_groups(activations, 4, negative="split", solver=solver)
    residual = activations - torch.einsum("bkhw,kc->bchw", found.spatial, found.channel)
    assert found.relative_error == pytest.approx(float(residual.norm() / activations.norm()), rel=1e-4)
    rows = activations.movedim(1, -1).flatten(0, 2)
    assert float(svd_floor(rows[None], 4)) <= found.relative_error * (1 + 1e-5)
    count, curve = choose_groups(rows, solver=solver, negative="split", most=3)
    assert count <= 3 and curve[2] == pytest.approx(float(factorise(rows, 3, solver, "split").relative_error), rel=0.01)


def test_trust_measures_the_solver_that_is_used():
    rows = torch.rand(200, 20, generator=torch.Generator().manual_seed(7)) ** 3
    found = {solver: trust(rows, 4, restarts=2, solver=solver) for solver in SOLVERS}
    error = {solver: float(factorise(rows, 4, solver).relative_error) for solver in SOLVERS}
    for solver, measured in found.items():
        assert measured.floor_error <= error[solver] * (1 + 1e-3) and measured.null_error >= error[solver] * 0.9
    assert found["pca"].restart_worst == pytest.approx(1, abs=1e-3)  # there is one set of principal components
    assert found["kmeans"].restart_stability < 0.99 and found["kmeans"].null_error > found["hals"].null_error
    signed = rows - rows.mean(dim=0)
    both = trust(signed, 4, restarts=1, negative="split")
    assert both.floor_error < both.null_error
    assert both.floor_error == pytest.approx(float(svd_floor(signed[None], 4)), rel=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_sweep_is_refused(solver):
    with pytest.raises(UserError, match="sweeps=0: must be at least 1"):
        reduce(torch.rand(20, 8), 2, solver, sweeps=0)


def of_signs(rank: int, activations: torch.Tensor) -> float:
    own = activations[:1] if rank == 0 else activations[1:]
    return together(lambda: neuron_groups(own, 3, negative="split", shared=True).relative_error)


@pytest.mark.slow
def test_two_processes_measure_the_error_of_signed_groups_over_both(tmp_path):
    activations = torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    alone = neuron_groups(activations, 3, negative="split").relative_error
    assert on_processes(2, of_signs, tmp_path, activations) == pytest.approx([alone] * 2, rel=1e-4)
