"""Attacks against their definition, and on data read image by image."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from interp.perturbation.attack import Attacked, attack
from tests.interp.concept_data import random_data


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(5, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(128, 4)).eval()


def loss(net, images, targets):
    return cross_entropy(net(images), targets, reduction="none")


def test_fgsm_is_one_step_of_the_sign_of_the_gradient(net):
    images, targets = random_data().images, torch.arange(11) % 4
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(net, leaf, targets).sum(), leaf)
    expected = (images + 8 / 255 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(attack(net, images, targets, 8, 1), expected)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_pgd_is_captums_and_misleads_more_than_fgsm_and_noise(net):
    from captum.robust import PGD

    net, images = net.double(), random_data().images.double()
    targets, radius = torch.arange(11) % 4, 16 / 255
    reference = PGD(net, lambda x, y: cross_entropy(x, y, reduction="none"), lower_bound=0, upper_bound=1)
    reference.fgsm.zero_thresh = 0.0  # it would stay where the gradient is small
    expected = reference.perturb(images.clone(), radius, 2.5 * radius / 10, 10, targets)
    found = attack(net, images, targets, 16, 10)
    torch.testing.assert_close(found, expected.detach())
    noise = images + radius * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).sign().double()
    levels = [loss(net, x, targets).mean().item() for x in (images, noise, attack(net, images, targets, 16, 1), found)]
    assert levels[0] < levels[2] <= levels[3] + 1e-6 and levels[1] < levels[2]
    assert all(p.grad is None for p in net.parameters())


def test_data_are_attacked_batch_by_batch_in_any_order(net):
    data, targets = random_data(), torch.arange(11) % 4
    attacked = Attacked(data, net, targets, 8, 1, batch_size=4)
    with torch.no_grad():
        found = {index: attacked.image(index) for index in (0, 3, 4, 10, 1)}
    expected = attack(net, data.images, targets, 8, 1)
    assert len(attacked) == 11 and attacked.concepts == data.concepts
    for index, image in found.items():
        torch.testing.assert_close(image, expected[index])
        assert torch.equal(attacked.labels(index).maps, data.labels(index).maps)
