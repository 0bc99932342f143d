"""Caricatures in a small network trained on digits; attributions against the chain rule by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, max_pool2d, normalize

from interp.attribution.tail import SmoothMaxPool
from interp.errors import UserError
from interp.featurevis import Aligned, Fft, attribution, attribution_caricatures, caricatures
from interp.network.layers import capture


def digits_net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )


@pytest.fixture(scope="module")
def digits_at_16():
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 16
    return interpolate(images, (16, 16), mode="bilinear"), torch.from_numpy(data.target).long()


@pytest.fixture(scope="module")
def trained(digits_at_16):
    images, labels = digits_at_16
    net = digits_net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for batch in torch.randperm(1500, generator=torch.Generator().manual_seed(0)).repeat(4).split(50):
        optimizer.zero_grad()
        cross_entropy(net(images[batch]), labels[batch]).backward()
        optimizer.step()
    net.eval()
    assert (net(images[1500:]).argmax(1) == labels[1500:]).float().mean() > 0.9
    return net


@pytest.fixture(scope="module")
def probe(digits_at_16):
    images, labels = digits_at_16
    return torch.stack([images[labels == digit][0] for digit in range(10)])


def cosines(net, images, layer):
    """(B, B) between the activations of each two images."""
    rows = normalize(capture(net, images, [layer])[layer].flatten(1), dim=1)
    return rows @ rows.T


def test_a_caricature_is_nearer_to_its_image_than_other_classes_but_not_with_random_weights(trained, probe):
    layers = ["5", "7"]
    found = caricatures(trained, probe, layers, power=2, steps=64)
    assert found.pictures.shape == (10, 2, 1, 16, 16)
    untrained = digits_net().eval()
    control = caricatures(untrained, probe, layers, power=2, steps=64)
    for index, layer in enumerate(layers):
        others = (cosines(trained, probe, layer) - 2 * torch.eye(10)).amax(dim=1)
        assert (found.cosine[:, index] > others).all()
        assert (found.cosine[:, index] > found.start_cosine[:, index]).all()
        in_trained = capture(trained, control.pictures[:, index], [layer])[layer].flatten(1)
        target = capture(trained, probe, [layer])[layer].flatten(1)
        of_control = torch.cosine_similarity(in_trained, target)
        assert (of_control < found.cosine[:, index]).all()
        margin_in_control = control.cosine[:, index] - (cosines(untrained, probe, layer) - 2 * torch.eye(10)).amax(
            dim=1
        )
        assert margin_in_control.mean() < (found.cosine[:, index] - others).mean() / 4


def test_the_cosine_is_that_of_the_activations(trained, probe):
    found = caricatures(trained, probe[:2], ["5"], steps=3)
    pair = cosines(trained, torch.cat([probe[:2], found.pictures[:, 0]]), "5")
    torch.testing.assert_close(found.cosine[:, 0], pair[[0, 1], [2, 3]], atol=1e-4, rtol=0)


def test_layers_begin_alike_and_go_on_where_they_ended(trained, probe):
    start = caricatures(trained, probe[:3], ["2", "5"], steps=0)
    torch.testing.assert_close(start.pictures[:, 0], start.pictures[:, 1])
    found = caricatures(trained, probe[:3], ["2", "5"], steps=4)
    alone = caricatures(trained, probe[:3], ["5"], steps=4)
    torch.testing.assert_close(found.pictures[:, 1], alone.pictures[:, 0], atol=1e-3, rtol=0)
    on = caricatures(trained, probe[:3], ["2", "5"], steps=0, canvas=found.rendered.canvas)
    torch.testing.assert_close(on.pictures, found.pictures)
    of_image = caricatures(trained, probe[:3], ["2", "5"], steps=0, canvas=Fft.of(probe[:3]))
    assert (of_image.cosine > 0.99).all()


@pytest.mark.parametrize("count", [1, 2])
def test_what_an_aligned_canvas_shares_is_shared_by_all_layers(trained, probe, count):
    canvas = Aligned.noise(probe[:count].shape)
    found = caricatures(trained, probe[:count], ["2", "5"], canvas=canvas, steps=1).rendered.canvas
    assert [len(p) for p in found.parameters] == [2 * count, 1, 1, 1, 1]
    assert [len(p) for p in Fft.noise(probe[:count].shape).repeated(3).parameters] == [3 * count]


def test_a_class_is_pushed_by_the_caricature_towards_it(trained, probe):
    image = probe[3:4].expand(3, -1, -1, -1)
    classes = torch.tensor([3, 5, 8])
    found = attribution_caricatures(trained, image, ["5", "7"], classes, steps=48)
    for index in range(2):
        logits = trained(found.pictures[:, index])
        assert torch.equal(logits[:, classes].argmax(dim=0), torch.arange(3))


def test_attribution_is_activation_times_gradient_over_its_largest(trained, probe):
    activations = capture(trained, probe, ["5"])["5"].requires_grad_()
    classes = torch.arange(10)
    logits = trained[6:](activations)
    by_hand = activations * torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), activations)[0]
    by_hand = by_hand / by_hand.amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(attribution(trained, probe, "5", classes), by_hand.detach())
    later = trained[6:8](activations)
    to_layer = activations * torch.autograd.grad(later.square().sum(), activations)[0]
    to_layer = to_layer / to_layer.amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(attribution(trained, probe, "5", "7"), to_layer.detach())
    squares = activations.detach().square()
    torch.testing.assert_close(attribution(trained, probe, "5"), squares / squares.amax(dim=(1, 2, 3), keepdim=True))


@pytest.mark.parametrize("size", [1e-18, 1.0, 1e10])
def test_attribution_of_any_size_and_where_nothing_speaks_for_the_class(size):
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)), torch.rand(3, 1, 8, 8)
    net[0].weight.data *= size
    net[0].bias.data.zero_()
    net[3].weight.data[0], net[3].weight.data[1] = net[3].weight.data[0].abs(), -net[3].weight.data[0].abs()
    for_it, against = (attribution(net, images, "1", torch.full((3,), j)) for j in (0, 1))
    torch.testing.assert_close(for_it.amax(dim=(1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(against, -for_it)


def test_iterated_attribution_is_the_chain_by_hand(trained, probe):
    late = attribution(trained, probe, "7", torch.arange(10))
    early = capture(trained, probe, ["5"])["5"].requires_grad_()
    u = early * torch.autograd.grad((trained[6:8](early) * late).sum(), early)[0]
    u = (u / u.amax(dim=(1, 2, 3), keepdim=True)).detach()
    torch.testing.assert_close(attribution(trained, probe, ["5", "7"], torch.arange(10)), u)
    found = attribution_caricatures(trained, probe, ["5", "7"], torch.arange(10), iterated=True, steps=8)
    assert (found.rendered.values > found.rendered.start).all()


def test_max_pooling_has_the_smooth_gradient_and_its_own_value():
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    weights = torch.rand(2, 3, 4, 4)
    with SmoothMaxPool():
        pooled = nn.MaxPool2d(3, 2, 1)(images)
    torch.testing.assert_close(pooled, max_pool2d(images, 3, 2, 1))
    smooth = avg_pool2d(images**2, 3, 2, 1) / (0.01 + avg_pool2d(images.abs(), 3, 2, 1))
    expected = torch.autograd.grad((smooth * weights).sum(), images)[0]
    torch.testing.assert_close(torch.autograd.grad((pooled * weights).sum(), images)[0], expected)


def test_attribution_leaves_nothing_behind_and_wants_layers_in_order(trained, probe):
    with pytest.raises(UserError, match="'7' does not reach '2': name layers from early to late"):
        attribution(trained, probe, "7", "2")
    assert not any(module._forward_hooks for module in trained.modules())
    assert all(parameter.requires_grad for parameter in trained.parameters())
    in_place = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2 * 14 * 14, 3))
    assert attribution(in_place, probe, "0", torch.zeros(10, dtype=torch.int64)).shape == (10, 2, 14, 14)
