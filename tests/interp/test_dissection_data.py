"""Readers of concept data: what they read from sound files, and what they say of damaged ones."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from interp.dissection import Broden, Concepts, Labels, Segmentation, segmentation_folder
from interp.dissection.concepts.data import NONE, VOID, Chosen, TensorConcepts, shuffled_labels, stack
from interp.dissection.concepts.segmentation import voc
from interp.errors import UserError
from tests.interp.broden_folder import TABLES, make_broden, save_png


@pytest.fixture
def folder(tmp_path):
    return make_broden(tmp_path / "broden")


def test_broden_is_read_with_holes_planes_numbers_above_255_and_primary_categories(folder):
    data = Broden(folder)
    assert len(data) == 2  # an image without any label is left out
    assert data.concepts == Concepts(("red-c", "gold", "ball", "street-s"), ("color", "object", "scene"), (0, 1, 1, 2))
    image, labels = data.image(0), data.labels(0)
    assert image.shape == (3, 8, 12) and image.dtype == torch.float32 and image.max() <= 1
    assert labels.maps.tolist()[0] == [[0] * 6] * 2 + [[NONE] * 3 + [1] * 3] * 2
    assert labels.maps.shape == (4, 4, 6) and (labels.maps[3] == 3).all() and labels.labelled.tolist() == [1, 1, 1]
    assert data.image(1).mean() == pytest.approx(40 / 255, abs=0.01)
    assert data.labels(1).labelled.tolist() == [1, 0, 0] and (data.labels(1).maps == 0).all()


def test_broden_by_split_category_and_size(folder):
    assert len(Broden(folder, split="val")) == 1
    assert Broden(folder, size=32).image(0).shape == (3, 32, 32)
    color = Broden(folder, categories=("color",))
    assert color.concepts == Concepts(("red-c", "gold"), ("color",), (0, 0)) and len(color.labels(0).maps) == 1


def edit(folder, file, old, new):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("index.csv", "image,split", "picture,split", "no column 'image' in .*index.csv"),
        ("index.csv", "color,object,scene", "colour,object,scene", "no column 'color' in .*index.csv; did you mean"),
        ("index.csv", ",8,12,4,6,3,,0", ",8,12,4,6,3", "index.csv, row 3: fewer cells"),
        ("index.csv", ",8,12,4,6,3,,0", ",8,12,4,6,3,,0,9", "index.csv, row 3: more cells"),
        ("index.csv", "8,12,4,6,3", "8,12,1e-05,6,3", "index.csv: sh='1e-05' is no whole number from 1 up"),
        ("index.csv", "8,12,4,6,3", "8,12,0,6,3", "index.csv: sh='0' is no whole number"),
        ("index.csv", "8,12,4,6,3", "8,12,99999999,99999999,3", "index.csv: a/1.jpg has 99999999 x 99999999 pixels"),
        ("index.csv", "8,12,4,6,3", "8,12,4,6,4", "index.csv: '4' is no label of color, object, scene, for .* a/1.jpg"),
        ("index.csv", "8,12,4,6,3", "8,12,4,6,1e-05", "index.csv: '1e-05' is neither a number nor a PNG"),
        ("index.csv", "8,12,4,6,3", "8,12,4,6,77777", "index.csv: '77777' is no label"),
        ("index.csv", "a/0_color.png", "../0_color.png", "index.csv names the file '../0_color.png', which is not"),
        ("index.csv", "a/0_color.png", "/etc/x.png", "index.csv names the file '/etc/x.png', which is not inside"),
        ("index.csv", "a/0_color.png", "a/none.png", "no file .*a/none.png, which .*index.csv names"),
        ("index.csv", "a/1.jpg", "a/9.jpg", "no file .*a/9.jpg, which .*index.csv names"),
        ("index.csv", "a/1.jpg", "a/0.jpg", "index.csv: image 'a/0.jpg' is there twice"),
        ("label.csv", "7,ball", "3,ball", "label.csv: number '3' is there twice"),
        ("label.csv", "7,ball", "7,gold", "label.csv: name 'gold' is there twice"),
        ("label.csv", "7,ball", "-7,ball", "label.csv: number='-7' is no whole number from 1 up"),
        ("label.csv", "7,ball", "70000,ball", "label.csv: number 70000 does not fit a label map"),
        ("label.csv", "number,name", "number,title", "no column 'name' in .*label.csv"),
        ("c_object.csv", "1e-05", "nan", "c_object.csv: coverage='nan' is no number from 0 up"),
        ("c_object.csv", "2,7,ball", "2,8,ball", "c_object.csv: number 8 is not in .*label.csv"),
        ("c_object.csv", "2,7,ball", "2,300,ball", "c_object.csv: number '300' is there twice"),
        ("category.csv", "scene", "../scene", "category.csv: '../scene' cannot be the name of a category"),
        ("category.csv", "scene", "color", "category.csv: name 'color' is there twice"),
        ("category.csv", TABLES["category.csv"], "", "no column 'name' in .*category.csv"),
        ("c_scene.csv", "c", "\0\xff", "c_scene.csv"),
    ],
)  # fmt: skip
def test_damaged_tables_are_named(folder, file, old, new, message):
    edit(folder, file, old, new)
    with pytest.raises(UserError, match=message):
        Broden(folder)


@pytest.mark.parametrize("file", TABLES)
def test_missing_and_undecodable_tables_are_named(folder, file):
    (folder / file).write_bytes(b"\xff\xfe,\n")
    with pytest.raises(UserError, match=f"cannot read .*{file}"):
        Broden(folder)
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"no file .*{file}"):
        Broden(folder)


def bomb(path):
    """A PNG that says it has 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))


DAMAGE = {
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "cannot read the picture",
    ),
    "empty": (lambda path: path.write_bytes(b""), "cannot read the picture"),
    "another format": (lambda path: path.write_bytes(b"number,name\n"), "cannot read the picture"),
    "a bomb": (bomb, "cannot read the picture|60000 x 60000 pixels"),
    "another size": (lambda path: save_png(path, np.zeros((4, 7), int)), "4 x 7 pixels; .* are stated"),
    "gone": (lambda path: path.unlink(), "cannot read the picture"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_pictures_are_named(folder, damage):
    data = Broden(folder)
    spoil, message = DAMAGE[damage]
    for file, read in (("0_object_2.png", data.labels), ("0.jpg", data.image)):
        spoil(folder / "images" / "a" / file)
        with pytest.raises(UserError, match=f"{file}.*({message})|({message}).*{file}"):
            read(0)
    assert (data.labels(1).maps == 0).all()  # the rest can be read


@pytest.mark.parametrize("number", [5, 301, 65_535])
def test_unknown_numbers_and_pictures_that_are_no_label_maps_are_named(folder, number):
    data, path = Broden(folder), folder / "images" / "a" / "0_color.png"
    save_png(path, np.full((4, 6), number))
    with pytest.raises(UserError, match=f"0_color.png holds the number {number}, which is no label of color"):
        data.labels(0)
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
    with pytest.raises(UserError, match="0_color.png is a picture of mode L"):
        data.labels(0)
    Image.fromarray(np.full((4, 6, 3), number % 251, np.uint8)).save(path)
    with pytest.raises(UserError, match="0_color.png is no label map: its blue"):
        data.labels(0)


def test_wrong_choices_name_the_nearest(folder, tmp_path):
    for options, message in (({"split": "vall"}, "mean 'val'"), ({"categories": ("colour",)}, "mean 'color'")):
        with pytest.raises(UserError, match=message):
            Broden(folder, **options)
    with pytest.raises(UserError, match="no folder .*nowhere"):
        Broden(tmp_path / "nowhere")


@pytest.fixture
def plain(tmp_path):
    """Two images 6 x 8 with masks, one number a pixel."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    mask = np.repeat(np.array([[0, 1, 2, 255]], np.uint8), 2, axis=1).repeat(6, axis=0)
    for name in ("b", "a"):
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(mask, mode=None).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "names.txt").write_text("background\ncat\ndog\n")
    return tmp_path


def test_segmentation_folder_has_background_void_and_a_square_at_the_centre(plain):
    data = segmentation_folder(plain, size=12)
    assert len(data) == 2 and data.concepts == Concepts(("cat", "dog"), ("object",), (0, 0))
    assert data.image(0).shape == (3, 12, 12) and data.image(0).max() == 0
    assert data.labels(1).maps[0, 0].tolist() == [NONE, 0, 0, 1, 1, VOID] and data.labels(1).labelled.all()


def test_damaged_segmentations_are_named(plain):
    Image.fromarray(np.full((6, 8), 7, np.uint8)).save(plain / "masks" / "a.png")
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(plain / "masks" / "b.png")
    data = segmentation_folder(plain)
    with pytest.raises(UserError, match="a.png holds the number 7, which has no name"):
        data.labels(0)
    with pytest.raises(UserError, match=r"b.png has the shape \(6, 9\), its image 6 x 8"):
        data.labels(1)
    (plain / "masks" / "b.png").write_bytes(b"PNG")
    with pytest.raises(UserError, match="cannot read the picture .*b.png"):
        data.labels(1)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(plain / "masks" / "b.png")
    with pytest.raises(UserError, match="b.png is a picture of mode RGB"):
        data.labels(1)
    (plain / "masks" / "b.png").unlink()
    with pytest.raises(UserError, match="no mask .*b.png"):
        segmentation_folder(plain)
    (plain / "names.txt").write_text("background\ncat\ncat\n")
    with pytest.raises(UserError, match="distinct"):
        Segmentation([], ["background", "cat", "cat"])
    (plain / "names.txt").unlink()
    with pytest.raises(UserError, match="names.txt"):
        segmentation_folder(plain)


def test_pairs_of_pil_pictures_as_torchvision_gives_them():
    mask = Image.fromarray(np.array([[0, 1], [255, 1]], np.uint8)).convert("P")
    data = Segmentation([(Image.new("RGB", (2, 2), "red"), mask)], ["background", "cat"], size=4)
    assert data.labels(0).maps.tolist() == [[[NONE, 0], [VOID, 0]]]
    assert data.image(0)[:, 0, 0].tolist() == [1, 0, 0]


def test_damaged_pil_pictures_and_a_missing_voc_are_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8)).save(tmp_path / "mask.png")
    (tmp_path / "mask.png").write_bytes((tmp_path / "mask.png").read_bytes()[:200])
    with Image.open(tmp_path / "mask.png") as mask:
        data = Segmentation([(Image.new("RGB", (64, 64)), mask)], ["background", "cat"], files=["mask.png"])
        with pytest.raises(UserError, match="mask.png or its image cannot be read"):
            data.labels(0)
    with pytest.raises(UserError, match="no VOC 2012 val in "):
        voc(tmp_path)


def test_voc_is_read_from_its_files(tmp_path):
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / part).mkdir(parents=True)
    (base / "ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    for name in "ab":
        Image.new("RGB", (4, 4), "red").save(base / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(np.full((4, 4), 15, np.uint8)).save(base / "SegmentationClass" / f"{name}.png")
    (base / "JPEGImages" / "b.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    data = voc(tmp_path, size=4)
    assert data.concepts.names[int(data.labels(0).maps[0, 0, 0])] == "person" and data.image(0)[0].min() > 0.9
    with pytest.raises(UserError, match="cannot read the picture .*b.jpg"):
        data.image(1)


CONCEPTS = Concepts(("a", "b"), ("k",), (0, 0))


def labels(*planes):
    return Labels(torch.tensor(planes, dtype=torch.int32), torch.ones(1, dtype=torch.bool))


def test_labels_are_stacked_by_size_with_each_concept_once_a_pixel():
    given = [labels([[0, 1]], [[0, 0]], [[0, 1]]), labels([[1]]), labels([[1, VOID]])]
    wide, narrow = stack(given, CONCEPTS)
    assert wide.images.tolist() == [0, 2] and narrow.images.tolist() == [1]
    planes = [[[[0, 1]], [[NONE, 0]], [[NONE, NONE]]], [[[1, VOID]], *[[[NONE, VOID]]] * 2]]
    assert wide.maps.transpose(0, 1).tolist() == planes and wide.void and not narrow.void
    assert wide.support.tolist() == [2, 2] and narrow.support.tolist() == [0, 1]


@pytest.mark.parametrize("label", [2, -3])
def test_a_label_that_is_no_concept_is_named(label):
    with pytest.raises(UserError, match=f"label {label} in the concept data: there are 2"):
        list(stack([labels([[0, label]])], CONCEPTS))


def test_shapes_keep_their_exact_labels():
    from interp.lit.data.concepts import ConceptImages
    from interp.lit.data.shapes import generate

    made = generate(6, 0, size=32)
    data = ConceptImages(**vars(made)).concept_data()
    assert data.concepts.categories == ("color", "texture", "object", "part", "scene") and len(data) == 6
    assert torch.equal(data.image(2), made.images[2] / 255) and data.labels(0).labelled.all()
    for number, name in enumerate(data.concepts.names):
        category = data.concepts.categories[data.concepts.category[number]]
        value = made.concept_names[category].index(name)
        for index in range(6):
            expected = made.concepts[category][index] == value
            assert torch.equal((data.labels(index).maps == number).any(dim=0), expected)


def test_chosen_images_and_exchanged_labels():
    maps = torch.arange(5).view(5, 1, 1, 1) % 2
    data = TensorConcepts(torch.arange(5.0).view(5, 1, 1, 1) / 5, maps, torch.ones(5, 1, dtype=torch.bool), CONCEPTS)
    part = Chosen(data, [4, 1])
    assert len(part) == 2 and part.image(1) == data.image(1) and part.labels(1).maps == 1
    shuffled = shuffled_labels(data, 0)
    assert all(torch.equal(shuffled.image(i), data.image(i)) for i in range(5))
    assert sorted(shuffled.label_indices) == list(range(5)) != list(shuffled.label_indices)


def test_pipes_and_hidden_files_are_neither_tables_nor_images(folder, plain):
    (folder / "label.csv").unlink()
    os.mkfifo(folder / "label.csv")
    with pytest.raises(UserError, match="no file .*label.csv"):
        Broden(folder)
    (plain / "images" / "._a.png").write_bytes(b"of macOS")
    assert len(segmentation_folder(plain)) == 2
    (plain / "names.txt").unlink()
    os.mkfifo(plain / "names.txt")
    with pytest.raises(UserError, match=r"no file .*names.txt: its line n \+ 1"):
        segmentation_folder(plain)
