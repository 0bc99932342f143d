"""Rendering works in any network, format and precision, and says what does not fit."""

import pytest
import torch
from torch import nn

from interp.errors import UserError
from interp.featurevis import Fft, Maco, evaluate, render, transforms
from interp.featurevis.objectives import channel, similarity, unit
from interp.network.layers import Normalized
from tests.interp.small_net import small_net

NONE, SMALL = transforms.NONE, transforms.SMALL


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Functional(nn.Module):
    """A stem whose ReLU is a function, called in one of several ways, and is dead for grey images."""

    def __init__(self, relu):
        super().__init__()
        self.stem, self.relu, self.last = nn.Conv2d(1, 4, 3), relu, nn.Conv2d(4, 1, 1, bias=False)
        nn.init.constant_(self.stem.bias, -3)
        nn.init.constant_(self.last.weight, 1)

    def forward(self, images):
        hidden = self.stem(images)
        return self.last(self.relu(hidden))


def rectify_in_place(hidden):
    hidden.relu_()
    return hidden


RELUS = {
    "module": nn.ReLU(),
    "module_in_place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(inplace=True),
    "function": torch.nn.functional.relu,
    "torch": torch.relu,
    "method": lambda hidden: hidden.relu(),
    "in_place": rectify_in_place,
    "hardtanh": lambda hidden: torch.nn.functional.hardtanh(hidden, 0.0, 6.0, True),
}


@pytest.mark.parametrize("name", RELUS)
def test_a_dead_start_gets_going_only_when_redirected(name):
    torch.manual_seed(0)
    net = Functional(RELUS[name])
    net.stem.weight.data *= 6
    options = {"steps": 24, "transforms": NONE, "learning_rate": 0.2}
    stuck = render(net, Fft.noise((2, 1, 12, 12)), channel("last", 0), redirect=0, **options)
    assert not stuck.values.any()
    assert torch.equal(stuck.images, Fft.noise((2, 1, 12, 12))())
    found = render(net, Fft.noise((2, 1, 12, 12)), channel("last", 0), **options)
    assert (found.values > 0.1).all()


def test_works_under_autocast_and_comes_close():
    exact = render(small_net(), Fft.noise((2, 3, 16, 16)), channel("5", 1), steps=8)
    with torch.autocast("cpu", torch.bfloat16):
        rough = render(small_net(), Fft.noise((2, 3, 16, 16)), channel("5", 1), steps=8)
        assert torch.is_autocast_enabled("cpu")
    assert rough.images.dtype == rough.values.dtype == torch.float32
    torch.testing.assert_close(rough.values, exact.values, rtol=0.05, atol=0.02)
    half = render(small_net().bfloat16(), Fft.noise((2, 3, 16, 16)), channel("5", 1), steps=8)
    torch.testing.assert_close(half.values, exact.values, rtol=0.05, atol=0.02)


def test_works_in_wrappers_in_other_formats_and_without_gradients():
    exact = render(small_net(), Fft.noise((2, 3, 16, 16)), channel("5", 1), steps=4).images
    compiled, last = torch.compile(small_net()), small_net().to(memory_format=torch.channels_last)
    for net in (compiled, last, Normalized(nn.DataParallel(small_net()), [0.0], [1.0])):
        found = render(net, Fft.noise((2, 3, 16, 16)), channel("5", 1), steps=4).images
        torch.testing.assert_close(found, exact, atol=1e-3, rtol=0)
    with torch.no_grad():
        assert torch.equal(render(small_net(), Fft.noise((2, 3, 16, 16)), channel("5", 1), steps=4).images, exact)


@pytest.mark.parametrize("moves", [NONE, SMALL, transforms.LUCID])
def test_one_channel_sizes_that_are_not_square_and_maco(moves):
    net = small_net(channels=1)
    found = render(net, Fft.noise((2, 1, 20, 33)), channel("5", 1), steps=8, transforms=moves)
    assert found.images.shape == (2, 1, 20, 33)
    assert (found.values > found.start).all()
    canvas = Maco.like(torch.rand(4, 1, 28, 28), (2, 1, 20, 33))
    assert (render(net, canvas, channel("5", 1), steps=30, transforms=moves).values > found.start).all()


def test_folding_changes_nothing_but_the_time():
    net = small_net()
    net[1].running_mean.normal_(), net[1].running_var.uniform_(0.5, 2)
    options = {"steps": 6, "transforms": SMALL}
    for layer in "0", "1", "5":
        with_, without = (
            render(net, Fft.noise((2, 3, 16, 16)), channel(layer, 1), fold=fold, **options) for fold in (True, False)
        )
        torch.testing.assert_close(with_.images, without.images, atol=1e-3, rtol=0)


class Forked(nn.Module):
    """The convolution's output goes past the batch norm as well, so that folding would be wrong."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.norm.running_var.fill_(9)
        self.sum = nn.Identity()

    def forward(self, images):
        hidden = self.conv(images)
        return self.sum(self.norm(hidden) + hidden)


def test_what_may_not_be_folded_is_not():
    net, images = Forked().eval(), torch.rand(2, 3, 8, 8)
    found = render(net, Fft.of(images), channel("sum", 0), steps=0)
    torch.testing.assert_close(found.values, net(found.images)[:, 0].mean(dim=(1, 2)))


class Tokens(nn.Module):
    """Patches of 4 pixels and a class token, as (B, T, C)."""

    def __init__(self):
        super().__init__()
        self.embed, self.block, self.last = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, images):
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1))
        return self.last(tokens.repeat(1, 2, 1)[:, :22]).mean(dim=1)


def test_tokens_are_put_back_on_their_grid():
    net, images = Tokens(), torch.rand(2, 3, 16, 16)
    by_hand = net.block(net.embed(images).flatten(2).transpose(1, 2)).unflatten(1, (4, 4))
    found = evaluate(net, images, unit("block", 1, position=(3, 1)))
    torch.testing.assert_close(found, by_hand[:, 3, 1, 1].detach())


BAD = {
    "layer": (channel("7x", 0), {}, "no layer '7x' in Sequential; did you mean '7'"),
    "count": ([(channel("5", 0), 1)], {}, "the objectives are for 1 images, the canvas has 2"),
    "channel": (channel("5", 9), {}, "channels 9 are not all in 0 to 7"),
    "reference": (similarity("5"), {}, "give `reference`"),
    "size": (similarity("5"), {"reference": torch.rand(2, 3, 8, 8)}, "as many images of the same size"),
    "groups": (channel("5", 0), {"groups": torch.zeros(3, dtype=torch.int64)}, "3 groups are given for 2 images"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_says_what_would(name):
    objective, options, message = BAD[name]
    with pytest.raises(UserError, match=message):
        render(small_net(), Fft.noise((2, 3, 16, 16)), objective, steps=1, **options)


def test_layers_without_positions_nan_and_constants():
    canvas = Fft.noise((2, 3, 16, 16))
    with pytest.raises(UserError, match=r"layer 'last' puts out \(2, 22, 2\).*choose a convolutional layer"):
        render(Tokens(), canvas, channel("last", 0), steps=1)
    net = small_net()
    net[0].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"the objective 'channel 0 of 2' is NaN or infinite at the start for images"):
        render(net, canvas, channel("2", 0), steps=1)
    blind = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Module())
    blind[1].forward = lambda images: torch.ones_like(images)
    with pytest.raises(UserError, match="'channel 0 of 1' does not depend on the image"):
        render(blind, canvas, channel("1", 0), steps=1)


def test_a_layer_that_no_forward_pass_reaches_is_named():
    net = small_net()
    net.spare = nn.Conv2d(3, 4, 3)
    net.forward = lambda images: nn.Sequential(*list(net)[:-1])(images)
    with pytest.raises(UserError, match="layers that do not run in a forward pass: spare"):
        render(net, Fft.noise((2, 3, 16, 16)), channel("spare", 0), steps=1)
