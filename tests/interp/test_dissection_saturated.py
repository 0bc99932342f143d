"""Units whose threshold is their maximum, as ReLU6 has them, fire at it; constant ones stay dead."""

import math

import pytest
import torch
from torch import nn

from interp.dissection import Concepts, dissect, dissect_layers, observe, observed, tally
from interp.dissection.concepts.data import NONE, Chosen, TensorConcepts
from interp.dissection.observed import firing_thresholds
from interp.dissection.robustness import see, survival
from interp.dissection.tally import Counts, masks
from interp.network.layers import Layer
from tests.conftest import identical
from tests.interp.concept_data import Channels, random_data
from tests.processes import unite


def planted():
    """Units: 6 exactly where `a` is, 6 where `b` is but for a value above, constant, noise, 0 where `b` is else less.

    The first images are `a` all over, so that the first unit is constant for a while.
    """
    maps = torch.full((24, 1, 8, 8), NONE)
    maps[:6], maps[6:, :, :4, :4], maps[6:, :, 6:, 6:] = 0, 0, 1
    a, b = (maps[:, 0] == 0).float(), (maps[:, 0] == 1).float()
    above = 6 * b
    above[-1, 7, 7] = 6.5
    noise = torch.rand(a.shape, generator=torch.Generator().manual_seed(0))
    units = torch.stack([6 * a, above, torch.full_like(a, 6.0), noise, b - 1], dim=1)
    names = Concepts(("a", "b"), ("k",), (0, 0))
    return TensorConcepts(units, maps, torch.ones(24, 1, dtype=torch.bool), names)


@pytest.mark.parametrize("batch_size", [1, 4, 24])
@pytest.mark.parametrize("memory", [2**31, 0])  # 0: thresholds of a histogram
def test_a_saturated_unit_is_named_and_a_constant_one_is_dead(batch_size, memory, monkeypatch):
    monkeypatch.setattr(observed, "MEMORY", memory)
    layer = Layer.named(Channels(), planted().images, "units")
    with pytest.warns(UserWarning, match="2 of 5 units of units saturate"):
        layers, tops = dissect_layers(Channels(), planted(), [layer], quantile=0.01, batch_size=batch_size)
    found = layers["units"]
    assert (tops["units"].values[0] == 6).all()
    assert found.saturated.tolist() == [True, False, False, False, True]
    assert found.dead.tolist() == [False, False, True, False, False]
    assert found.iou[0].tolist() == [1, 0] and found.iou[4].tolist() == [0, 1] and found.detectors[[0, 4]].all()
    assert found.thresholds[0] == torch.tensor(6.0).nextafter(torch.tensor(0.0)) and found.thresholds[2] >= 6
    scalars = found.scalars()
    assert (scalars["saturated_units"], scalars["dead_units"]) == (2, 1)
    assert found.together([found, found]).scalars()["saturated_units"] == 4


def brute_force(data, quantile, pool):
    """Thresholds, intersection and area by sorting and loops: at the maximum where nothing exceeds the threshold."""
    activations = nn.functional.avg_pool2d(data.images, pool)
    flat = activations.transpose(0, 1).flatten(1).sort(dim=1, descending=True).values
    limits = flat[:, math.floor(quantile * flat.shape[1])].double()
    wide = nn.functional.interpolate(activations.double(), data.maps.shape[2:], mode="bilinear")
    at_maximum = ((limits == flat[:, 0]) & (flat[:, -1] < flat[:, 0]))[:, None, None]
    fires = torch.where(at_maximum, wide > limits[:, None, None] - 1e-12, wide > limits[:, None, None])
    here = torch.stack([(data.maps == c).any(dim=1) for c in range(len(data.concepts))], dim=1)
    area = torch.einsum("nuhw,nk->uk", fires.double(), data.labelled.double()).long()
    return at_maximum.flatten(), torch.einsum("nuhw,nlhw->ul", fires.double(), here.double()).long(), area


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("sizes", [(24,), (5, 19), (8, 8, 8)])
def test_counts_are_those_of_brute_force_however_the_stream_is_divided(pool, sizes):
    noise, data = random_data(images=24, channels=5), planted()
    units = (noise.images * 3).round().clamp_max(2)
    units[:9, 1], units[:, 2], units[9:, 3] = 2, 1, -1
    for images in (units, data.images[:, :, :6, :6]):
        data = TensorConcepts(images, noise.maps, noise.labelled, noise.concepts)
        saturated, intersection, area = brute_force(data, 0.02, pool)
        assert saturated.any() and not saturated.all()
        options = {"quantile": 0.02, "total": 24, "batch_size": 3}
        parts = [Chosen(data, part.tolist()) for part in torch.arange(24).split(sizes)]
        seen = [observe(Channels(pool), part, ["units"], **options)["units"] for part in parts]
        unite(seen)
        limits, merged = seen[0].thresholds(), Counts.zero(5, data.concepts)
        for part, state in zip(parts, seen, strict=True):
            assert torch.equal(state.saturated(), saturated) and torch.equal(state.thresholds(), limits)
            merged += tally({"u": state}, part, {"u": limits}, batch_size=3)["u"]
        assert identical([merged.intersection, merged.area], [intersection, area])
        looked_at = masks(nn.functional.avg_pool2d(images, pool), limits, 8, 8)
        assert torch.equal(torch.einsum("nuhw,nk->uk", looked_at.double(), data.labelled.double()).long(), area)


def test_what_fires_undisturbed_fires_again_at_the_same_thresholds():
    net, data = Channels(), planted()
    layers = [Layer.named(net, data.images, "units")]
    before = see(net, data, layers, quantile=0.01)
    thresholds = {"units": before.found["units"].thresholds}
    after = see(net, data, layers, quantile=0.01, thresholds=thresholds)
    assert identical(before.found["units"].area, after.found["units"].area)
    kept = survival(before, after, "units")
    assert kept[2] == before.found["units"].detectors.sum() and kept[3] == kept[4] == 0


def test_no_unit_saturates_where_the_quantile_lets_none_fire():
    with pytest.warns(UserWarning, match="too few for quantile"):
        found = dissect(Channels(), planted(), ["units"], quantile=1e-4)["units"]
    assert found.dead.all() and not found.saturated.any()


def test_constant_maps_take_no_room():
    state = observe(Channels(), planted(), ["units"], quantile=0.01, batch_size=6)["units"]
    assert not any((maps.unit == 2).any() for maps in state.maps) and not (next(iter(state.maps)).unit == 0).any()
    first = next(state.batches(state.thresholds()))
    assert set(first.unit.tolist()) == {0, 3} and (first.values[first.unit == 0] == 6).all()


def test_the_convention():
    found = firing_thresholds(torch.tensor([6.0, 5, 0, 0]), torch.tensor([0.0, 0, 0, -1]), torch.tensor([6.0, 6, 0, 0]))
    assert found[1:3].tolist() == [5, 0] and 5.999999 < found[0] < 6 and -1e-40 < found[3] < 0
