"""Planted axes are found to be special, and loadings tell one unit from a combination."""

import pytest
import torch
from torch import nn

from interp.dissection.rotation import axis_alignment, random_rotation
from interp.errors import UserError
from interp.lit.data import ImageData
from interp.lit.data.shapes import COLORS, shapes
from interp.probe import Probe
from plugins.axis_alignment import AxisAlignmentPlugin, AxisAlignmentResult
from tests.conftest import identical


class Colours(nn.Module):
    """A unit for each colour of `shapes` and as many of noise, mixed by a rotation or not."""

    def __init__(self, mixed: bool) -> None:
        super().__init__()
        tone = torch.tensor(list(COLORS.values()))
        self.register_buffer("tone", nn.functional.normalize(tone - tone.mean(dim=1, keepdim=True), dim=1))
        self.register_buffer("mix", random_rotation(12, 5).float() if mixed else torch.eye(12))
        self.units, self.head = nn.Identity(), nn.Linear(12, 10)

    def forward(self, images):
        tone = images - images.mean(dim=1, keepdim=True)
        along = torch.einsum("bchw,uc->buhw", tone, self.tone)
        across = (tone.square().sum(dim=1, keepdim=True) - along.square()).clamp_min(0).sqrt()
        noise = torch.rand(6, *images.shape[2:], generator=torch.Generator().manual_seed(0))
        hues = (along - 2 * across).clamp_min(0) * 10
        together = torch.cat([hues, noise.expand(len(images), -1, -1, -1)], dim=1)
        return self.head(self.units(torch.einsum("bchw,dc->bdhw", together, self.mix)).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def probe():
    return ImageData(shapes, train=1, val=60, test=1, size=32).probe


def look(probe, mixed, **settings):
    torch.manual_seed(0)
    plugin = AxisAlignmentPlugin(name="a", layer="units", images=None, rotations=4, alphas=[1.0, 0.5], **settings)
    return plugin.look(Colours(mixed).eval(), probe)


@pytest.fixture(scope="module")
def aligned(probe):
    return look(probe, mixed=False)


def test_planted_axes_are_special_and_each_colour_is_one_unit(aligned):
    assert aligned.original[1] >= 6 and torch.equal(aligned.original, aligned.permuted)
    assert aligned.scalars()["rotated_unique_detectors"] < aligned.scalars()["unique_detectors"]
    assert aligned.scalars()["permutation_difference"] == 0 and aligned.alphas.tolist() == [0.5, 1]
    carried, unit = aligned.loadings.square().max(dim=1)
    found = {name: (int(unit[m]), aligned.verdicts[m]) for m, name in enumerate(aligned.concepts)}
    assert len(found) == 8
    for number, name in enumerate(COLORS):
        assert found[name] == (number, "one unit") and carried[aligned.concepts.index(name)] > 0.5


def test_with_mixed_axes_colours_are_combinations(probe, aligned):
    mixed = look(probe, mixed=True)
    assert mixed.verdicts.count("one unit") <= 1
    assert mixed.scalars()["largest_squared_loading"] < aligned.scalars()["largest_squared_loading"]


def test_counts_are_those_of_the_study(probe, aligned):
    torch.manual_seed(0)
    net, data = Colours(False).eval(), probe.dataset.concept_data()
    assert identical(vars(aligned.alignment), vars(axis_alignment(net, data, "units", rotations=4, alphas=(0.5, 1.0))))


def test_it_is_shown_and_saved(aligned, tmp_path):
    assert set(aligned.pictures()) == set(aligned.captions()) == {"rotation", "loadings"}
    columns, rows = aligned.tables()["loadings"]
    assert len(rows) == 8 and len(rows[0]) == len(columns)
    assert all(len({type(cell) for cell in cells}) == 1 for cells in zip(*rows, strict=True))  # as W&B wants it
    aligned.save(tmp_path)
    assert identical(vars(AxisAlignmentResult.load(tmp_path)), vars(aligned))


def test_absent_concepts_are_said_and_unknown_ones_named(probe):
    few = Probe(probe.images[:1], probe.labels[:1] * 0, ("red thing", "unseen"), probe.indices[:1])
    with pytest.warns(UserWarning) as caught:
        found = look(few, mixed=False, loadings=["unseen", "red thing"])
    assert found.concepts == ("red thing",) and "loadings" in found.pictures()
    assert any("no loadings of unseen: at no position of units" in str(w.message) for w in caught)
    with pytest.raises(UserError, match="no plugin.a.loadings 'rad'.*did you mean 'red'"):
        look(probe, mixed=False, loadings="rad")


def test_settings_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="plugin.a.rotations=0: must be at least 1"):
        AxisAlignmentPlugin(name="a", rotations=0)
    for alphas in ([], [0, 1], [1.5]):
        with pytest.raises(UserError, match="plugin.a.alphas=.*: wanted are some above 0 and up to 1"):
            AxisAlignmentPlugin(name="a", alphas=alphas)
