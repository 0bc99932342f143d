"""Rendering finds planted patterns, is deterministic and leaves the network as it was."""

import pytest
import torch
from torch import nn

from interp.featurevis import Fft, Pixel, attribution_caricatures, evaluate, kept, objectives, render, transforms
from interp.featurevis.objectives import caricature, channel, similarity, unit
from interp.network.layers import Normalized
from interp.network.quiet import quiet
from tests.conftest import identical
from tests.interp.small_net import everything, small_net

NONE, SMALL = transforms.NONE, transforms.SMALL


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def correlation(first, second):
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


def red_edge():
    """A filter (3, 9, 9) for a vertical edge in red alone."""
    pattern = torch.zeros(3, 9, 9)
    pattern[0, :, :4], pattern[0, :, 5:] = -1, 1
    return pattern


@pytest.mark.parametrize(("canvas", "moves"), [(Pixel, NONE), (Fft, NONE), (Fft, SMALL)])
def test_a_unit_gets_back_its_filter_and_its_colour(canvas, moves):
    filters = torch.stack([torch.randn(3, 9, 9), red_edge()])
    net = nn.Sequential(nn.Conv2d(3, 2, 9, bias=False), nn.ReLU())
    net[0].weight.data = filters
    found = render(
        net,
        canvas.noise((1, 3, 21, 21), colour=torch.eye(3)),
        unit("1", 1),
        steps=32,
        transforms=moves,
        learning_rate=0.2,
    )
    patch = found.images[0, :, 6:15, 6:15]
    assert correlation(patch[0], red_edge()[0]) > 0.9
    assert patch[1:].std() < 0.2 * patch[0].std()


def test_a_channel_draws_its_texture_everywhere():
    wave = torch.sin(torch.arange(16) * torch.pi / 4).expand(1, 1, 16, 16)  # two periods of 8 pixels
    net = nn.Sequential(nn.Conv2d(1, 1, 16, bias=False), nn.ReLU())
    net[0].weight.data = wave / 16
    image = render(net, Fft.noise((1, 1, 48, 48)), channel("1", 0), steps=48, transforms=NONE).images
    power = torch.fft.rfft2(image).abs()[0, 0]
    power[:3, :3] = power[-2:, :3] = 0  # slow shades drift, because Adam follows the faintest gradient
    assert divmod(int(power.argmax()), 25) == (0, 6)


@pytest.mark.parametrize(("objective", "least"), [(similarity("0"), 0.995), (caricature("0", cosine_power=4), 0.95)])
def test_caricature_of_a_linear_layer_is_proportional_to_the_image(objective, least):
    net = Normalized(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False)), [0.5], [1.0])
    for seed in range(3):
        image = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
        canvas = Pixel.noise((1, 1, 12, 12), seed=seed)
        found = render(net, canvas, objective, reference=image, steps=100, transforms=NONE, saturation=0)
        assert correlation(found.images, image) > least
        assert found.values > found.start


OBJECTIVES = {
    "unit": unit("5", 1),
    "channels": channel("5", [0, 1, 2]),
    "logit": channel("9", [0, 1, 3]),
    "direction": objectives.direction("5", torch.eye(8)[:3] + 1, power=1),
    "cosine": objectives.cosine("5", torch.eye(8)[2:5]),
    "caricature": caricature("5", power=1),
    "weighted": objectives.weighted("5", torch.rand(3, 8, 8, 8)),
    "sum": channel("5", 1) + 0.5 * unit("5", 2),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_rises_for_every_image(name):
    reference = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    canvas = Fft.noise((3, 3, 16, 16))
    found = render(small_net(), canvas, OBJECTIVES[name], steps=12, transforms=NONE, reference=reference)
    assert (found.values > found.start).all(), (found.start, found.values)
    torch.testing.assert_close(found.values, evaluate(small_net(), found.images, OBJECTIVES[name], reference=reference))


def test_nothing_is_left_behind_also_after_an_error():
    net = small_net().train()
    net[0].weight.requires_grad_(False)
    reference = torch.rand(2, 3, 16, 16)
    before = everything(net)
    canvas = Fft.noise((2, 3, 16, 16))
    start = canvas.parameters[0].clone()
    render(net, canvas, channel("4", 1) + channel("2", 0), steps=3, reference=reference)
    with pytest.raises(ZeroDivisionError):
        render(net, canvas, channel("4", 1), steps=3, progress=lambda step: 1 // 0)
    assert identical(before[0], everything(net)[0])
    assert before[1:-1] == everything(net)[1:-1]
    assert torch.equal(before[-1], torch.random.get_rng_state())
    assert torch.equal(canvas.parameters[0], start)


def test_quiet_has_nothing_to_undo():
    net, images, found = small_net().train(), torch.rand(2, 3, 16, 16), []
    with quiet(net, report=found.extend):
        render(net, Fft.noise((2, 3, 16, 16)), channel("4", 1), steps=3)
        attribution_caricatures(net, images, ["2", "5"], torch.tensor([0, 3]), iterated=True, steps=2)
    assert found == []


def test_one_seed_gives_one_picture_bit_by_bit():
    first, again, other = (
        render(small_net(), Fft.noise((2, 3, 16, 16), seed=s), channel("5", 1), steps=5, seed=s) for s in (1, 1, 2)
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.history, again.history)
    assert not torch.equal(first.images, other.images)


def test_an_image_is_rendered_in_company_as_it_is_alone():
    net, options = small_net(), {"steps": 8, "transforms": SMALL}
    together = render(net, Fft.noise((4, 3, 16, 16)), [(channel("5", [1, 2]), 2), (channel("2", 3), 2)], **options)
    alone = render(net, Fft.noise((1, 3, 16, 16)), channel("5", 1), **options)
    torch.testing.assert_close(together.images[:1], alone.images, atol=1e-3, rtol=0)
    late = Fft.noise((4, 3, 16, 16))
    late.parameters[0] = late.parameters[0][3:]
    alone = render(net, late, channel("2", 3), steps=8, transforms=NONE)
    still = render(
        net, Fft.noise((4, 3, 16, 16)), [(channel("5", 1), 3), (channel("2", 3), 1)], steps=8, transforms=NONE
    )
    torch.testing.assert_close(still.images[3:], alone.images, atol=1e-3, rtol=0)


def test_film_history_and_going_on():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False))
    found = render(net, Fft.noise((2, 1, 9, 12)), unit("0", 0), steps=6, thresholds=(2, 6), transforms=NONE)
    assert found.film.shape == (2, 2, 1, 9, 12)
    assert torch.equal(found.film[1], found.images)
    assert found.history.shape == (6, 2)
    on = render(net, found.canvas, unit("0", 0), steps=2, transforms=NONE)
    torch.testing.assert_close(on.start, found.values)


def test_images_that_gain_no_more_stay_as_they_are_while_others_go_on():
    """Of two channels of one ReLU6 the first soon is at its ceiling."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU6())
    net[0].weight.data = torch.stack([torch.full((1, 3, 3), 1.2), torch.full((1, 3, 3), 0.02)])
    options = {"steps": 48, "transforms": NONE, "thresholds": range(8, 49, 8)}
    both = render(net, Fft.noise((2, 1, 12, 12)), channel("1", [0, 1]), **options)
    first, second = both.steps.tolist()
    assert first < second == len(both.history) == 48
    assert torch.equal(both.film[first // 8 - 1, 0], both.images[0])
    assert not torch.equal(both.film[first // 8 - 1, 1], both.images[1])
    never = render(net, Fft.noise((2, 1, 12, 12)), channel("1", [0, 1]), saturation=0, **options)
    assert never.steps.tolist() == [48, 48] and torch.equal(never.images[1], both.images[1])
    alone = render(net, Fft.noise((1, 1, 12, 12)), channel("1", 0), **options)  # nothing is left to do
    assert len(alone.history) == first and torch.equal(alone.film[-1], alone.images) and len(alone.film) == 6


def test_what_is_kept_when_blurred_tells_large_shapes_from_fine_ones():
    coarse, fine = torch.ones(1, 8, 8), (-1.0) ** torch.arange(8).expand(1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 2, 8, bias=False))
    net[0].weight.data = torch.stack([coarse, fine])
    images = torch.stack([torch.ones(1, 32, 32), ((-1.0) ** torch.arange(32) / 2 + 0.5).expand(1, 32, 32)])
    left = kept(net, images, channel("0", [0, 1]), torch.zeros(2))
    assert left[0] == pytest.approx(1.0, abs=1e-4) and abs(float(left[1])) < 0.05
    assert kept(net, images, channel("0", [0, 1]), torch.full((2,), 1e9)).tolist() == [0, 0]


def test_influence_lies_where_a_unit_looks():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False))
    found = render(net, Fft.noise((2, 1, 9, 12)), unit("0", 0), steps=6, transforms=NONE)
    seen = found.influence[0] > 0
    assert seen[3:6, 5:8].all() and seen.sum() == 9
