"""Saliency against the closed form and captum."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from interp.attribution import saliency
from interp.attribution.saliency import spearman


def test_linear_network_has_its_weights_as_gradient_and_no_delta():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    found = saliency(net, torch.rand(2, 1, 4, 4), torch.tensor([2, 0]), torch.zeros(1, 1, 1), batch_size=1)
    torch.testing.assert_close(found.gradient.flatten(1), net[1].weight[[2, 0]].detach())
    assert not found.delta.any()


def test_gradient_equals_captums(net):
    from captum.attr import Saliency

    images, targets = torch.rand(3, 1, 16, 16), torch.tensor([1, 5, 9])
    found = saliency(net.eval(), images, targets, net.mean, batch_size=2)
    expected = Saliency(net).attribute(images.clone().requires_grad_(), targets, abs=False)
    torch.testing.assert_close(found.gradient, expected)
    at_blank = Saliency(net).attribute(net.mean.expand_as(images).clone().requires_grad_(), targets, abs=False)
    torch.testing.assert_close(found.baseline, at_blank)


@pytest.mark.parametrize("decimals", [0, 5])
def test_rank_correlation_equals_scipys_with_and_without_ties(decimals):
    first, second = (torch.rand(4, 50).mul(5).round(decimals=decimals) for _ in range(2))
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(spearman(first, second), torch.tensor(expected).float(), atol=1e-6, rtol=1e-5)
    assert spearman(torch.ones(1, 5), torch.rand(1, 5)).tolist() == [0.0]
