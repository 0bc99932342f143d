"""What is relative stays so for numbers of any size: nothing is added to lengths, none is cut off at a constant."""

import pytest
import torch
from torch import nn

from interp.attribution.methods import Task, completeness_error
from interp.factorization import match_groups, neuron_groups
from interp.vectors import correlations

TINY = 1e-17  # its square is lost beside 1e-30


def test_correlations_and_partners_do_not_depend_on_size():
    rows, others = (torch.rand(3, 40, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    torch.testing.assert_close(correlations(TINY * rows, TINY * others), correlations(rows, others))
    torch.testing.assert_close(match_groups(TINY * rows, TINY * others), match_groups(rows, others))
    signed = (rows[:, :, None, None] - 0.5).repeat(1, 1, 2, 2)
    shares = [neuron_groups(scale * signed, 2, negative="rectify").negative_share for scale in (1, TINY)]
    assert shares[0] > 0.1 and shares[1] == pytest.approx(shares[0], rel=1e-4)


def test_maps_that_miss_small_logits_are_caught():
    task = Task(torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.long), torch.zeros(1, 1, 1))
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
    nn.init.constant_(net[1].weight, 1e-9)
    assert completeness_error(net, task, 2e-9 * task.images) == pytest.approx(1, abs=1e-3)
    assert completeness_error(net, task, torch.zeros_like(task.images)) == 1
    nn.init.zeros_(net[1].weight)
    assert completeness_error(net, task, torch.zeros_like(task.images)) == 0
