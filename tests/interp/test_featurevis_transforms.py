"""Transforms move pictures by what they say, fill with grey and are drawn for each image."""

import pytest
import torch

from interp.errors import UserError
from interp.featurevis.transforms import CROPS, LUCID, NAMED, NONE, STANDARD, Transforms, for_size


def look(transforms, images, seed=0):
    maps = transforms.draw(1, len(images), images.shape[-2:], seed)[0]
    return transforms(images, maps)


def dot(row, column, size=(17, 25)):
    images = torch.full((1, 1, *size), 0.5)
    images[..., row, column] = 1.0
    return images


@pytest.mark.parametrize("size", [(16, 16), (17, 24)])
def test_without_a_move_images_stay_as_they_are(size):
    images = torch.rand(3, 2, *size)
    assert look(NONE, images) is images
    torch.testing.assert_close(look(Transforms(angles=(0.0, 0.0)), images), images, atol=1e-5, rtol=0)
    padded = look(Transforms(pad=0.25), images)
    pad = round(0.25 * min(size))
    assert padded.shape[-2:] == (size[0] + 2 * pad, size[1] + 2 * pad)
    torch.testing.assert_close(padded[..., pad:-pad, pad:-pad], images, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded[..., : pad - 1, :], torch.full_like(padded[..., : pad - 1, :], 0.5))


def test_jitter_moves_a_dot_by_whole_pixels_within_its_reach_and_fills_with_grey():
    transforms = Transforms(jitter=4 / 17)
    seen = look(transforms, dot(8, 12).expand(200, -1, -1, -1))
    places = {divmod(int(image.argmax()), 25) for image in seen}
    assert places == {(8 + y, 12 + x) for y in range(-2, 3) for x in range(-2, 3)}
    torch.testing.assert_close(seen.flatten(1).max(dim=1).values, torch.ones(200), atol=1e-3, rtol=0)
    white = look(transforms, torch.ones(50, 1, 17, 25))
    assert {round(float(v), 2) for v in white.unique()} == {0.5, 1.0}


def test_turning_by_90_degrees_and_halving_put_a_dot_where_they_should():
    places = {divmod(int(look(Transforms(angles=(a,)), dot(8, 17)).argmax()), 25) for a in (90.0, -90.0)}
    assert places == {(13, 12), (3, 12)}
    assert divmod(int(look(Transforms(scales=(0.5,)), dot(12, 20)).argmax()), 25) == (10, 16)


def test_crop_enlarges_more_and_more_and_feed_sets_the_size():
    transforms = Transforms(crop=(0.5, 0.1), feed=(30, 20))
    maps = transforms.draw(5, 4, (64, 64), seed=0)
    torch.testing.assert_close(maps[:, 0, 0, 0], torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1]))
    assert transforms(torch.rand(4, 3, 64, 64), maps[0]).shape == (4, 3, 30, 20)
    images = torch.rand(4, 3, 64, 64)
    halved = Transforms(feed=(32, 32))
    torch.testing.assert_close(look(halved, images)[0, 0, 0, 0], images[0, 0, :2, :2].mean(), atol=1e-4, rtol=0)


def test_each_image_has_moves_of_its_own_the_same_for_a_seed_and_for_any_count():
    maps = STANDARD.draw(6, 5, (64, 64), seed=1)
    assert torch.equal(maps, STANDARD.draw(6, 5, (64, 64), seed=1))
    assert torch.equal(maps[:, :2], STANDARD.draw(6, 2, (64, 64), seed=1))
    assert not torch.equal(maps, STANDARD.draw(6, 5, (64, 64), seed=2))
    assert len(maps.flatten(0, 1).unique(dim=0)) > 25


def test_noise_is_seeded():
    images = torch.full((2, 1, 16, 16), 0.5)
    maps = CROPS.draw(1, 2, (16, 16), seed=0)[0]
    first, second = (CROPS(images, maps, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first.std(), torch.tensor(CROPS.noise), atol=0.01, rtol=0)


def test_sets_suit_the_size():
    assert for_size((64, 100)) is NAMED["small"]
    assert for_size((128, 128)) is NAMED["standard"]
    assert LUCID.frame((128, 128)) == (140, 140)
    with pytest.raises(UserError, match="2 x 9 pixels are too few to be drawn: give a size of at least 4 x 4"):
        STANDARD.draw(1, 1, (2, 9), seed=0)
