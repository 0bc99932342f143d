"""Image files of every kind: what they look like, and what is refused of hostile ones."""

import os
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from interp.dissection import segmentation_folder
from interp.errors import UserError
from interp.image_file import IMAGE_PIXELS, as_seen, middle, opened

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
UP = np.zeros((8, 12, 3), np.uint8)  # red above blue, green at the left edge
UP[:4, :, 0], UP[4:, :, 2], UP[:, :3] = 255, 255, (0, 255, 0)
STORED = {  # how the pixels lie in a file with this orientation
    1: UP, 2: UP[:, ::-1], 3: UP[::-1, ::-1], 4: UP[::-1], 5: UP.transpose(1, 0, 2), 6: UP.transpose(1, 0, 2)[::-1],
    7: UP.transpose(1, 0, 2)[::-1, ::-1], 8: UP.transpose(1, 0, 2)[:, ::-1],
}  # fmt: skip


def seen(path) -> np.ndarray:
    with opened(path) as image:
        return np.asarray(as_seen(image))


def turned(pixels: np.ndarray, orientation: int) -> dict:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_is_upright(orientation, ending, tmp_path):
    stored = np.ascontiguousarray(STORED[orientation]).repeat(8, axis=0).repeat(8, axis=1)  # whole JPEG blocks
    options = {"lossless": True} if ending == "webp" else {}
    options |= {"quality": 95, "subsampling": 0} if ending == "jpg" else {}
    Image.fromarray(stored).save(tmp_path / f"a.{ending}", **turned(stored, orientation), **options)
    assert np.abs(seen(tmp_path / f"a.{ending}")[4::8, 4::8].astype(int) - UP).max() < 9


def test_orientation_in_xmp_alone_and_beside_damaged_tags(tmp_path):
    xmp = PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>')
    Image.fromarray(np.ascontiguousarray(STORED[6])).save(tmp_path / "a.png", pnginfo=xmp)
    assert np.array_equal(seen(tmp_path / "a.png"), UP)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    damaged = exif.tobytes().replace(struct.pack(">HH", 0x010F, 2), struct.pack(">HH", 0x010F, 1))
    damaged = damaged.replace(struct.pack("<HH", 0x010F, 2), struct.pack("<HH", 0x010F, 1))
    assert damaged != exif.tobytes()
    Image.fromarray(np.ascontiguousarray(STORED[6])).save(tmp_path / "a.png", exif=damaged)
    assert np.array_equal(seen(tmp_path / "a.png"), UP)


@pytest.mark.parametrize("kind", ["g.png", "g.tif", "g.pgm", "big_endian.tif", "integers.tif", "floats.tif"])
def test_deep_grey_is_scaled_by_its_range(kind, tmp_path):
    deep = (RAMP * 65535).round()
    image = Image.fromarray(deep.astype(np.int32 if kind == "integers.tif" else np.uint16))
    if kind == "floats.tif":
        image = Image.fromarray(RAMP.astype(np.float32))
    elif kind == "big_endian.tif":
        image = Image.frombytes("I;16B", (64, 64), deep.astype(">u2").tobytes())
    image.save(tmp_path / kind)
    assert np.abs(seen(tmp_path / kind) - RAMP[..., None] * 255).max() <= 0.51


@pytest.mark.parametrize("pixels", [RAMP * 255, RAMP - 0.5, np.where(RAMP == 0, np.nan, RAMP), RAMP * 1e9])
def test_numbers_without_a_known_range_are_refused(pixels, tmp_path):
    pixels = pixels.astype(np.int32 if pixels.max() > 1e6 else np.float32)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="a.tif: (floats|32-bit integers) from .* is read; repair"):
        seen(tmp_path / "a.tif")


NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)


@pytest.mark.parametrize("alpha", [0, 100, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "tif"])
def test_transparent_pixels_lie_on_white(mode, alpha, tmp_path):
    pixels = NOISE.copy()
    pixels[..., 3] = alpha
    image = Image.fromarray(pixels)
    if mode == "LA":
        image = image.convert("LA")
    elif mode == "P":
        image = image.convert("RGB").quantize(16)
    colours = np.asarray(image.convert("RGB")).astype(float)
    if mode == "P":
        image.info["transparency"] = bytes([alpha] * 16)
    path = tmp_path / ("a.tif" if mode == "tif" else "a.png")
    image.save(path)
    assert np.abs(seen(path) - (255 + (colours - 255) * alpha / 255)).max() <= 1


def test_a_transparent_colour_is_white(tmp_path):
    for name, pixels in {"a": np.array([[7, 9]], np.uint8), "b": np.array([[7, 900]], np.uint16)}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", transparency=7)
        assert seen(tmp_path / f"{name}.png")[0, 0].tolist() == [255] * 3
        assert seen(tmp_path / f"{name}.png")[0, 1].max() < 10


def test_inks_and_two_values_have_their_colours(tmp_path):
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [0, 128, 255, 64]]])
    expected = 255 * (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255)
    wide = inks.astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    Image.frombytes("CMYK", (96, 16), wide.tobytes()).save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(seen(tmp_path / "cmyk.jpg")[8:9, 8::16] - expected).max() < 6
    # YCCK: the same file where Adobe's marker says that the first three channels hold Y, Cb and Cr of the inks
    colours = Image.fromarray(wide[..., :3]).convert("YCbCr")
    stored = np.concatenate([255 - np.asarray(colours), wide[..., 3:]], axis=2)
    Image.frombytes("CMYK", (96, 16), stored.tobytes()).save(tmp_path / "ycck.jpg", quality=100)
    content = (tmp_path / "ycck.jpg").read_bytes()
    marker = content.index(b"Adobe") + 11
    (tmp_path / "ycck.jpg").write_bytes(content[:marker] + b"\x02" + content[marker + 1 :])
    assert np.abs(seen(tmp_path / "ycck.jpg")[8:9, 8::16] - expected).max() < 8
    Image.fromarray(RAMP > 0.5).save(tmp_path / "two.png")
    assert np.array_equal(seen(tmp_path / "two.png")[..., 0], (RAMP > 0.5) * 255)


@pytest.mark.parametrize("ending", ["tif", "webp", "png"])
def test_the_first_of_several_frames_is_read(ending, tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if ending == "webp" else {}
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], **options)
    assert seen(tmp_path / f"a.{ending}").mean((0, 1)).tolist() == [255, 0, 0]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("content", [EPS, b"GIF89a" + bytes(20), b"", b"%PDF-1.7", b"<svg/>"])
def test_other_formats_are_refused_whatever_the_ending(content, tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match="a.png: it is damaged, or none of JPEG, PNG"):
        seen(tmp_path / "a.png")


def test_what_is_no_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    for name, why in (("pipe", "no regular file"), ("link", "no regular file"), ("dangling", "no such file")):
        with pytest.raises(UserError, match=f"{name}.png: .*{why}"):
            seen(tmp_path / f"{name}.png")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 9) if width * height < IMAGE_PIXELS else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_far_too_large_images_are_refused_before_they_are_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(bomb(10_000, 8_001))
    with pytest.raises(UserError, match=r"10000 x 8001 pixels, more than 80,000,000"):
        seen(tmp_path / "a.png")


def test_long_images_cost_no_more_than_their_middle(tmp_path):
    assert middle(3, 20_000) == (slice(0, 3), slice(9976, 10024)) and middle(20, 30) == (slice(0, 20), slice(0, 30))
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.png").write_bytes(bomb(20_000, 1))
    (tmp_path / "names.txt").write_text("background\ncat\n")
    data = segmentation_folder(tmp_path, size=224)
    assert data.image(0).shape == (3, 224, 224) and data.labels(0).maps.shape == (1, 112, 112)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("mask", ["stored", "upright", "turned"])
def test_a_mask_lies_as_its_image(mask, orientation, tmp_path):
    if mask == "upright" and STORED[orientation].shape == UP.shape:
        pytest.skip("of the same shape it is taken as stored")
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    stored = np.ascontiguousarray(STORED[orientation])
    Image.fromarray(stored).save(tmp_path / "images" / "a.png", **turned(stored, orientation))
    numbers = (UP if mask == "upright" else stored)[..., 2] // 255  # 1 where it is blue
    options = turned(stored, orientation) if mask == "turned" else {}
    Image.fromarray(numbers).save(tmp_path / "masks" / "a.png", **options)
    (tmp_path / "names.txt").write_text("background\nsea\n")
    data = segmentation_folder(tmp_path, size=8)
    sea = data.labels(0).maps[0] == 0
    assert torch.equal(sea, data.image(0)[2, 1::2, 1::2] > 0.5) and sea[2:].any() and not sea[:2].any()


def test_damage_is_told_in_one_line_with_the_name(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for length in range(0, len(whole) - 20, 7):
        (tmp_path / "a.png").write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"^cannot read the image {re.escape(str(tmp_path))}/a.png: [^\n]*$"):
            seen(tmp_path / "a.png")
