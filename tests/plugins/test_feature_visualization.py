"""Pictures of channels: a planted filter comes back, and the numbers beside the pictures are true."""

from collections import OrderedDict
from dataclasses import replace

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": []}, "plugin.f.channels is empty: name channels, or give a number such as 6"),
        ({"channels": 0}, "plugin.f.channels=0: must be at least 1"),
        ({"detail": 3}, "plugin.f.detail=3: must be at most 1"),
        ({"l2": float("inf")}, "plugin.f.l2=inf: must be finite"),
        ({"distance": 5.0}, "plugin.f.distance=5.0 is to a first image: it takes begin=image"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_it_looks(options, message):
    with pytest.raises(UserError, match=message):
        FeatureVisualizationPlugin(name="f", **options)


def perceptron(bias: float = 0.0) -> tuple[nn.Module, Probe]:
    """Of images of 12 x 12 pixels, its logits moved by `bias`."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 7), nn.ReLU(), nn.Linear(7, 2)).eval()
    net[3].bias.data += bias
    return net, Probe(torch.rand(4, 1, 12, 12), torch.zeros(4).long(), ("a", "b"), torch.arange(4))


@pytest.mark.parametrize("options", [{"feed": 14}, {"size": 16}])
def test_sizes_that_the_network_does_not_take_are_named(options):
    with pytest.raises(UserError, match=r"plugin.f: the network does not take the 1\d x 1\d pixels.* leave all null$"):
        FeatureVisualizationPlugin(name="f", layers=["3"], **options).look(*perceptron())


def test_pictures_of_one_channel_without_a_grid_take_no_diversity():
    options = {"layers": ["3"], "channels": [0], "pictures": 2, "steps": 2}
    with pytest.raises(UserError, match="pictures=2: .* take pictures=1 or diversity=0"):
        FeatureVisualizationPlugin(name="f", **options).look(*perceptron())
    assert len(FeatureVisualizationPlugin(name="f", **options, diversity=0).look(*perceptron()).drawn) == 2


def test_where_no_image_reaches_zero_there_is_no_ratio():
    result = FeatureVisualizationPlugin(name="f", layers=["3"], steps=4).look(*perceptron(bias=-50.0))
    assert "gain_over_images" not in result.scalars()
    assert "so there is no ratio: compare the numbers" in result.captions()["channels"]


def test_pictures_that_gained_nothing_are_said():
    net, probe = perceptron()
    net[3].weight.data[0] = 0
    result = FeatureVisualizationPlugin(name="f", layers=["3"], channels=[0, 1], steps=4).look(net, probe)
    said = "1 of 2 excite their channel no more than their start did: they show nothing of it."
    assert said in result.captions()["channels"]


def test_of_the_gain_all_is_kept_at_most_and_nothing_at_least(net, digits):
    net.eval()
    result = FeatureVisualizationPlugin(name="f", layers=["block2"], channels=2, steps=2).look(net, digits.probe)
    result = replace(result, kept=torch.tensor([4.85, -2.37]))
    assert result.scalars()["kept"] == 0.5 and "keeps 50% of its gain" in result.captions()["channels"]


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


def test_classes_are_drawn_by_name(trained):
    net, probe = trained
    plugin = FeatureVisualizationPlugin(name="f", layers=["head"], channels=["3", 7], steps=24)
    result = plugin.look(net, probe)
    assert result.channels.tolist() == [3, 7] and result.class_names == ("3", "7")
    with torch.no_grad():
        logits = net(result.drawn)
    assert logits.argmax(dim=1).tolist() == [3, 7]
    torch.testing.assert_close(result.values, logits[[0, 1], [3, 7]], rtol=0.05, atol=0.05)  # drawn is in 255ths
    with pytest.raises(UserError, match=r"channels: ten is not in head, which has 0 to 9 or a class \(0, 1, 2"):
        FeatureVisualizationPlugin(name="f", layers=["head"], channels=["ten"]).look(net, probe)
    with pytest.raises(UserError, match="channels: 3 is not in block1, which has 0 to 1$"):
        FeatureVisualizationPlugin(name="f", layers=["block1"], channels=["3"]).look(two_channels(), probe)


def two_channels() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10))
    return nn.Sequential(OrderedDict(block1=net[0], rest=net[1:])).eval()


def test_several_pictures_of_one_channel_differ_in_style():
    """A channel that fires for either of two stripes: one picture a direction, where they must differ."""
    layer = nn.Conv2d(1, 2, 8, bias=False)
    stripes = torch.where(torch.arange(8) % 8 < 4, 1.0, -1.0).expand(8, 8) / 64
    layer.weight.data = torch.stack([stripes, stripes.T])[:, None]
    mixed = nn.Conv2d(2, 2, 1, bias=False)  # the sum of both, and their difference
    mixed.weight.data = torch.tensor([[1.0, 1.0], [1.0, -1.0]])[:, :, None, None]
    net = nn.Sequential(layer, nn.ReLU(), mixed, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    probe = Probe(images, torch.zeros(4).long(), ("a", "b"), torch.arange(4))

    def alike(diversity: float) -> float:
        options = {"layers": ["2"], "channels": [0], "pictures": 2, "diversity": diversity}
        result = FeatureVisualizationPlugin(name="f", **options).look(net, probe)
        assert result.channels.tolist() == [0, 0] and not torch.equal(*result.drawn)
        with torch.no_grad():
            share = net[:2](result.drawn).mean(dim=(2, 3))  # of either stripe
        first, second = share / share.norm(dim=1, keepdim=True)
        return float(first @ second)

    assert alike(0.0) > 0.9 and alike(1.0) < 0.2


def test_pictures_begin_with_an_image_and_stay_near_it(net, digits):
    net.eval()
    options = {"layers": ["block2"], "channels": [1, 4], "begin": "image", "steps": 12}
    far, near = (
        FeatureVisualizationPlugin(name="f", **options, distance=d).look(net, digits.probe) for d in (0.0, 50.0)
    )
    nearest = far.images[far.of_images.argmax(dim=1)]
    torch.testing.assert_close(far.start, far.of_images.amax(dim=1), rtol=0.05, atol=0.02)
    assert (far.values > far.start).all()
    away = [(result.drawn - nearest).square().mean() for result in (far, near)]
    assert away[1] < away[0]
    assert not len(far.kept) and "Blurred" not in far.captions()["channels"]  # the image is sharp itself
    with pytest.raises(UserError, match=r"plugin.f.canvas=maco cannot begin with an image.* or begin=noise$"):
        FeatureVisualizationPlugin(name="f", **options, canvas="maco")


def test_penalties_make_pictures_smoother_and_greyer_and_values_stay_those_of_the_channel(net, digits):
    net.eval()
    options = {"layers": ["block2"], "channels": [1, 4], "steps": 16}
    plain = FeatureVisualizationPlugin(name="f", **options).look(net, digits.probe)
    for name, size in (
        ("total_variation", lambda x: x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()),
        ("l1", lambda x: (x - 0.5).abs().mean()),
        ("l2", lambda x: (x - 0.5).square().mean()),
    ):
        result = FeatureVisualizationPlugin(name="f", **options, **{name: 20.0}).look(net, digits.probe)
        assert size(result.drawn) < size(plain.drawn)
        with torch.no_grad():
            activations = net.body[:2]((result.drawn - net.mean) / net.std).mean(dim=(2, 3))
        torch.testing.assert_close(result.values, activations[[0, 1], [1, 4]], rtol=0.02, atol=0.02)


def test_transparency_shows_where_pixels_mattered():
    net, probe, _ = stripes()
    options = {"layers": ["1"], "channels": [1], "objective": "unit", "steps": 8}
    seen = FeatureVisualizationPlugin(name="f", **options, transparency=True).look(net, probe)
    where = torch.zeros(32, 32, dtype=torch.bool)
    where[8:24, 8:24] = True  # what the centre unit can see, however the picture was moved
    assert seen.influence.shape == (1, 32, 32) and float(seen.influence[0][~where].max()) < 0.1
    assert not len(FeatureVisualizationPlugin(name="f", **options).look(net, probe).influence)
    assert len(FeatureVisualizationPlugin(name="f", **options, canvas="maco").look(net, probe).influence) == 1


def test_what_gains_no_more_is_left_as_it_is_and_said():
    """A ReLU6 that is at its ceiling after some steps; another channel goes on."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    net[0].weight.data = torch.stack([torch.full((1, 3, 3), 1.2), torch.full((1, 3, 3), 0.02)])
    probe = Probe(torch.rand(3, 1, 16, 16), torch.zeros(3).long(), ("a", "b"), torch.arange(3))
    result = FeatureVisualizationPlugin(name="f", layers=["1"], channels=[0, 1]).look(net.eval(), probe)
    assert result.steps[0] < result.steps[1] and result.values[0] == pytest.approx(6, abs=0.01)
    assert "gained nothing more and were left before the last step" in result.captions()["channels"]
