"""Image files of other people: read as they are meant to look, and whatever is wrong with one is said with its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from interp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

# Named, since for others Pillow starts programs: Ghostscript for EPS, whatever a file's name ends in.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")
SYSTEM = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information", "lost+found")
IMAGE_PIXELS = 80_000_000  # at most, below where Pillow warns: a small file can hold a picture that fills memory
LONGEST = 16  # times the shorter side: of a longer image the middle, which is all that a square at its centre shows
ORIENTATION = 0x0112  # EXIF's tag
PAPER = 255  # what lies under transparent pixels


def hidden(name: str) -> bool:
    """Whether a file or folder is hidden or some program's own, so that it is neither an image nor a class.

    >>> hidden(".ipynb_checkpoints"), hidden("._cat.jpg"), hidden("Thumbs.db"), hidden("cat.jpg")
    (True, True, True, False)
    """
    return name.startswith(".") or name.lower() in SYSTEM


@contextmanager
def opened(path: Path, kind: str = "image") -> Iterator["Image"]:
    """The image at `path`, its size known and its pixels not yet decoded.

    Raises UserError that names the file for what is no regular file, none of `FORMATS` or larger than `IMAGE_PIXELS`,
    and for whatever goes wrong with the image in the body.
    """
    from PIL import Image

    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise OSError("it is no regular file" if path.exists() else "there is no such file")
        with Image.open(path, formats=FORMATS) as image:
            check_size(image)
            yield image
    except UserError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise anything
        raise UserError(f"cannot read the {kind} {path}: {_reason(error)}; repair or remove it") from error


def orientation(image: "Image") -> int:
    """How the stored pixels lie, 1 (upright) to 8, as EXIF counts; for TIFF to be asked before the pixels are read."""
    return image.getexif().get(ORIENTATION, 1)


def check_size(image: "Image") -> None:
    """Raise ValueError for an image of more than `IMAGE_PIXELS` pixels."""
    if image.width * image.height > IMAGE_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {IMAGE_PIXELS:,}")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"it is damaged, or none of {', '.join(FORMATS)}"
    return " ".join(str(error).split()) or type(error).__name__


def as_seen(image: "Image") -> "Image":
    """The image as a viewer shows it, mode RGB: upright, as EXIF says, and `flat`. Of several frames it is the first.

    Raises ValueError for numbers outside of what is read.
    """
    turn_upright(image)
    return flat(image)


def flat(image: "Image") -> "Image":
    """The image in mode RGB, 8 bits a channel, with white paper under transparent pixels.

    16-bit grey is divided by 65,535, the largest number of the type (32-bit integers count as 16-bit ones), floats are
    taken as they are from 0 to 1; numbers outside raise ValueError. Colour profiles (ICC) are left out of account, as
    by the data sets that networks are trained on.
    """
    if image.mode.startswith(("I", "F")):
        return _grey(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    from PIL import Image

    layer = image.convert("RGBA")
    sheet = Image.new("RGB", layer.size, (PAPER,) * 3)
    sheet.paste(layer, mask=layer.getchannel("A"))
    return sheet


def turn_upright(image: "Image") -> None:
    """Turn or mirror the image in place as its EXIF data say; damaged ones say nothing."""
    from PIL import ImageOps

    image.load()
    image.getexif()
    for key in (
        "exif",
        "Raw profile type exif",
    ):  # Pillow would write them anew, and raise where other tags are damaged
        image.info.pop(key, None)
    ImageOps.exif_transpose(image, in_place=True)


def _grey(image: "Image") -> "Image":
    """An image of mode I;16, I or F with values in its range, as RGB."""
    from PIL import Image

    values, most = np.asarray(image), 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= most):  # NaN is neither
        kind = "floats" if most == 1 else "32-bit integers"
        raise ValueError(f"{kind} from {values.min():g} to {values.max():g}, where 0 to {most:,} is read")
    grey = (values * np.float32(255 / most)).round().astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        grey[values == clear] = PAPER
    return Image.fromarray(grey).convert("RGB")


def middle(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of at most `LONGEST` times the shorter side, about the centre: enlarging these is affordable.

    >>> middle(1, 20)
    (slice(0, 1, None), slice(2, 18, None))
    """
    most = LONGEST * min(height, width)
    firsts = [max(0, side - most) // 2 for side in (height, width)]
    return slice(firsts[0], firsts[0] + min(height, most)), slice(firsts[1], firsts[1] + min(width, most))
