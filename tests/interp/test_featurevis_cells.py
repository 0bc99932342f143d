"""Activation grids: each cell is the picture of its position's vector, as large as the vector is long."""

import pytest
import torch
from torch import nn

from interp.errors import UserError
from interp.featurevis import Fft, activation_grid, evaluate, mosaic, render
from interp.featurevis.objectives import direction
from interp.featurevis.transforms import NONE
from interp.network.layers import capture


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 2)).eval()


@pytest.fixture
def images():
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_each_cell_is_what_its_direction_alone_renders(net, images):
    found = activation_grid(net, images, "1", positions=3, steps=8, transforms=NONE)
    assert found.cells.shape == (2, 3, 3, 1, 16, 16) and found.rows.tolist() == found.columns.tolist() == [1, 4, 6]
    vector = capture(net, images, ["1"])["1"][1, :, 4, 6]
    torch.testing.assert_close(found.norms[1, 1, 2], vector.norm())
    objective = direction("1", vector / vector.norm(), power=1)
    here = 9 + 3 + 2
    canvas = Fft.noise((18, 1, 16, 16))
    canvas.parameters[0] = canvas.parameters[0][here : here + 1]
    alone = render(net, canvas, objective, steps=8, transforms=NONE)
    torch.testing.assert_close(found.cells[1, 1, 2], alone.images[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.values[1, 1, 2], alone.values[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(evaluate(net, found.cells[1, 1, 2:], objective), alone.values, rtol=1e-3, atol=1e-4)
    assert (found.values > found.start).all()


def test_every_position_of_a_small_layer_is_drawn_and_cells_may_have_another_size(net, images):
    found = activation_grid(net[:2], images[:1], "1", size=(8, 12), steps=1)
    assert found.cells.shape == (1, 8, 8, 1, 8, 12) and found.rows.tolist() == list(range(8))


def test_areas_of_the_cells_are_proportional_to_the_norms():
    norms = torch.tensor([[[4.0, 1.0], [2.0, 0.0]], [[8.0, 8.0], [8.0, 8.0]]])
    sheets = mosaic(torch.zeros(2, 2, 2, 1, 40, 40), norms)
    assert sheets.shape == (2, 1, 80, 80)
    ink = (1 - sheets).unflatten(2, (2, 40)).unflatten(4, (2, 40)).mean(dim=(1, 3, 5))
    torch.testing.assert_close(ink, norms / norms.amax(dim=(1, 2), keepdim=True), atol=0.03, rtol=0)
    cells = torch.rand(1, 2, 3, 3, 5, 7)
    whole = mosaic(cells, torch.ones(1, 2, 3))
    torch.testing.assert_close(whole[0, :, 5:, 7:14], cells[0, 1, 1], atol=1e-5, rtol=0)


def test_what_has_no_positions_is_named(net, images):
    with pytest.raises(UserError, match="layer '3' cannot be used"):
        activation_grid(net, images, "3")
    with pytest.raises(UserError, match="positions=0"):
        activation_grid(net, images, "1", positions=0)
