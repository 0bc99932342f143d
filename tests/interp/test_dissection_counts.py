"""Network dissection against the float64 oracle, brute force, planted detectors and chance."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from interp.dissection import Broden, Concepts, Dissection, dissect, observe, tally
from interp.dissection.concepts.data import NONE, VOID, Chosen, TensorConcepts
from interp.dissection.tally import Counts, masks
from tests.conftest import SHARED, identical
from tests.interp.concept_data import Channels, Ragged, random_data
from tests.processes import unite

REFERENCE = SHARED / "data" / "dissection"


class Recorded(nn.Module):
    """A network that puts out `activations`, batch by batch."""

    def __init__(self, activations) -> None:
        super().__init__()
        self.stage4, self.activations, self.place = nn.Identity(), activations, 0

    def forward(self, images):
        self.place += len(images)
        return self.stage4(self.activations[self.place - len(images) : self.place])


@pytest.fixture(scope="module")
def broden(tmp_path_factory):
    if not REFERENCE.is_dir():
        pytest.skip(f"{REFERENCE} is not here")
    import tarfile

    folder = tmp_path_factory.mktemp("broden")
    with tarfile.open(REFERENCE / "synbroden240.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return Broden(folder / "syn240")


def test_complete_table_of_the_oracle_to_the_last_integer(broden):
    activations = torch.from_numpy(np.load(REFERENCE / "activations_stage4.npz")["acts"])
    expected = np.load(REFERENCE / "reference_stage4.npz")
    found = dissect(Recorded(activations), broden, ["stage4"], batch_size=50)["stage4"]
    names = expected["names"].tolist()
    columns = [names.index(name) for name in found.concepts]
    assert found.categories == tuple(expected["categories"])
    assert np.array_equal(found.category.numpy(), expected["primary"][columns])
    assert np.array_equal(found.thresholds.numpy(), expected["T"])
    assert np.array_equal(found.intersection.numpy(), expected["I"][:, columns])
    assert np.array_equal(found.support.numpy(), expected["G"][columns])
    assert np.array_equal(found.area.numpy(), expected["A"])
    assert np.abs(found.iou.numpy() - expected["iou"][:, columns]).max() < 1e-12
    elsewhere = np.delete(expected["iou"], columns, axis=1)
    assert not elsewhere.any() and found.level() == (45, 8)


def brute_force(data, quantile, pool):
    """Thresholds, intersection, area and support, by torch's own interpolation and loops."""
    images = torch.stack([data.image(i) for i in range(len(data))])
    activations = nn.functional.avg_pool2d(images, pool)
    flat = activations.transpose(0, 1).flatten(1).sort(dim=1, descending=True).values
    limits = flat[:, int(quantile * flat.shape[1])]
    counts = Counts.zero(len(limits), data.concepts)
    for i in range(len(data)):
        labels = data.labels(i)
        size = labels.maps.shape[1:]
        masks = nn.functional.interpolate(activations[[i]].double(), size, mode="bilinear")[0] > limits[:, None, None]
        masks &= (labels.maps != VOID).all(dim=0)
        here = [(labels.maps == c).any(dim=0) for c in range(len(data.concepts))]
        counts.support[:] += torch.stack([m.sum() for m in here])
        counts.intersection[:] += torch.stack([(masks & m).sum(dim=(1, 2)) for m in here], dim=1)
        counts.area[:] += masks.sum(dim=(1, 2))[:, None] * labels.labelled
    return limits, counts


@pytest.mark.parametrize(("quantile", "pool", "seed"), [(0.05, 1, 0), (0.2, 2, 1), (0.5, 3, 2), (0.01, 6, 3)])
def test_counts_are_those_of_brute_force(quantile, pool, seed):
    data = random_data(seed=seed)
    data.maps[::4, :, :3] = VOID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dissect(Channels(pool), data, ["units"], quantile=quantile, batch_size=4)["units"]
    limits, counts = brute_force(data, quantile, pool)
    assert torch.equal(found.thresholds, limits)
    assert identical([found.intersection, found.area, found.support], list(vars(counts).values()))
    union = counts.area[:, found.category] + counts.support - counts.intersection
    assert torch.equal(found.iou, counts.intersection / union.double())


def test_label_maps_of_several_sizes_and_without_planes():
    data = Ragged(random_data())
    found = dissect(Channels(2), data, ["units"], quantile=0.1, batch_size=5)["units"]
    assert identical([found.intersection, found.area, found.support], list(vars(brute_force(data, 0.1, 2)[1]).values()))


@pytest.mark.parametrize("sizes", [(5, 6), (1, 9, 1), (2, 2, 3, 4)])
def test_processes_merge_to_the_bits_of_one(sizes):
    data = random_data()
    options = {"quantile": 0.05, "total": len(data)}
    whole = observe(Channels(), data, ["units"], batch_size=11, **options)["units"]
    counts = tally({"u": whole}, data, {"u": whole.thresholds()}, batch_size=11)["u"]
    parts = [Chosen(data, part.tolist()) for part in torch.randperm(len(data)).split(sizes)]
    seen = [observe(Channels(), part, ["units"], batch_size=2, **options)["units"] for part in parts]
    unite(seen)
    limits = seen[0].thresholds()
    assert all(torch.equal(state.thresholds(), whole.thresholds()) for state in seen)
    merged = Counts.zero(len(limits), data.concepts)
    for part, one in zip(parts, seen, strict=True):
        merged += tally({"u": one}, part, {"u": limits}, batch_size=2)["u"]
    assert identical(vars(merged), vars(counts))


def test_several_layers_and_views_in_one_pass():
    net = nn.Sequential(nn.Conv2d(5, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 3, 1)).eval()
    data = random_data()
    passes = []
    net.register_forward_pre_hook(lambda *_: passes.append(1))
    together = dissect(net, data, ["1", "3"], quantile=0.05)
    assert len(passes) == 1 and list(together) == ["1", "3"]
    for name, found in together.items():
        alone = dissect(net, data, [name], quantile=0.05)[name]
        assert identical(vars(found), vars(alone))
    flipped = dissect(net, data, ["3"], quantile=0.05, view=lambda acts: {"flip": acts["3"].flip(1)})["flip"]
    assert torch.equal(flipped.intersection.flip(0), together["3"].intersection)


def test_a_unit_that_is_the_mask_of_a_concept_has_an_iou_of_1():
    masks = torch.zeros(8, 3, 16, 16)
    masks[::2, 0, :4, :4], masks[1::2, 1, 8:, 2:4], masks[:, 2] = 1, 1, torch.rand(8, 16, 16) * 0.5
    maps = torch.where(masks[:, :2] > 0, torch.arange(2).view(2, 1, 1), NONE)
    data = TensorConcepts(masks, maps, torch.ones(8, 1, dtype=torch.bool), Concepts(("a", "b"), ("k",), (0, 0)))
    found = dissect(Channels(), data, ["units"], quantile=0.04)["units"]
    assert found.best_iou[:2].tolist() == [1, 1] and found.best[:2].tolist() == [0, 1]
    assert found.detectors[:2].all() and found.by_category() == {"k": (int(found.detectors.sum()), len(found.unique))}


class Colours(nn.Module):
    """Units that are high where a pixel has the hue of one of the colours of `shapes`, and one that is dead."""

    def __init__(self, colours) -> None:
        super().__init__()
        tone = torch.tensor(colours) - torch.tensor(colours).mean(dim=1, keepdim=True)
        self.register_buffer("tone", nn.functional.normalize(tone, dim=1))
        self.units = nn.Identity()

    def forward(self, images):
        tone = images - images.mean(dim=1, keepdim=True)
        along = torch.einsum("bchw,uc->buhw", tone, self.tone)
        across = (tone.square().sum(dim=1, keepdim=True) - along.square()).clamp_min(0).sqrt()
        return self.units(torch.cat([along - 2 * across, torch.zeros_like(along[:, :1])], dim=1))


@pytest.fixture(scope="module")
def coloured():
    from interp.lit.data.concepts import ConceptImages
    from interp.lit.data.shapes import COLORS, generate

    data = ConceptImages(**vars(generate(120, 0))).concept_data()
    return COLORS, dissect(Colours(list(COLORS.values())), data, ["units"], shuffles=2)["units"]


def test_planted_colour_detectors_are_named_and_chance_does_not_name_them(coloured):
    colours, found = coloured
    assert [found.concepts[best] for best in found.best[:6]] == list(colours)
    assert found.detectors.tolist() == [True] * 6 + [False] and found.dead.tolist() == [False] * 6 + [True]
    assert found.by_category() == {
        "color": (6, 6),
        "texture": (0, 0),
        "object": (0, 0),
        "part": (0, 0),
        "scene": (0, 0),
    }
    assert found.level() == (6, 6) and (found.chance < 6).all()


def test_result_has_finite_scalars_and_survives_its_files(coloured, tmp_path):
    found = coloured[1]
    assert all(np.isfinite(value) for value in found.scalars().values())
    assert found.scalars()["detectors"] == 6 and found.scalars()["dead_units"] == 1
    found.save(tmp_path)
    assert identical(vars(Dissection.load(tmp_path)), vars(found))


def test_masks_to_look_at_are_those_that_were_counted():
    data = random_data()
    found = dissect(Channels(2), data, ["units"], quantile=0.1)["units"]
    seen = masks(nn.functional.avg_pool2d(data.images, 2), found.thresholds, 8, 8)
    assert seen.shape == (11, 5, 8, 8) and torch.equal(seen.sum(dim=(0, 2, 3)), found.area[:, 0])
