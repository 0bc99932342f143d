"""A small network for the tests of feature visualisation, and all that a study may not change in it."""

from copy import deepcopy

import torch
from torch import nn


def small_net(channels=3, inplace=True):
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(inplace)),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace)),
        *(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


def everything(net):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()]
    marks = [(p.requires_grad, p.grad is None, id(p), type(p).__name__) for p in net.parameters()]
    modes = [(m.training, "forward" in vars(m), sorted(m._parameters)) for m in net.modules()]
    return deepcopy(net.state_dict()), hooks, marks, modes, torch.random.get_rng_state()
