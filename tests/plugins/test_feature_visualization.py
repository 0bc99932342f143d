"""Pictures of channels: a planted filter comes back, and the numbers beside the pictures are true."""

import pytest
import torch
from torch import nn

from interp.errors import UserError
from interp.featurevis import activation_grid, mosaic
from interp.probe import Probe
from plugins.feature_visualization import FeatureVisualizationPlugin
from tests.conftest import identical


def stripes() -> tuple[nn.Module, Probe, torch.Tensor]:
    """A network whose channel 1 wants vertical stripes four pixels wide, and a probe of noise."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 8, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    pattern = torch.where(torch.arange(8) % 8 < 4, 1.0, -1.0).expand(8, 8)
    torch.manual_seed(0)
    net[0].weight.data[1, 0] = pattern / 64
    images = torch.rand(5, 1, 32, 32)
    return net.eval(), Probe(images, torch.zeros(5).long(), ("a", "b"), torch.arange(5)), pattern


def test_a_planted_filter_comes_back_and_beats_the_images():
    net, probe, pattern = stripes()
    plugin = FeatureVisualizationPlugin(name="f", layers=["1"], channels=[1], objective="unit")
    result = plugin.look(net, probe)
    where = slice(12, 20)  # what the centre unit of 25 x 25 sees
    seen = result.drawn[0, 0, where, where]
    cosine = nn.functional.cosine_similarity((seen - seen.mean()).flatten(), pattern.flatten(), dim=0)
    assert float(cosine) > 0.9
    assert result.values[0] > result.of_images.max() and result.values[0] > result.start[0]
    assert result.scalars()["beats_images"] == 1.0


@pytest.mark.parametrize("objective", ["channel", "unit"])
def test_values_are_those_of_the_pictures(net, digits, objective):
    net.eval()
    plugin = FeatureVisualizationPlugin(name="f", layers=["block3"], channels=[2, 5], steps=4, objective=objective)
    result = plugin.look(net, digits.probe)
    with torch.no_grad():
        drawn, images = (net.body[:3](net.normalize(x) if hasattr(net, "normalize") else (x - net.mean) / net.std)
                         for x in (result.drawn, digits.probe.images))  # fmt: skip
    pick = (
        (lambda a: a.mean(dim=(2, 3)))
        if objective == "channel"
        else (lambda a: a[:, :, a.shape[2] // 2, a.shape[3] // 2])
    )
    torch.testing.assert_close(result.values, pick(drawn)[[0, 1], [2, 5]], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(result.of_images, pick(images)[:, [2, 5]].T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("canvas", ["fft", "pixel", "aligned", "maco"])
def test_every_canvas_draws_and_repeats_itself(net, digits, canvas):
    net.eval()
    options = {"canvas": canvas, "layers": ["block2"], "channels": 2, "steps": 3, "size": 24}
    first, second = (FeatureVisualizationPlugin(name="f", **options).look(net, digits.probe) for _ in range(2))
    assert first.drawn.shape == (2, 1, 24, 24) and identical(vars(first), vars(second))


def test_settings_that_do_not_fit_are_named(net, digits):
    net.eval()
    with pytest.raises(UserError, match="channels: 99 is not in block2, which has 0 to 15"):
        FeatureVisualizationPlugin(name="f", layers=["block2"], channels=[99]).look(net, digits.probe)
    with pytest.raises(UserError, match="no plugin.f.canvas 'ftt'; did you mean 'fft'"):
        FeatureVisualizationPlugin(name="f", canvas="ftt")
    with pytest.raises(UserError, match="no layer 'blok2'"):
        FeatureVisualizationPlugin(name="f", layers=["blok2"]).check(net)


def test_activation_grids_are_those_of_the_chosen_images(net, digits):
    net.eval()
    plugin = FeatureVisualizationPlugin(name="f", layers=["block2", "block3"], channels=1, steps=2, activation_grid=2)
    result = plugin.look(net, digits.probe)
    assert result.gridded == (0, len(digits.probe) - 1)
    drawn = activation_grid(net, digits.probe.images[list(result.gridded)], "block3", steps=2)
    torch.testing.assert_close(result.grids, mosaic(drawn.cells, drawn.norms), atol=1e-3, rtol=0)
    assert set(result.pictures()) == set(result.captions()) == {"channels", "activation_grid"}
    with pytest.raises(UserError, match="activation_grid=-1: must be at least 0"):
        FeatureVisualizationPlugin(name="f", activation_grid=-1)
