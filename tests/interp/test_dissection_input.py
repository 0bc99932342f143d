"""Awkward input to a dissection: NaN, dead units, absent concepts, few images, several sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from interp.dissection import Concepts, Labels, dissect
from interp.dissection.concepts.data import Chosen, TensorConcepts, stack
from interp.dissection.spool import Spool
from interp.dissection.tally import Maps, count
from interp.errors import UserError
from tests.conftest import identical
from tests.interp.concept_data import Channels, Ragged, random_data


def test_known_thresholds_are_used_as_they_are():
    data = random_data()
    clean = dissect(Channels(), data, ["units"], quantile=0.05)["units"]
    brighter = TensorConcepts((data.images + 0.2).clamp_max(1), data.maps, data.labelled, data.concepts)
    found = dissect(Channels(), brighter, ["units"], thresholds={"units": clean.thresholds})["units"]
    assert torch.equal(found.thresholds, clean.thresholds) and found.area.sum() > 2 * clean.area.sum()


def test_broken_and_dead_units_and_absent_concepts_leave_the_rest_alone():
    data = random_data(concepts=4)
    data.images[:, 2] = 0.5
    sound = dissect(Channels(), data, ["units"], quantile=0.05)["units"]
    data.images[3, 0, 0, 0], data.images[4, 1, 2, 2] = torch.nan, torch.inf
    concepts = Concepts((*data.concepts.names, "unseen"), data.concepts.categories, (*data.concepts.category, 0))
    data = TensorConcepts(data.images, data.maps, data.labelled, concepts)
    with pytest.warns(UserWarning) as caught:
        found = dissect(Channels(), data, ["units"], quantile=0.05)["units"]
    text = " ".join(str(w.message) for w in caught)
    assert (
        "2 units of units put out NaN or infinity" in text and "1 concepts have no pixel in these images: uns" in text
    )
    assert found.thresholds.isnan().tolist() == [True, True, False, False, False]
    assert not found.iou[:3].any() and found.dead.tolist() == [True] * 3 + [False] * 2
    assert torch.equal(found.iou[3:, :4], sound.iou[3:]) and found.no_support() == ("unseen",)
    assert all(np.isfinite(value) for value in found.scalars().values())


def test_too_few_positions_are_said():
    with pytest.warns(UserWarning, match="72 positions are too few for quantile=0.005: no unit of units fires"):
        found = dissect(Channels(), random_data(images=2, concepts=2), ["units"])["units"]
    assert found.dead.all() and not found.detectors.any()


def test_what_cannot_be_dissected_is_named():
    data = random_data()
    net = nn.Sequential(nn.Flatten(), nn.Linear(180, 3))
    with pytest.raises(UserError, match=r"'1' cannot be dissected: its output is \(11, 3\)"):
        dissect(net, data, ["1"])
    with pytest.raises(UserError, match="did you mean 'units'"):
        dissect(Channels(), data, ["unit"])
    with pytest.raises(UserError, match="hold no images"):
        dissect(Channels(), Chosen(data, []), ["units"])
    with pytest.raises(UserError, match="quantile=5"):
        dissect(Channels(), data, ["units"], quantile=5)


def test_thresholds_come_from_a_histogram_where_the_largest_values_take_too_much_memory(monkeypatch):
    data = random_data(images=40)
    exact = dissect(Channels(), data, ["units"], quantile=0.1)["units"]
    monkeypatch.setattr("interp.dissection.observed.MEMORY", 0)
    found = dissect(Channels(), data, ["units"], quantile=0.1, batch_size=7)["units"]
    assert (found.thresholds >= exact.thresholds).all()
    assert (found.thresholds <= exact.thresholds * (1 + 1 / 128)).all()
    assert (found.area <= exact.area).all() and found.area.sum() > 0.8 * exact.area.sum()


def test_thresholds_that_do_not_fit_are_named():
    for thresholds, message in (
        ({"unit": torch.zeros(5)}, "mean 'unit'"),
        ({"units": torch.zeros(4)}, "4 thresholds for"),
    ):
        with pytest.raises(UserError, match=message):
            dissect(Channels(), random_data(), ["units"], thresholds=thresholds)


class TwoSizes(Ragged):
    """Concept data with one image of another size."""

    def image(self, index):
        return self.data.image(index)[:, : 6 - index % 2]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_images_of_several_sizes_are_refused(batch_size):
    with pytest.raises(UserError, match="set the reader's `size`"):
        dissect(Channels(), TwoSizes(random_data()), ["units"], quantile=0.05, batch_size=batch_size)


def test_maps_wait_on_disk_beyond_the_memory_given():
    spool = Spool(memory=100)
    batches = [Maps.above(torch.rand(4, 3, 2, 2), torch.full((3,), 0.5)) for _ in range(5)]
    for number, batch in enumerate(batches):
        spool.add(batch)
        assert identical([vars(b) for b in spool], [vars(b) for b in batches[: number + 1]])
    assert spool._file._rolled and len(spool) == 5


def test_equal_values_do_not_fire_between_them():
    activations = torch.zeros(1, 1, 4, 4)
    activations[0, 0, :2] = 0.1  # T itself, whose interpolation must not exceed it by rounding
    concepts = Concepts(("a",), ("k",), (0,))
    (labels,) = stack([Labels(torch.zeros(1, 23, 37, dtype=torch.int32), torch.ones(1).bool())], concepts)
    maps = Maps.above(activations, torch.tensor([0.0]))
    found = count(maps, torch.tensor([0.1]), labels, concepts)
    assert found.intersection.item() == found.area.item() == 0 and found.support.item() == 23 * 37


def test_a_category_without_pixels_leaves_the_others_alone():
    data = random_data()
    sound = dissect(Channels(), data, ["units"], quantile=0.05)["units"]
    names = Concepts((*data.concepts.names, "ghost"), ("first", "second", "empty", "third"), (0, 0, 1, 1, 3))
    wider = torch.cat([data.labelled, torch.zeros(11, 1).bool(), torch.ones(11, 1).bool()], dim=1)
    with pytest.warns(UserWarning, match="1 concepts have no pixel in these images: ghost"):
        found = dissect(Channels(), TensorConcepts(data.images, data.maps, wider, names), ["units"], quantile=0.05)
    found = found["units"]
    assert torch.equal(found.iou[:, :4], sound.iou) and not found.iou[:, 4].any() and not found.area[:, 2].any()
    assert found.by_category()["empty"] == found.by_category()["third"] == (0, 0)
    assert found.scalars()["detectors/first"] == sound.scalars()["detectors/first"]
    assert all(np.isfinite(value) for value in found.scalars().values())
