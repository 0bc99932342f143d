"""Linear CKA against its definition, and what it must not depend on."""

import numpy as np
import pytest
import torch
from torch import nn

from interp.layers import Layer
from interp.similarity import centred_gram, coarse, grams, linear_cka


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Of features (N, p) and (N, q), as METHODS.md writes it."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


@pytest.fixture
def features():
    torch.manual_seed(0)
    shared = torch.randn(40, 6)
    return shared @ torch.randn(6, 10) + 3, shared @ torch.randn(6, 25) + torch.randn(40, 25)


def similarity(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(linear_cka(centred_gram(first)[None], centred_gram(second)[None]))


def test_equals_the_definition(features):
    first, second = features
    assert similarity(first, second) == pytest.approx(cka(first.numpy(), second.numpy()), abs=1e-6)


def test_rotation_scale_and_shift_change_nothing_and_unrelated_features_are_unlike(features):
    first, _ = features
    rotation = torch.linalg.qr(torch.randn(10, 10)).Q
    assert similarity(first, 5 * first @ rotation - 2) == pytest.approx(1, abs=1e-5)
    many = torch.randn(2, 2000, 3)
    assert similarity(*many) < 0.01


def test_constant_features_are_like_nothing(features):
    assert similarity(torch.ones(40, 7), features[0]) == 0


def test_grams_of_batches_are_those_of_all_images_at_once():
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval(), torch.rand(9, 1, 24, 24)
    layers = [Layer.named(net, images, name) for name in ("0", "2")]
    found = grams(net, images.split(4), layers)
    whole = centred_gram(coarse(net[0](images)).detach())
    assert found.shape == (2, 9, 9) and torch.allclose(found[0], whole, atol=1e-9)
    assert coarse(net(images)).shape == (9, 3, 8, 8)
