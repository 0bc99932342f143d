"""Linear CKA against its definition, of few and of many images, and what it must not depend on."""

import numpy as np
import pytest
import torch
from torch import nn

from interp import similarity as module
from interp.network.layers import Layer
from interp.similarity import centred_gram, cka, coarse, linear_cka, of_few, of_many, packed, similarity


def expected(x: np.ndarray, y: np.ndarray) -> float:
    """Of features (N, p) and (N, q), as METHODS.md writes it."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


@pytest.fixture
def features():
    torch.manual_seed(0)
    shared = torch.randn(40, 6)
    return shared @ torch.randn(6, 10) + 3, shared @ torch.randn(6, 25) + torch.randn(40, 25)


def of_grams(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(linear_cka(centred_gram(first)[None], centred_gram(second)[None]))


def test_equals_the_definition(features):
    first, second = features
    assert of_grams(first, second) == pytest.approx(expected(first.numpy(), second.numpy()), abs=1e-6)


def test_rotation_scale_and_shift_change_nothing_and_unrelated_features_are_unlike(features):
    first, _ = features
    rotation = torch.linalg.qr(torch.randn(10, 10)).Q
    assert of_grams(first, 5 * first @ rotation - 2) == pytest.approx(1, abs=1e-5)
    many = torch.randn(2, 2000, 3)
    assert of_grams(*many) < 0.01


@pytest.mark.parametrize("scale", [1e30, 1.0, 1e-6, 1e-12, 1e-30])
def test_how_large_activations_are_changes_nothing(features, scale):
    first, second = features
    assert of_grams(first * scale, first * scale) == pytest.approx(1, abs=1e-12)
    assert of_grams(first * scale, second) == pytest.approx(of_grams(first, second), rel=1e-6)
    small = of_many([first * scale, second])
    assert float(small.alike[0, 1]) == pytest.approx(of_grams(first, second), rel=1e-6)


def test_constant_features_are_like_nothing(features):
    assert of_grams(torch.ones(40, 7), features[0]) == 0
    rounded = 0.1 + 1e-8 * torch.randn(40, 7)  # float32 knows 8e-9 there
    for seen in (of_few([rounded, features[0]]), of_many([rounded, features[0]])):
        torch.testing.assert_close(seen.alike, torch.tensor([[0.0, 0.0], [0.0, 1.0]]).double())
    beside = torch.cat([torch.full((40, 3), 1e4), features[0] * 1e-3], dim=1)  # some that are large and constant
    assert of_grams(beside, features[0]) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("width", [30, 200])
@pytest.mark.parametrize("count", [64, 65, 130])
def test_few_and_many_images_give_the_same_number(monkeypatch, count, width):
    monkeypatch.setattr(module, "COMPONENTS", 32)
    monkeypatch.setattr(module, "BLOCK", 1000)
    torch.manual_seed(0)
    spread = torch.randn(count, 20) @ torch.randn(20, width), torch.randn(count, 12)
    layers = [part.relu() for part in spread]
    whole, later = expected(*(part.double().numpy() for part in layers)), layers[0] + 0.1 * torch.randn(count, width)
    drift = expected(layers[0].double().numpy(), later.double().numpy())
    few, many = of_few(layers), of_many(layers)
    for seen in (few, many):
        assert float(seen.alike[0, 1]) == pytest.approx(whole, rel=1e-6)
    assert len(few.grams) == 2 and few.error == 0
    assert cka(few.grams[0], of_few([later]).grams[0]) == pytest.approx(drift, rel=1e-6)
    after = of_many([later, layers[1]])
    across = cka(many.components[:, : many.widths[0]], after.components[:, : after.widths[0]])
    assert across == pytest.approx(drift, rel=1e-6 if width == 30 else 0.02)
    assert (many.error == 0) == (width == 30) and many.widths == (min(32, width), 12)
    assert cka(few.grams[0], after.components[:, : after.widths[0]]) == pytest.approx(across, rel=0.02)


def test_what_is_kept_grows_with_the_images_not_with_their_square(monkeypatch):
    monkeypatch.setattr(module, "COMPONENTS", 16)
    sizes = []
    for count in (100, 200, 400):
        seen = of_many([torch.randn(count, 50), torch.randn(count, 9)])
        sizes.append(seen.grams.numel() + seen.components.numel())
    assert sizes == [2500, 5000, 10000]
    largest = of_few([torch.randn(32, 50)]).grams
    assert largest.numel() <= 32 * 16 + 16  # where the Gram matrices end


def test_packed_matrices_have_the_inner_products_of_the_whole_ones():
    first, second = (part + part.T for part in torch.randn(2, 9, 9, dtype=torch.float64))
    assert float(packed(first) @ packed(second)) == pytest.approx(float((first * second).sum()), rel=1e-12)


def test_batches_give_what_all_images_at_once_do():
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval(), torch.rand(9, 1, 24, 24)
    layers = [Layer.named(net, images, name) for name in ("0", "2")]
    found = similarity(net, images.split(4), layers)
    whole = centred_gram(coarse(net[0](images)).detach())
    assert found.count == 9 and torch.allclose(found.grams[0], packed(whole).float(), atol=1e-7)
    assert coarse(net(images)).shape == (9, 3, 8, 8)


def test_layers_that_are_not_finite_are_left_out_and_all_of_them_are_refused():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3)).eval()
    images = torch.rand(9, 1, 24, 24)
    layers = [Layer.named(net, images, name) for name in ("0", "1")]
    torch.nn.init.constant_(net[1].bias, float("nan"))
    assert similarity(net, [images], layers).broken == ("1",)
    with pytest.raises(ValueError, match="the activations of 1 are NaN or infinite"):
        similarity(net, [images], layers[1:])
