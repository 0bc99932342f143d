"""Planted detectors are named and found again; what comes and goes over the looks is told."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from interp.dissection import Broden, Concepts, dissect
from interp.dissection.concepts.data import TensorConcepts
from interp.draw.table import thumbnails
from interp.errors import UserError
from interp.lit.data import ImageData
from interp.lit.data.shapes import COLORS, shapes
from interp.probe import Probe
from plugins.dissection import DissectionPlugin, DissectionResult, view
from tests.conftest import identical
from tests.interp.broden_folder import make_broden
from tests.interp.concept_data import Channels, random_data


class Planted(nn.Module):
    """A layer that is high on each colour of `shapes`, and one with three of them, its other units dead."""

    def __init__(self) -> None:
        super().__init__()
        tone = torch.tensor(list(COLORS.values()))
        self.register_buffer("tone", nn.functional.normalize(tone - tone.mean(dim=1, keepdim=True), dim=1))
        self.colours, self.three = nn.Identity(), nn.Identity()
        self.head = nn.Linear(6, 10)

    def forward(self, images):
        tone = images - images.mean(dim=1, keepdim=True)
        along = torch.einsum("bchw,uc->buhw", tone, self.tone)
        across = (tone.square().sum(dim=1, keepdim=True) - along.square()).clamp_min(0).sqrt()
        colours = self.colours(along - 2 * across)
        self.three(colours * torch.tensor([1.0, 0, 1, 0, 1, 0])[:, None, None])
        return self.head(colours.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def planted():
    torch.manual_seed(0)
    return Planted().eval(), ImageData(shapes, train=1, val=120, test=1).probe


@pytest.fixture(scope="module")
def result(planted):
    return DissectionPlugin(name="d", layers=["colours", "three"], images=None, shuffles=2).look(*planted)


def test_planted_detectors_are_named_and_chance_names_none(result):
    units = result.units
    assert [units.concepts[c] for c in units.best[:6]] == list(COLORS) and units.detectors[:6].all()
    assert units.detectors[6:].tolist() == [True, False] * 3 and units.dead[6:].tolist() == [False, True] * 3
    scalars = result.scalars()
    assert scalars["detectors"] == scalars["detectors/color"] == 9 and scalars["unique_detectors"] == 6
    assert (scalars["unique_detectors/colours"], scalars["unique_detectors/three"]) == (6, 3)
    assert scalars["dead_units"] == 3 and scalars["detectors_by_chance"] < 2
    assert "meadow, sea, desert, city" in result.captions()["detectors"]


def test_layers_are_dissected_as_one_by_one(planted, result):
    net, probe = planted
    data = probe.dataset.concept_data()
    alone = [dissect(net, data, [name])[name] for name in ("colours", "three")]
    assert torch.equal(result.units.iou, torch.cat([one.iou for one in alone]))
    columns, rows = result.tables()["units"]
    assert len(rows) == 12 and rows[0][columns.index("IoU")] == pytest.approx(float(result.units.best_iou.max()))
    assert all(len({type(cell) for cell in cells}) == 1 for cells in zip(*rows, strict=True))  # as W&B wants it
    named = {(row[0], row[1]): row[2] for row in rows}
    assert [named["colours", u] for u in range(6)] == list(COLORS) and named["three", 4] == list(COLORS)[4]


def test_every_unit_stands_in_the_table_with_the_image_in_which_it_peaks(result):
    columns, rows = result.tables()["units"]
    shown = {(row[0], row[1]): row[columns.index("peaks in")] for row in rows}
    assert len(shown) == 12 and len(result.peaks) <= 12
    for at, unit in enumerate(result.shown[:4].tolist()):
        assert torch.equal(shown["colours", unit], thumbnails(result.images[at, :1] / 255)[0])


def test_pictures_show_the_images_in_which_a_unit_peaks_lit_where_it_fires(planted, result):
    net, probe = planted
    assert len(result.shown) == 4 + 3 and not set(result.shown.tolist()) & {7, 9, 11}  # the dead have none
    images = torch.stack([probe.dataset[i][0] for i in range(120)])
    values = []
    net.colours.register_forward_hook(lambda *args: values.append(args[2]))
    net(images)
    net.colours._forward_hooks.clear()
    for at, unit in enumerate(result.shown[:4].tolist()):
        top = values[0][:, unit].amax(dim=(1, 2)).argsort(descending=True, stable=True)[:6]
        assert torch.equal(result.images[at], (images[top] * 255).round().byte())
        assert torch.equal(result.masks[at], values[0][top, unit] > result.thresholds[unit])
    assert set(result.pictures()) == set(result.captions()) == {"detectors", "iou", "units"}


def altered(result, unit, concept):
    """`result` with `unit` detecting `concept` alone, or nothing."""
    intersection, area = result.intersection.clone(), result.area.clone()
    intersection[unit], area[unit] = 0, 0
    if concept is not None:
        category = result.category[concept]
        intersection[unit, concept] = area[unit, category] = result.support[concept]
    detectors = replace(result, intersection=intersection, area=area).units.detectors
    return replace(result, intersection=intersection, area=area, since=detectors.long() - 1)


def test_emergence_and_loss_over_the_looks(result):
    first = altered(altered(result, 0, None), 2, 9)
    second = result.following(first)
    assert second.changes == {"kept": 7, "lost": 1, "gained": 2} and len(second.history) == 2
    assert second.since[:4].tolist() == [1, 0, 1, 0]
    assert second.concepts_lost == (result.concepts[9],) and second.concepts_gained == ()
    third = altered(altered(result, 0, None), 6, None).following(second)
    assert third.since[:8].tolist() == [-1, 0, 1, 0, 0, 0, -1, -1] and third.changes["lost"] == 2
    assert third.concepts_lost == ("red",) and "without a detector now: red" in third.captions()["emergence"]
    row = next(row for row in third.tables()["units"][1] if row[:2] == ["colours", 2])
    assert row[2] == "yellow" and row[6] == "1"
    standing = view.standing(third)
    assert sum(int(table.sum()) for table in standing.values()) == int(third.units.detectors.sum())
    assert standing["colours"][1, 0] == 1 and "emergence" in third.pictures()
    other = replace(result, layers=("colours", "other"))
    assert other.following(first) is other


def test_saved_and_loaded_it_follows_on(result, tmp_path):
    result.following(result).save(tmp_path)
    again = DissectionResult.load(tmp_path)
    assert identical(vars(again), vars(result.following(result)))
    assert result.following(again).since.tolist() == again.since.tolist()


@pytest.mark.filterwarnings("ignore:.*saturate")
def test_broden_on_disk_as_the_concepts(tmp_path):
    torch.manual_seed(0)
    data = Broden(make_broden(tmp_path / "broden"))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    probe = ImageData(shapes, train=1, val=10, test=1).probe
    result = DissectionPlugin(name="d", concepts=data, layers=["1"], quantile=0.1, images=None).look(net, probe)
    assert result.categories == data.categories and result.count == len(data)
    assert torch.equal(result.units.dead, ~result.saturated)  # two plain images: a unit is constant, or one is higher
    assert result.units.scalars() == dissect(net, data, ["1"], quantile=0.1)["1"].scalars()


def test_damaged_units_and_missing_concepts_are_said_and_the_rest_is_shown():
    class Damaged(Channels):
        def forward(self, images):
            values = images.clone()
            values[:, 0], values[:, 1] = torch.nan, 0.5
            return super().forward(values)

    data = random_data(images=20)
    names = Concepts((*data.concepts.names, "ghost"), ("first", "second", "empty"), (*data.concepts.category, 2))
    data = TensorConcepts(data.images, data.maps, torch.ones(20, 3).bool(), names)
    probe = Probe(data.images[:2], torch.tensor([-1, -1]), ("a",), torch.arange(2))
    with pytest.warns(UserWarning) as caught:
        plugin = DissectionPlugin(name="d", concepts=data, layers="units", quantile=0.1, minimum=0.06)
        result = plugin.look(Damaged(), probe)
    text = " ".join(str(w.message) for w in caught)
    assert "1 units of units put out NaN" in text and "have no pixel in these images: ghost" in text
    assert result.units.dead.tolist() == [True, True, False, False, False] and result.scalars()["dead_units"] == 2
    assert not set(result.shown.tolist()) & {0, 1} and len(result.shown) == 3
    assert "Left out: 1 of 5 units of units" in result.captions()["detectors"]
    assert "1 of 5 concepts (they have no pixel in these images)" in result.captions()["detectors"]
    assert all(picture.float().std() > 1 for picture in result.following(result).pictures().values())
    assert all(value == value for value in result.scalars().values())


def test_settings_that_do_not_fit_are_named(planted):
    net, probe = planted
    for settings, message in (
        ({"images": 0}, "plugin.d.images=0: must be at least 1"),
        ({"top": 0}, "plugin.d.top=0"),
    ):
        with pytest.raises(UserError, match=message):
            DissectionPlugin(name="d", **settings)
    with pytest.raises(UserError, match="no layer 'colour'.*did you mean 'colours'"):
        DissectionPlugin(name="d", layers="colour").check(net)
    with pytest.raises(UserError, match="quantile=1"):
        DissectionPlugin(name="d", layers="colours", quantile=1).look(net, probe)
    with pytest.raises(UserError, match="concept data have 5 channels"):
        DissectionPlugin(name="d", layers="colours", concepts=random_data()).look(net, probe)
