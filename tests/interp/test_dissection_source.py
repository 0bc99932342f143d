"""Where concepts come from, and the images in which units peak."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from interp.dissection import TopImages, concept_data, dissect, dissect_layers, evidence, targets_of
from interp.dissection.concepts.data import NONE, Concepts
from interp.dissection.concepts.source import enough
from interp.errors import UserError
from interp.lit.data import TensorImages
from interp.network.layers import Layer
from interp.probe import Probe, choose_probe
from tests.interp.concept_data import Channels, random_data
from tests.processes import unite


def labelled(targets, side=4, channels=3):
    images = torch.arange(len(targets) * channels * side**2).view(-1, channels, side, side) % 256
    return TensorImages(images.byte(), torch.tensor(targets))


def test_a_data_set_of_its_own_concepts_gives_these():
    from interp.lit.data.shapes import shapes

    splits = shapes(train=1, val=30, test=1, size=32)
    probe = choose_probe(splits.val, splits.class_names, 5)
    data = concept_data(probe)
    assert data.concepts.categories == ("color", "texture", "object", "part", "scene") and len(data) == 30
    few = concept_data(probe, images=4)
    assert len(few) == 4 and torch.equal(few.image(3), splits.val[29][0])
    assert torch.equal(targets_of(probe, few, None), splits.val.targets[[0, 10, 19, 29]])


def test_classes_are_concepts_that_cover_their_images():
    dataset = labelled([2, 0, 1, 2, -1])
    data = concept_data(choose_probe(dataset, ("a", "b", "c"), 2))
    assert data.concepts.names == ("a", "b", "c") and data.concepts.categories == ("class",) and len(data) == 5
    assert (data.labels(0).maps == 2).all() and data.labels(0).maps.shape == (1, 4, 4) and data.labels(0).labelled
    assert (data.labels(4).maps == NONE).all() and not data.labels(4).labelled
    assert torch.equal(data.image(3), dataset[3][0])


def test_without_a_data_set_the_probe_is_the_data():
    probe = Probe(torch.rand(3, 1, 4, 4), torch.tensor([1, 0, 1]), ("a", "b"), torch.arange(3))
    data = concept_data(probe)
    assert len(data) == 3 and torch.equal(data.image(1), probe.images[1]) and (data.labels(2).maps == 1).all()
    assert targets_of(probe, data, None).tolist() == [1, 0, 1]


def test_given_concepts_win_and_have_no_classes():
    given = random_data(channels=3)
    probe = choose_probe(labelled([0, 1]), ("a", "b"), 1)
    data = concept_data(probe, given, images=5)
    assert len(data) == 5 and data.concepts == given.concepts and targets_of(probe, data, given) is None


def many(classes, images):
    return Concepts(tuple(map(str, range(classes))), ("class", "empty"), (0,) * classes), labelled(
        [n * classes // images for n in range(images)]
    )


def test_images_follow_the_concepts_within_what_is_worth_its_time():
    for classes, wanted in ((0, 300), (10, 300), (30, 300), (100, 1000), (300, 3000), (1000, 3000)):
        assert enough(many(classes, 1)[0]) == wanted
    assert enough(Concepts(tuple("abcdef"), ("k", "l"), (0, 0, 0, 1, 1, 1))) == 300
    names, dataset = many(40, 500)
    probe = choose_probe(dataset, names.names, 2)
    assert len(concept_data(probe, images="enough")) == 400 and len(concept_data(probe, images=None)) == 500
    with pytest.raises(UserError, match="images='all': give a whole number, null for all, or enough"):
        concept_data(probe, images="all")


def test_classes_of_which_no_image_is_looked_at_are_told_before():
    names, dataset = many(100, 400)
    probe = choose_probe(dataset, (*names.names, "has none"), 2)
    with pytest.warns(UserWarning, match=r"70 of 100 classes have no image among the 30 .* images=400 would"):
        assert len(concept_data(probe, images=30)) == 30
    assert len(concept_data(probe, images=200)) == 200


def test_what_cannot_be_dissected_is_said():
    with pytest.raises(UserError, match="neither labels of concepts nor classes.*interp.dissection.Broden"):
        concept_data(choose_probe(labelled([-1, -1]), ("a",), 1))
    with pytest.raises(UserError, match="concept data have 5 channels, those that the network takes 3"):
        concept_data(choose_probe(labelled([0, 0]), ("a",), 1), random_data(channels=5))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 7), st.integers(0, 999))
def test_top_images_are_those_of_sorting_however_the_stream_is_cut(cuts, keep, seed):
    peaks = torch.randint(-3, 4, (sum(cuts), 3), generator=torch.Generator().manual_seed(seed)).float()
    values, images = peaks.T.sort(dim=1, descending=True, stable=True)
    streamed, parts, first = TopImages(keep), [], 0
    for part in peaks.split(cuts):
        streamed.add(part)
        parts.append(TopImages(keep, first))
        parts[-1].add(part)
        first += len(part)
    unite(parts[::-1])
    for found in (streamed, *parts):
        assert torch.equal(found.values, values[:, :keep]) and torch.equal(found.images, images[:, :keep])


def test_nan_is_never_on_top():
    top = TopImages(2)
    top.add(torch.tensor([[torch.nan], [-5.0], [torch.inf]]))
    assert top.images.tolist() == [[2, 1]]


def test_layers_are_dissected_with_their_top_images_and_the_places_where_units_fire():
    data, net = random_data(), Channels(2)
    layer = Layer.named(net, data.images, "units")
    found, tops = dissect_layers(net, data, [layer], keep=3, quantile=0.1, batch_size=4)
    assert torch.equal(found["units"].intersection, dissect(net, data, ["units"], quantile=0.1)["units"].intersection)
    pooled = nn.functional.avg_pool2d(data.images, 2)
    assert torch.equal(tops["units"].images, pooled.amax(dim=(2, 3)).topk(3, dim=0).indices.T)
    units, images = torch.tensor([4, 1]), tops["units"].images[[4, 1]]
    shown, fires = evidence(net, data, layer, units, images, found["units"].thresholds)
    assert shown.shape == (2, 3, 5, 6, 6) and fires.shape == (2, 3, 6, 6) and fires.dtype == torch.bool
    assert torch.equal(shown[1, 2], (data.images[images[1, 2]] * 255).round().byte())
    wide = nn.functional.interpolate(pooled[images[0], 4][None], (6, 6), mode="bilinear")[0]
    assert torch.equal(fires[0], wide > found["units"].thresholds[4]) and fires[0].any()


def test_tokens_are_dissected_on_their_grid():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Identity()

        def forward(self, images):
            return self.block(images.flatten(2).transpose(1, 2))

    data = random_data()
    layer = Layer.named(Tokens(), data.images, "block")
    found, _ = dissect_layers(Tokens(), data, [layer], quantile=0.1)
    assert torch.equal(found["block"].area, dissect(Channels(), data, ["units"], quantile=0.1)["units"].area)
