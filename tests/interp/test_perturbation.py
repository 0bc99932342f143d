"""Disturbed images and their labels: exact where the disturbance is exact, alike where both move."""

import sys

import numpy as np
import pytest
import torch

from interp.dissection.concepts.data import NONE, VOID, Concepts, TensorConcepts
from interp.errors import UserError
from interp.perturbation.disturbed import (
    CORRUPTIONS,
    STANDARD,
    Disturbed,
    add_noise,
    corrupt,
    disturbances,
    patches,
    rotate_images,
    rotate_labels,
    shuffle_patches,
)


def concept_data(side=16, label_side=8, images=3):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(-1, 3, (images, 2, label_side, label_side), generator=generator)
    pictures = torch.rand(images, 3, side, side, generator=generator)
    return TensorConcepts(pictures, maps, torch.ones(images, 1).bool(), Concepts(("a", "b", "c"), ("k",), (0, 0, 0)))


def test_noise_is_uniform_on_the_scale_of_255_and_clipped():
    images = torch.full((4, 3, 50, 50), 0.5)
    added = (add_noise(images, 10, seed=1) - images) * 255
    assert 0 <= added.min() < 0.1 and 9.9 < added.max() <= 10.001
    assert added.mean() == pytest.approx(5, abs=0.1) and added.var() == pytest.approx(100 / 12, rel=0.05)
    strong = add_noise(torch.full((1, 3, 50, 50), 0.9), 100, seed=1)
    assert strong.max() == 1 and torch.equal(add_noise(images, 0, 3), images)


def test_seed_decides_and_the_global_random_state_is_left_alone():
    images, state = torch.rand(2, 3, 8, 8), torch.get_rng_state()
    assert torch.equal(add_noise(images, 5, 1), add_noise(images, 5, 1))
    assert not torch.equal(add_noise(images, 5, 1), add_noise(images, 5, 2))
    assert torch.equal(shuffle_patches(images, 4, 1), shuffle_patches(images, 4, 1))
    assert not torch.equal(shuffle_patches(images, 4, 1), shuffle_patches(images, 4, 2))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_quarter_turn_is_exact_for_images_and_labels():
    data = concept_data()
    torch.testing.assert_close(rotate_images(data.images, 90), data.images.rot90(1, (-2, -1)), atol=1e-4, rtol=0)
    assert torch.equal(rotate_labels(data.maps, 90), data.maps.rot90(1, (-2, -1)))


@pytest.mark.parametrize("degrees", [10, 45])
def test_labels_turn_with_the_image_and_empty_corners_are_void(degrees):
    maps = torch.zeros(1, 64, 64, dtype=torch.int32)
    maps[:, 8:24, 30:50] = 700
    picture = (maps == 700).float().expand(3, -1, -1)
    turned, seen = rotate_labels(maps, degrees), rotate_images(picture, degrees)
    assert set(turned.unique().tolist()) == {VOID, 0, 700} and turned.dtype == torch.int32
    agree = (seen[0] > 0.5) == (turned[0] == 700)
    assert agree.float().mean() > 0.99
    corner = turned[0, 0, 0] == turned[0, -1, -1] == VOID
    white = rotate_images(torch.ones(3, 64, 64), degrees)
    assert corner and ((white[0] < 0.5) == (turned[0] == VOID)).float().mean() > 0.98


def patch_set(maps, grid):
    side = maps.shape[-1] // grid
    cut = maps.unfold(-2, side, side).unfold(-2, side, side)
    return {tuple(cut[..., y, x, :, :].flatten().tolist()) for y in range(grid) for x in range(grid)}


@pytest.mark.parametrize("grid", [4, 8])
def test_patches_change_places_whole_and_alike(grid):
    data = concept_data()
    image = data.image(0)
    assert patch_set(shuffle_patches(image, grid, 3), grid) == patch_set(image, grid)
    labels = torch.nn.functional.interpolate(image[None], size=(8, 8))[0]  # every other pixel
    moved = torch.nn.functional.interpolate(shuffle_patches(image, grid, 3)[None], size=(8, 8))[0]
    if grid == 4:
        assert torch.equal(shuffle_patches(labels, grid, 3), moved)
    big = labels.repeat_interleave(5, 1).repeat_interleave(5, 2)
    again = shuffle_patches(labels, grid, 3).repeat_interleave(5, 1).repeat_interleave(5, 2)
    assert torch.equal(shuffle_patches(big, grid, 3), again)


def test_sides_that_are_no_multiples_of_the_grid_keep_their_shape_and_values():
    image = torch.rand(1, 28, 30)
    shuffled = shuffle_patches(image, 8, 0)
    assert shuffled.shape == image.shape and set(shuffled.unique().tolist()) <= set(image.unique().tolist())


@pytest.mark.parametrize("disturbance", STANDARD, ids=lambda d: d.name)
def test_concept_data_are_disturbed_image_by_image_and_again_alike(disturbance):
    data = concept_data()
    disturbed = Disturbed(data, disturbance, seed=7)
    assert len(disturbed) == 3 and disturbed.concepts == data.concepts
    for index in range(3):
        image, labels = disturbed.image(index), disturbed.labels(index)
        assert image.shape == (3, 16, 16) and 0 <= image.min() <= image.max() <= 1 and image.dtype == torch.float32
        assert not torch.equal(image, data.image(index)) and torch.equal(image, disturbed.image(index))
        assert labels.maps.dtype == torch.int32 and labels.maps.shape == (2, 8, 8) and labels.labelled.all()
        assert torch.equal(labels.maps, disturbed.labels(index).maps)
        if disturbance.name.startswith("noise"):
            assert torch.equal(labels.maps, data.labels(index).maps)
        else:
            assert set(labels.maps.unique().tolist()) <= {VOID, NONE, 0, 1, 2}


def test_images_are_shuffled_each_in_its_own_way():
    data = concept_data()
    same = TensorConcepts(data.images[:1].expand(2, -1, -1, -1), data.maps[:2], data.labelled[:2], data.concepts)
    disturbed = Disturbed(same, patches(4))
    assert not torch.equal(disturbed.image(0), disturbed.image(1))
    assert [d.name for d in STANDARD][-3:] == ["rotation 90", "patches 4 x 4", "patches 8 x 8"]


def test_disturbances_by_name():
    assert [d.name for d in disturbances(["patches", "noise"])][:3] == ["patches 4 x 4", "patches 8 x 8", "noise 1"]
    assert len(disturbances(["corruptions"])) == 75 and disturbances(["fog"])[4].name == "fog 5"
    with pytest.raises(UserError, match="no disturbance 'rotate'; did you mean 'rotation'"):
        disturbances(["rotate"])


def test_corruptions_need_their_package_and_32_pixels(monkeypatch):
    with pytest.raises(
        UserError, match=r"fog needs (a package, .*: pip install imagecorruptions-imaug|images of at least)"
    ):
        corrupt(torch.rand(3, 16, 16), "fog", 1, 0)
    with pytest.raises(UserError, match="fog needs images of 1 or 3 channels, these have 2"):
        corrupt(torch.rand(2, 64, 64), "fog", 1, 0)
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(UserError, match="fog needs a package, 435 MB .*: pip install imagecorruptions-imaug"):
        corrupt(torch.rand(3, 64, 64), "fog", 1, 0)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_depend_on_kind_severity_and_seed_alone(kind):
    pytest.importorskip("imagecorruptions")
    image, state = shapes_image(), numpy_stream()
    mild, strong = (corrupt(image, kind, severity, seed=3) for severity in (1, 5))
    assert mild.shape == image.shape and mild.dtype == torch.float32 and 0 <= mild.min() <= mild.max() <= 1
    assert torch.equal(mild, corrupt(image, kind, 1, seed=3)) and state == numpy_stream()
    assert (strong - image).abs().mean() > (mild - image).abs().mean() > 0
    assert corrupt(image[:1], kind, 1, seed=3).shape == (1, 64, 64)


def numpy_stream():
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def shapes_image():
    from interp.lit.data.shapes import generate

    return generate(1, 0).images[0] / 255
