"""Pictures as tensors."""

import threading

import pytest
import torch

from interp.draw import dim, divergent, enlarge, grid, hues, overlay, rgb
from interp.draw.charts import chart


def test_hues_are_fixed_bright_and_distinct():
    colours = hues(6)
    assert torch.equal(colours, hues(6)) and (colours.amax(dim=1) == 1).all()
    assert torch.cdist(colours, colours).add(torch.eye(6) * 9).min() > 0.5


def test_overlay_shows_each_map_in_its_colour_and_nothing_elsewhere():
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 0, 0, 0], maps[0, 1, 1, 1] = 1, 1
    backdrop, colours = torch.full((1, 3, 2, 2), 0.3), hues(2)
    laid = overlay(backdrop, maps, colours)
    assert torch.equal(laid[0, :, 0, 0], colours[0]) and torch.equal(laid[0, :, 1, 1], colours[1])
    assert torch.equal(laid[0, :, 0, 1], backdrop[0, :, 0, 1])


def test_divergent_is_black_at_zero_orange_above_blue_below():
    colours = divergent(torch.tensor([[-1.0, 0.0, 1.0]]))
    assert colours[:, 0, 1].tolist() == [0, 0, 0]
    assert colours[0, 0, 2] > colours[2, 0, 2] and colours[2, 0, 0] > colours[0, 0, 0]


def test_grid_places_cells_and_names():
    cells = torch.rand(2, 3, 3, 8, 8)
    bare = grid(cells)
    assert bare.dtype == torch.uint8 and bare.shape == (3, 4 + 2 * 12, 4 + 3 * 12)
    assert torch.equal(bare[:, 4:12, 16:24], (cells[0, 1] * 255).round().byte())
    named = grid(cells, ["first", "second"], ["a", "b", "c"])
    assert named.shape[1] == bare.shape[1] + 22 and named.shape[2] > bare.shape[2]
    assert torch.equal(named, grid(cells, ["first", "second"], ["a", "b", "c"]))


def test_enlarging_invents_no_value():
    image = torch.rand(1, 1, 4, 4)
    assert set(enlarge(image, 13).unique().tolist()) == set(image.unique().tolist())


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_two_channels_are_orange_and_sky_blue_and_grey_where_they_agree(kind):
    values = (
        torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5]])
        if kind == torch.float32
        else torch.tensor([[200, 0], [0, 200], [9, 9]])
    )
    shown = rgb(values.to(kind)[..., None, None])[..., 0, 0].float() / values.max()
    assert shown.dtype == torch.float32 and shown[:2].tolist() == [[1, 0.5, 0], [0, 0.5, 1]] and shown[2].std() == 0


def test_of_many_channels_the_first_three_are_shown():
    image = torch.rand(2, 5, 4, 4)
    assert torch.equal(rgb(image), image[:, :3])


def test_one_channel_becomes_grey_and_dim_darkens():
    image = torch.rand(2, 1, 4, 4)
    assert torch.equal(rgb(image)[:, 2], image[:, 0])
    assert dim(rgb(image)).max() < 0.5


def test_two_threads_that_draw_leave_matplotlibs_settings_alone():
    """As after a picture that hangs, when another thread goes on and the first one comes back."""
    import matplotlib

    before, pictures = dict(matplotlib.rcParams), {}
    entered, left = ([threading.Event(), threading.Event()] for _ in range(2))

    def draw(axes, number):
        axes[0, 0].plot([0, 1])
        entered[number].set()
        left[number].wait(10)

    threads = [threading.Thread(target=lambda n=n: pictures.update({n: chart(draw, n)})) for n in range(2)]
    for number, thread in enumerate(threads):
        thread.start()
        assert entered[number].wait(10)
    for number, thread in enumerate(threads):
        left[number].set()
        thread.join()
    assert dict(matplotlib.rcParams) == before and torch.equal(pictures[0], pictures[1])
