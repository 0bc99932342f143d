"""Caricatures in several networks: the trained one reaches its image, the random one draws something else."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate

from interp.errors import UserError
from interp.featurevis import Comparison, caricatures, compared
from interp.layers import capture


def small_net():
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1))
    return nn.Sequential(stem, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))


@pytest.fixture(scope="module")
def both():
    from sklearn.datasets import load_digits

    data = load_digits()
    images = interpolate(torch.from_numpy(data.images).float()[:, None] / 16, (16, 16), mode="bilinear")
    labels, net = torch.from_numpy(data.target).long(), small_net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for batch in torch.randperm(1500, generator=torch.Generator().manual_seed(0)).repeat(3).split(50):
        optimizer.zero_grad()
        cross_entropy(net(images[batch]), labels[batch]).backward()
        optimizer.step()
    torch.manual_seed(9)
    probe = torch.stack([images[labels == digit][0] for digit in (0, 3, 7)])
    return {"trained": net.eval(), "random": small_net().eval()}, probe


def test_each_column_is_the_network_s_own_caricature(both, tmp_path):
    nets, probe = both
    found = compared(nets, probe, "1", labels=("0", "3", "7"), steps=32)
    assert found.models == ("trained", "random") and found.layers == ("1", "1")
    assert found.drawn.shape == (3, 2, 1, 16, 16) and (found.cosine > found.start_cosine).all()
    alone = caricatures(nets["random"], probe, ["1"], cosine_power=1, steps=32)
    assert torch.equal(found.drawn[:, 1], alone.pictures[:, 0])
    target = capture(nets["trained"], probe, ["1"])["1"].flatten(1)
    own, other = (
        cosine_similarity(capture(nets["trained"], found.drawn[:, at], ["1"])["1"].flatten(1), target) for at in (0, 1)
    )
    torch.testing.assert_close(found.cosine[:, 0], own, atol=1e-4, rtol=0)
    assert (own > other).all()
    assert found.pictures()["compared"].dtype == torch.uint8 and "trained at 1" in found.captions()["compared"]
    found.save(tmp_path)
    assert torch.equal(Comparison.load(tmp_path).pictures()["compared"], found.pictures()["compared"])


def test_layers_may_differ_and_start_alike(both):
    nets, probe = both
    found = compared(nets, probe, {"random": "0.0", "trained": "1"}, steps=0)
    assert found.layers == ("1", "0.0") and torch.equal(found.drawn[:, 0], found.drawn[:, 1])


def test_what_does_not_fit_is_named(both):
    nets, probe = both
    with pytest.raises(UserError, match="layers are named for trained; the models are trained, random"):
        compared(nets, probe, {"trained": "1"})
    with pytest.raises(UserError, match="the models are none"):
        compared({}, probe, "1")
    with pytest.raises(UserError, match="no layer '9'"):
        compared(nets, probe, "9")
