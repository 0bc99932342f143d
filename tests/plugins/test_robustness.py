"""What survives a disturbance: planted units that must, and those that must not."""

import pytest
import torch
from torch import nn

from interp.dissection import dissect
from interp.dissection.robustness import SURVIVAL
from interp.errors import UserError
from interp.lit.data import ImageData
from interp.lit.data.shapes import COLORS, shapes
from interp.network.layers import Normalized
from interp.perturbation.disturbed import Disturbed, rotation
from interp.probe import Probe
from plugins.robustness import RobustnessPlugin, RobustnessResult
from tests.conftest import identical
from tests.interp.concept_data import random_data


class Colours(nn.Module):
    """Units for the colours of `shapes`, pixel by pixel; the class that it answers is the brightest colour."""

    def __init__(self) -> None:
        super().__init__()
        tone = torch.tensor(list(COLORS.values()))
        self.register_buffer("tone", nn.functional.normalize(tone - tone.mean(dim=1, keepdim=True), dim=1))
        self.units = nn.Identity()

    def forward(self, images):
        tone = images - images.mean(dim=1, keepdim=True)
        along = torch.einsum("bchw,uc->buhw", tone, self.tone)
        across = (tone.square().sum(dim=1, keepdim=True) - along.square()).clamp_min(0).sqrt()
        return nn.functional.pad(self.units(along - 2 * across).amax(dim=(2, 3)), (0, 4), value=-9.0)


@pytest.fixture(scope="module")
def probe():
    return ImageData(shapes, train=1, val=60, test=1).probe


@pytest.fixture(scope="module")
def result(probe):
    net = Normalized(Colours(), [0.0] * 3, [1.0] * 3).eval()
    return RobustnessPlugin(name="r", layers=["units"], images=None).look(net, probe)


def measured(result, name):
    """What was measured of the one layer, by disturbance."""
    names = list(result.names)
    return dict(zip(names, result.survival[:, 0, SURVIVAL.index(name)].tolist(), strict=True))


def test_units_that_see_single_pixels_survive_all_but_strong_noise(result):
    kept, iou, correlation = (measured(result, name) for name in ("kept", "IoU kept", "rank correlation"))
    assert list(kept) == ["original", "noise 1", "noise 5", "noise 10", "noise 100", "rotation 10", "rotation 45",
                          "rotation 90", "patches 4 x 4", "patches 8 x 8"]  # fmt: skip
    assert kept["original"] == 6 and iou["original"] == 1 and correlation["original"] == pytest.approx(1)
    for name in ("rotation 90", "patches 4 x 4", "patches 8 x 8"):  # the same pixels elsewhere, and their labels
        assert kept[name] == 6 and iou[name] == pytest.approx(1) and correlation[name] == pytest.approx(1)
    assert kept["noise 1"] == kept["rotation 45"] == 6 and iou["noise 100"] < iou["noise 5"] < 1
    assert kept["noise 100"] + measured(result, "lost")["noise 100"] == 6
    assert result.scalars()["detectors_kept/rotation"] == result.scalars()["detectors_kept/patches"] == 1
    assert result.scalars()["accuracy/patches"] == result.scalars()["accuracy"]


def test_thresholds_are_those_of_the_undisturbed_images_and_masks_turn_with_them(probe, result):
    net, data = Colours(), probe.dataset.concept_data()
    clean = dissect(net, data, ["units"])["units"]
    turned = dissect(net, Disturbed(data, rotation(45)), ["units"], thresholds={"units": clean.thresholds})["units"]
    detectors, unique = turned.level()
    assert measured(result, "detectors")["rotation 45"] == detectors
    assert measured(result, "concepts")["rotation 45"] == unique
    expected = (turned.iou.gather(1, clean.best[:, None])[:, 0] / clean.best_iou).mean()
    assert measured(result, "IoU kept")["rotation 45"] == pytest.approx(float(expected))
    quarter = list(measured(result, "kept")).index("rotation 90")
    assert torch.equal(result.images[:, quarter], result.images[:, 0].rot90(1, (-2, -1)))
    assert (result.masks[:, quarter] == result.masks[:, 0].rot90(1, (-2, -1))).float().mean() > 0.999
    assert len(result.rows) == len(result.images) == 4 and result.rows[1] == ""


def test_it_is_shown_and_saved(result, tmp_path):
    assert set(result.pictures()) == set(result.captions()) == {"curves", "units"}
    columns, rows = result.tables()["survival"]
    assert len(rows) == 10 and columns[:3] == ["layer", "images", "accuracy"] and rows[7][1] == "rotation 90"
    assert all(len({type(cell) for cell in cells}) == 1 for cells in zip(*rows, strict=True))  # as W&B wants it
    result.save(tmp_path)
    assert identical(vars(RobustnessResult.load(tmp_path)), vars(result))


def test_attacks_mislead_and_families_fill_pages(probe, monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 225, 10)).eval()
    names, own = ["fgsm", "pgd", "noise", "fgsm"], probe.dataset.concept_data()
    options = {"concepts": own, "images": 20, "quantile": 0.05, "batch_size": 8}
    plugin = RobustnessPlugin(name="r", layers="1", disturbances=names, **options)
    found = plugin.look(net, probe)
    assert plugin.disturbances == names[:3] and found.count == 20 and found.answers[0] == 1
    fgsm, pgd, noise = (found.answers[found.families.index(name) :][:4] for name in names[:3])
    assert (pgd <= fgsm).all() and pgd[3] < pgd[0] and pgd[3] < noise[2]
    assert set(found.pictures()) == {"curves", "units"}
    monkeypatch.setattr("plugins.robustness.view.PAGE", 2)
    assert set(found.pictures()) == set(found.captions()) == {"curves", "units", "curves_2", "units_2"}


def test_without_classes_answers_are_compared_with_the_undisturbed():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(5, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    data = random_data(images=20)
    five = Probe(torch.rand(2, 5, 6, 6), torch.tensor([-1, -1]), ("a",), torch.arange(2))
    found = RobustnessPlugin(name="r", layers=["1"], concepts=data, quantile=0.05, disturbances="noise").look(net, five)
    assert found.right == "agreement" and found.answers[0] == 1 and found.scalars()["agreement"] == 1


def test_settings_that_do_not_fit_are_named():
    for settings, message in (
        ({"disturbances": ["blur"]}, "no disturbance 'blur'.*did you mean"),
        ({"disturbances": []}, "plugin.r.disturbances is empty"),
        ({"images": 0}, "plugin.r.images=0"),
    ):
        with pytest.raises(UserError, match=message):
            RobustnessPlugin(name="r", **settings)
