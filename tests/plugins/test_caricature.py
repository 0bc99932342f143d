"""Caricatures of a trained network look like their image to it; those of a random network do not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from interp.errors import UserError
from interp.probe import Probe
from interp.result import FRAMES
from plugins.caricature import CaricaturePlugin, CaricatureResult, plugin
from plugins.caricature.likeness import recognised


def test_caricatures_are_nearer_to_their_image_than_to_any_other_class(trained):
    result = CaricaturePlugin(name="c", control=True, images=10).look(*trained)
    assert result.layers == ("block1", "block2", "block3", "block4")
    assert result.identified.mean() > 0.9 and bool(result.identified[:, 0, :3].all())
    assert (result.cosine[:, 0] > result.start_cosine).all()
    assert result.control_cosine.mean() < result.cosine.mean() - 0.02  # random weights that keep the signal see much
    assert result.control_sound.all()
    assert result.drawn.shape == (10, 1, 4, 1, 16, 16) and result.drawn.min() >= 0 and result.drawn.max() <= 1
    assert set(result.pictures()) == set(result.captions()) == {"caricatures", "control"}


def test_targets_stand_side_by_side(trained):
    net, probe = trained
    targets = ["none", "true", "predicted", "3", "block4"]
    result = CaricaturePlugin(name="c", targets=targets, layers=["block2", "block3"], images=2, steps=8).look(
        net, probe
    )
    assert result.drawn.shape[:3] == (2, 5, 2)
    same = (result.drawn[:, 1] == result.drawn[:, 2]).flatten(1).all(dim=1)
    with torch.no_grad():
        right = net(result.images).argmax(1) == torch.tensor([0, 9])
    assert torch.equal(same, right)
    assert not torch.equal(result.drawn[:, 1], result.drawn[:, 3])


def test_an_attribution_caricature_raises_its_class(trained):
    net, probe = trained
    result = CaricaturePlugin(name="c", targets=["none", "7"], layers=["block3"], images=6).look(net, probe)
    with torch.no_grad():
        share = [net(result.drawn[:, index, 0]).softmax(dim=1)[:, 7].mean() for index in (0, 1)]
    assert share[1] > share[0]


def test_iterated_attribution_runs_from_late_to_early(trained):
    options = {"layers": ["block2", "block3", "block4"], "targets": ["true"], "images": 2, "steps": 8}
    once, iterated = (CaricaturePlugin(name="c", iterated=flag, **options).look(*trained) for flag in (False, True))
    assert torch.equal(once.drawn[:, 0, 2], iterated.drawn[:, 0, 2])  # at the last layer there is nothing between
    assert not torch.equal(once.drawn[:, 0, 0], iterated.drawn[:, 0, 0])
    assert "not sure that this is principled" in iterated.captions()["caricatures"]


def test_the_film_grows_and_keeps_its_first_frame(trained):
    net, probe = trained
    first = CaricaturePlugin(name="c", layers=["block3"], images=2, steps=2).look(net, probe)
    result = first
    for _ in range(FRAMES + 5):
        result = CaricaturePlugin(name="c", layers=["block3"], images=2, steps=2).look(net, probe).following(result)
    assert len(result.film) == len(result.looks) <= FRAMES and result.looks[0] == 0
    assert result.looks[-1] == FRAMES + 5 and list(result.looks) == sorted(set(result.looks))
    assert torch.equal(result.film[0], first.film[0]) and "film" in result.pictures()


def test_saved_and_loaded_it_is_the_same(trained, tmp_path):
    result = CaricaturePlugin(name="c", layers=["block3"], images=2, steps=2, control=True).look(*trained)
    result.save(tmp_path)
    again = CaricatureResult.load(tmp_path)
    assert torch.equal(again.drawn, result.drawn) and again.captions() == result.captions()


def test_settings_that_do_not_fit_are_named(trained):
    net, probe = trained
    with pytest.raises(UserError, match="no plugin.c.targets 'block5'; did you mean 'block"):
        CaricaturePlugin(name="c", targets=["block5"]).look(net, probe)
    with pytest.raises(UserError, match="plugin.c.steps=0"):
        CaricaturePlugin(name="c", steps=0)
    with pytest.raises(UserError, match="no layer 'blok3'.*did you mean 'block3'"):
        CaricaturePlugin(name="c", layers=["blok3"]).check(net)
    with pytest.raises(UserError, match="early to late"):
        CaricaturePlugin(name="c", layers=["block4"], targets=["block2"], steps=2).look(net, probe)


@pytest.mark.parametrize("canvas", ["fft", "pixel", "aligned", "maco"])
def test_every_canvas_draws_grey_and_coloured_images(trained, canvas):
    net, probe = trained
    drawn = CaricaturePlugin(name="c", canvas=canvas, layers=["block3"], images=2, steps=8).look(net, probe)
    assert drawn.drawn.shape == (2, 1, 1, 1, 16, 16) and (drawn.cosine[:, 0] > 0).all()
    with pytest.raises(UserError, match="no plugin.c.canvas 'ftt'; did you mean 'fft'"):
        CaricaturePlugin(name="c", canvas="ftt")


def test_colours_are_those_of_the_data_unless_lucids_are_wanted():
    images = (
        torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1, 0.1, 0.1])[:, None, None]
    )
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    probe = Probe(images, torch.arange(4), ("a", "b", "c", "d"), torch.arange(4))
    ours, lucid = (
        CaricaturePlugin(name="c", layers=["1"], colour=colour, images=2, steps=8).look(net, probe)
        for colour in ("data", "imagenet")
    )
    spread = [each.drawn.movedim(3, 0).flatten(1).std(dim=1) for each in (ours, lucid)]
    assert spread[0][0] > 4 * spread[0][1:].max() and spread[1][0] < 4 * spread[1][1:].max()


def test_images_of_unknown_class_are_told_from_each_other(trained):
    net, probe = trained
    twins = replace(probe, images=probe.images[:1].repeat(2, 1, 1, 1), labels=torch.tensor([-1, -1]))
    result = CaricaturePlugin(name="c", layers=["block3"], steps=4).look(net, twins)
    assert not result.identified.any()


def test_with_one_class_nobody_can_say_which_image_it_is(trained):
    net, probe = trained
    one = replace(probe, labels=torch.zeros_like(probe.labels))
    result = CaricaturePlugin(name="c", layers=["block3"], steps=1, images=2).look(net, one)
    assert (result.identified == -1).all() and "identified" not in result.scalars()
    assert "no image of another class to be nearer to" in result.captions()["caricatures"]
    mixed = CaricaturePlugin(name="c", layers=["block3"], steps=1, images=2).look(net, probe)
    half = replace(mixed, identified=torch.tensor([1.0, -1.0]).view(2, 1, 1))
    assert half.scalars()["identified"] == 1


def test_caricatures_that_the_network_takes_for_their_image_are_counted(trained):
    net, probe = trained
    result = CaricaturePlugin(name="c", layers=["block3", "block4"], targets=["none", "7"], images=5, steps=24).look(
        net, probe
    )
    with torch.no_grad():
        answers = net(result.images).argmax(dim=1)
        of_drawn = net(result.drawn.flatten(0, 2)).argmax(dim=1).view(5, 2, 2)
    assert torch.equal(result.recognised, (of_drawn == answers[:, None, None]).float())
    plain, seven = result.recognised[:, 0].mean(), result.recognised[:, 1, -1].mean()
    assert plain > 0.5 > seven and len(set(answers[result.start_recognised == 1].tolist())) <= 1  # grey is one class
    share, grey = result.scalars()["recognised"], result.scalars()["start_recognised"]
    assert f"gives {share:.0%} the class that it gives the image (grey: {grey:.0%})" in result.captions()["caricatures"]
    nothing = nn.Sequential(net, nn.Threshold(1e9, torch.nan)).eval()
    assert (recognised(nothing, result.drawn[:, 0], result.images, 64) == -1).all()


def test_a_picture_of_random_weights_that_does_not_move_is_no_control(trained, monkeypatch):
    _, probe = trained
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    net = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)).eval()
    options = {"layers": ["0.1", "0.3"], "images": 2, "steps": 8, "control": True}
    real = plugin.cascade

    def deadened(*args, **kwargs):
        copy = next(real(*args, **kwargs))
        copy[0][2].weight.data.zero_()
        yield copy

    monkeypatch.setattr(plugin, "cascade", deadened)
    result = CaricaturePlugin(name="c", **options).look(net, probe)
    assert result.control_sound.tolist() == [[1, 0], [1, 0]]
    assert result.scalars()["control_cosine"] == pytest.approx(float(result.control_cosine[:, 0].mean()))
    assert "No control: 2 of 4 of these pictures" in result.captions()["control"]
    void = replace(result, control_sound=torch.zeros(2, 2))
    assert "control_cosine" not in void.scalars() and void.captions()["control"].startswith("No control: all of these")
    of_before = replace(result, control_sound=torch.zeros(0), recognised=torch.zeros(0))
    assert of_before.scalars()["control_cosine"] == pytest.approx(float(result.control_cosine.mean()))
    assert "recognised" not in of_before.scalars()
