"""Generated shapes: the labels must be what a measurement on the pixels finds, and the classes what the labels say."""

import math

import pytest
import torch

from interp.errors import UserError
from interp.lit.data.shapes import CLASS_NAMES, COLORS, generate, shapes

HUES = {"red": 0, "orange": 30, "yellow": 55, "green": 130, "blue": 225, "purple": 282}  # degrees
# of each outline: area / circle around it, and second moment / that of a disc of the same area
OUTLINES = {
    "disc": (1.0, 1.0),
    "square": (2 / math.pi, math.pi / 3),
    "triangle": (0.4135, 1.2092),
    "cross": (0.6295, 1.2260),
    "ring": (0.8163, 1.4502),
}


@pytest.fixture(scope="module")
def made():
    return generate(200, 11)


def named(made, category):
    """(images, name, mask of its pixels) of each label of `category` in each image."""
    for image, labels in zip(made.images, made.concepts[category], strict=True):
        for number, name in enumerate(made.concept_names[category]):
            if number and (labels == number).any():
                yield image.float() / 255, name, labels == number


def scenes(dataset):
    return dataset.concepts["scene"][:, 0, 0].long() - 1


def hue(image):
    """Hue in degrees of the pixels of `image` (3, ...)."""
    red, green, blue = image
    return torch.rad2deg(torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue))


def outline(mask):
    """The two numbers of OUTLINES, measured on a mask (H, W), and the largest distance from its centre."""
    points = mask.nonzero().double()
    square = (points - points.mean(0)).square().sum(1)
    largest = square.max().sqrt() + 0.3  # a corner is sharper than the outermost pixel centre
    return len(points) / (math.pi * largest**2), 2 * math.pi * square.mean() / len(points), largest


def interior(mask):
    """The pixels at least four from the edge of `mask` (H, W) along x and y, out of reach of the dark outline."""
    return torch.nn.functional.avg_pool2d(mask[None].double(), 9, 1, 4)[0] > 0.999


def coherence(image, mask):
    """How far the gradients of `image` on `mask` share one axis: 1 for stripes, 0 for round dots."""
    dy, dx = torch.gradient(image.mean(0))
    dx, dy = dx[mask], dy[mask]
    return torch.hypot((dx * dx - dy * dy).sum(), 2 * (dx * dy).sum()) / (dx * dx + dy * dy).sum()


def test_same_arguments_same_bits_and_no_dependence_on_count_threads_or_global_state(made):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(threads % 3 + 1)
    again, fewer = generate(200, 11), generate(37, 11)
    torch.set_num_threads(threads)
    assert torch.equal(again.images, made.images) and torch.equal(again.targets, made.targets)
    assert torch.equal(fewer.images, made.images[:37]) and torch.equal(fewer.targets, made.targets[:37])
    for category, labels in made.concepts.items():
        assert torch.equal(again.concepts[category], labels)
        assert torch.equal(fewer.concepts[category], labels[:37])
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(generate(37, 12).images, fewer.images)


def test_classes_are_balanced_and_shuffled(made):
    assert made.targets.bincount(minlength=10).tolist() == [20] * 10
    assert len({tuple(ten) for ten in made.targets.view(20, 10).tolist()}) > 15
    assert CLASS_NAMES[0] == "striped disc" and len(set(CLASS_NAMES)) == 10


def test_types_and_no_label_without_a_name_nor_name_without_a_label(made):
    assert made.images.dtype == torch.uint8 and made.images.shape == (200, 3, 64, 64)
    assert set(made.concepts) == {"color", "texture", "object", "part", "scene"} == set(made.concept_names)
    for category, labels in made.concepts.items():
        assert labels.dtype == torch.uint8 and labels.shape == (200, 64, 64)
        used = labels.unique().tolist()
        assert used == list(range(category == "scene", len(made.concept_names[category])))
        assert made.concept_names[category][0] == ""


def test_class_is_the_texture_and_the_shape_that_the_labels_name(made):
    largest = {category: made.concepts[category].flatten(1).amax(1).tolist() for category in ("texture", "object")}
    for target, texture, shape in zip(made.targets.tolist(), *largest.values(), strict=True):
        names = made.concept_names["texture"][texture], made.concept_names["object"][shape]
        assert CLASS_NAMES[target] == " ".join(names)


def test_color_label_is_the_hue_of_its_pixels(made):
    assert set(COLORS) == set(HUES)
    for image, name, mask in named(made, "color"):
        error = (hue(image[:, mask]) - HUES[name] + 180).remainder(360) - 180
        assert error.abs().median() < 10, name


def test_object_label_has_the_outline_of_its_name(made):
    bare = made.concepts["part"].flatten(1).amax(1) == 0
    assert 25 < bare.sum() < 80  # a quarter
    seen = set()
    for labels in made.concepts["object"][bare]:
        name = made.concept_names["object"][int(labels.max())]
        fill, spread, reach = outline(labels > 0)
        expected = OUTLINES[name]
        assert fill == pytest.approx(expected[0], rel=0.13) and spread == pytest.approx(expected[1], rel=0.04), name
        assert 12.5 < reach < 20.5 * 1.25
        seen.add(name)
    assert seen == set(OUTLINES)


def test_object_label_is_where_the_picture_differs_from_the_scene(made):
    # saturated pixels belong to objects: scenes are duller
    saturation = made.images.amax(1).float() - made.images.amin(1)
    on = made.concepts["object"] > 0
    vivid = saturation > 130
    assert (vivid & ~on).sum() < 0.002 * vivid.sum()


def test_texture_label_is_the_pattern_of_its_pixels(made):
    measured = {"striped": [], "dotted": []}
    for image, name, mask in named(made, "texture"):
        if interior(mask).sum() > 150:  # some periods of the pattern: discs, squares, large triangles
            measured[name].append(float(coherence(image, interior(mask))))
    assert all(len(values) > 20 for values in measured.values())
    assert min(measured["striped"]) > max(measured["dotted"]) + 0.2


def test_parts_lie_on_objects_have_no_texture_and_look_plain(made):
    part, texture = made.concepts["part"], made.concepts["texture"]
    assert (made.concepts["object"][part > 0] > 0).all() and (texture[part > 0] == 0).all()
    assert torch.equal(made.concepts["object"] > 0, made.concepts["color"] > 0)
    assert torch.equal((part > 0) | (texture > 0), made.concepts["object"] > 0)
    paler = made.images.amin(1).float()  # parts are mixed with white
    assert paler[part > 0].median() > paler[texture > 0].median() + 30
    spread = {"knob": [], "bar": []}
    for _, name, mask in named(made, "part"):
        spread[name].append(float(outline(mask)[1]))
    median = {name: torch.tensor(values).median() for name, values in spread.items()}
    assert median["knob"] < 1.05 < 1.15 < median["bar"] and all(70 < len(values) < 130 for values in spread.values())


def test_scene_label_is_the_ground_of_the_picture(made):
    assert (made.concepts["scene"].flatten(1).amax(1) == made.concepts["scene"].flatten(1).amin(1)).all()
    for image, scene, thing in zip(made.images, scenes(made).tolist(), made.concepts["object"], strict=True):
        red, green, blue = image[:, 56:][:, thing[56:] == 0].float().mean(1).tolist()
        order = {"meadow": green > red > blue, "sea": blue > green > red, "desert": red > green > blue + 20}
        grey = max(red, green, blue) - min(red, green, blue) < 15
        found = [name for name, holds in order.items() if holds and not grey] or ["city"]
        assert found == [made.concept_names["scene"][scene + 1]]


def test_without_a_shortcut_the_other_concepts_are_free_of_the_class():
    made = generate(2000, 3, size=32)
    for category, kinds in (("scene", 4), ("color", 6)):
        chosen = made.concepts[category].flatten(1).amax(1).long() - 1
        table = torch.stack([chosen[made.targets == c].bincount(minlength=kinds) for c in range(10)]).float()
        expected = 2000 / 10 / kinds
        degrees = 10 * kinds - 10
        assert ((table - expected).square() / expected).sum() < degrees + 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize(("shortcut", "share"), [(0.0, 0.25), (0.8, 0.85), (1.0, 1.0)])
def test_shortcut_ties_the_scene_to_the_class(shortcut, share):
    made = generate(600, 5, size=32, shortcut=shortcut)
    assert (scenes(made) == made.targets % 4).float().mean() == pytest.approx(share, abs=4 * 0.018 * (shortcut < 1))


def test_shortcut_is_in_the_training_images_only():
    splits = shapes(200, 200, 200, size=32, shortcut=1.0)
    tied = [(scenes(part) == part.targets % 4).float().mean() for part in (splits.train, splits.val, splits.test)]
    assert tied[0] == 1 and max(tied[1:]) < 0.4


def test_no_image_is_in_two_splits_nor_in_those_of_the_next_seed():
    parts = [part for seed in (0, 1) for part in vars(shapes(100, 50, 50, size=32, seed=seed)).values()]
    sets = [part for part in parts if not isinstance(part, tuple)]
    images = torch.cat([part.images for part in sets]).flatten(1)
    assert len(sets) == 6 and len(images) == 400 == len({image.numpy().tobytes() for image in images})


def test_of_two_objects_the_class_is_the_larger():
    made = generate(100, 5, objects=2)
    larger = [labels.flatten().bincount(minlength=6)[1:].argmax() for labels in made.concepts["object"].long()]
    assert torch.equal(torch.stack(larger), made.targets // 2)
    assert 60 < sum(len(labels[labels > 0].unique()) == 2 for labels in made.concepts["object"]) < 95
    assert made.targets.bincount(minlength=10).tolist() == [10] * 10


def test_a_larger_picture_shows_the_same_things():
    small, large = generate(20, 4, size=32), generate(20, 4, size=96)
    assert torch.equal(small.targets, large.targets) and torch.equal(scenes(small), scenes(large))
    # the centre of a small pixel is the centre of the middle one of nine: the very same place
    assert torch.equal(large.concepts["object"][:, 1::3, 1::3], small.concepts["object"])


def test_data_set_gives_images_in_0_1_and_subsets_keep_their_labels():
    splits = shapes(30, 10, 10, size=32)
    image, target = splits.train[3]
    assert image.dtype == torch.float32 and image.shape == (3, 32, 32) and image.min() >= 0 and image.max() <= 1
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [30, 10, 10]
    chosen = splits.train.subset(torch.tensor([3, 7]))
    assert splits.class_names == CLASS_NAMES and chosen.targets[0] == target
    assert torch.equal(chosen.concepts["color"], splits.train.concepts["color"][[3, 7]])
    assert chosen.concept_names == splits.train.concept_names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, "data.train=0: must be a whole number of at least 1"),
        ({"test": -3}, "data.test=-3: must be a whole number of at least 1"),
        ({"val": 2.5}, "data.val=2.5: must be a whole number of at least 1"),
        ({"seed": -1}, "data.seed=-1: must be a whole number of at least 0"),
        ({"size": 16}, "data.size=16: must be a whole number of at least 32"),
        ({"objects": 3}, "data.objects=3: must be 1 or 2"),
        ({"shortcut": 1.5}, "data.shortcut=1.5: must be a probability, from 0 to 1"),
        ({"shortcut": math.nan}, "data.shortcut=nan: must be a probability"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(UserError, match=message):
        shapes(**options)
