"""Folders of images as people have them: hidden files, other formats, damaged images."""

import logging
import os
import re

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from interp.errors import UserError
from interp.lit.data import ImageData
from interp.lit.data.folder import ImageFiles, image_folder, images
from tests.data.test_sources import folder


def damage(path):
    """The header stays whole, the pixels do not."""
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:2000])


def test_hidden_files_are_neither_images_nor_classes(tmp_path, caplog):
    root = folder(tmp_path / ".cache" / "root")
    for part in ("train", "val"):
        for name in (".ipynb_checkpoints", "__MACOSX", ".git"):
            (root / part / name).mkdir()
            (root / part / name / "a.png").write_bytes(b"")
        for name in ("._0.png", ".hidden.jpg", "Thumbs.db", "notes.txt"):
            (root / part / "cat" / name).write_bytes(b"")
        (root / part / "dog" / ".ipynb_checkpoints").mkdir()
        (root / part / "dog" / ".ipynb_checkpoints" / "0-checkpoint.png").write_bytes(b"")
    splits = image_folder(str(root), size=8)
    assert splits.class_names == ("cat", "dog") and len(splits.train) == len(splits.val) == 6
    assert len(images(str(root), size=8).val) == 12 and not caplog.records


def test_photographs_without_a_class_are_called_by_their_file_in_the_order_of_the_names(tmp_path):
    for name in ("sea.png", "a/2.png", "a/10.png", "b b.png", "caf\udce9.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (len(name), 0, 0)).save(tmp_path / name, format="png")
    data = ImageData(images, root=str(tmp_path), size=8, class_names=["x"], probe_images=5)
    assert data.probe.label_names() == ["a/10.png", "a/2.png", "b b.png", r"caf\udce9.png", "sea.png"]
    red = (data.probe.images[:, 0, 0, 0] * 255).round().tolist()
    assert red == [8, 7, 7, 8, 7]
    assert ImageFiles([tmp_path / "sea.png"], [-1], 8).image_names == ["sea.png"]
    labelled = ImageData(image_folder, root=str(folder(tmp_path / "root")), size=8, probe_images=4).probe
    assert labelled.label_names() == ["cat", "cat", "dog", "dog"]


def test_files_of_other_formats_are_counted_once(tmp_path, caplog):
    root = folder(tmp_path)
    for place, name in (("train/cat", "a.HEIC"), ("val/dog", "b.heic"), ("train/dog", "c.gif"), ("train/dog", "d")):
        (root / place / name).write_bytes(b"?")
    Image.new("RGB", (9, 9)).save(root / "train" / "cat" / "UPPER.JPEG")
    splits = image_folder(str(root), size=8)
    told = "2 files ending in .heic, 1 file ending in .gif, 1 file without an ending are not read: convert them to JPEG"
    assert [told in record.getMessage() for record in caplog.records] == [True] and len(splits.train) == 7
    (root / "train" / "cow").mkdir()
    (root / "train" / "cow" / "a.dng").write_bytes(b"?")
    with pytest.raises(UserError, match=r"no images in .*/cow; .* 1 file ending in .dng is not read: convert it to"):
        image_folder(str(root))
    with pytest.raises(UserError, match=r"no images in data.root=.*/cow: .* 1 file ending in .dng is not read"):
        images(str(root / "train" / "cow"))


def test_links_to_files_are_followed_and_pipes_never_opened(tmp_path):
    root = folder(tmp_path / "root")
    Image.new("RGB", (9, 9), "white").save(tmp_path / "elsewhere.png")
    (root / "train" / "cat" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    assert image_folder(str(root), size=8).train[3][0].min() == 1
    os.mkfifo(root / "train" / "dog" / "pipe.png")
    with pytest.raises(UserError, match="pipe.png: it is no regular file; repair or remove it$"):
        image_folder(str(root))


def test_what_is_no_image_is_named_before_anything_is_trained(tmp_path):
    root = folder(tmp_path)
    for number in range(3):
        (root / "train" / "cat" / f"{number}.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    named = f"cannot read the image {root}/train/cat/0.png: .*. Nor can 2 more: {root}/train/cat/1.png, {root}/train"
    with pytest.raises(UserError, match=named):
        image_folder(str(root))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_reported_once_and_the_next_of_its_class_stands_in(workers, tmp_path, capfd):
    root = folder(tmp_path, count=4)
    damage(root / "train" / "cat" / "1.png")
    damage(root / "train" / "cat" / "2.png")
    Image.new("RGB", (9, 9), "white").save(root / "train" / "cat" / "3.png")
    handler = logging.StreamHandler()  # as in a run: workers write to the terminal
    logging.getLogger("interp.lit.data.folder").addHandler(handler)
    try:
        train = image_folder(str(root), size=8).train
        epochs = [torch.cat([x for x, _ in DataLoader(train, 2, num_workers=workers)]) for _ in range(3)]
    finally:
        logging.getLogger("interp.lit.data.folder").removeHandler(handler)
    assert torch.equal(epochs[0], epochs[2]) and (epochs[0][1:4] == 1).all() and epochs[0][0].max() < 1
    lines = capfd.readouterr().err.splitlines()
    named = [re.search(r"cannot read the image .*/(\d).png: .* until then .*/(\d).png stands", line) for line in lines]
    assert sorted(match.groups() for match in named) == [("1", "3"), ("2", "3")]


@pytest.mark.parametrize("workers", [0, 1])
def test_without_a_readable_image_the_error_is_one_line(workers, tmp_path):
    damage(tmp_path / "a.png")
    files = ImageFiles([tmp_path / "a.png"] * 2, [0, 0], 8)
    with pytest.raises(UserError, match=r"^cannot read the image \S+/a.png: [^\n]*$"):
        next(iter(DataLoader(files, 2, num_workers=workers)))
