"""Where a render begins, by the names that a configuration uses."""

from collections.abc import Sequence

from torch import Tensor

from interp.errors import unknown
from interp.featurevis.canvas import Aligned, Canvas, Fft, Maco, Pixel, colour_matrix
from interp.featurevis.transforms import CROPS, Transforms, for_size

CANVASES = {"fft": Fft, "pixel": Pixel, "aligned": Aligned, "maco": Maco}
COLOURS = ("data", "imagenet")


def start(
    kind: str, images: Tensor, shape: Sequence[int], *, colour: str = "data", seed: int = 0
) -> tuple[Canvas, Transforms]:
    """The canvas called `kind` for pictures of `shape` (B, C, H, W), and the transforms that suit it.

    `images` (N, C, h, w) are of the data: with `colour` "data" three channels vary as theirs do, with "imagenet" as
    Lucid's matrix says; other channel counts are left as they are. Raises UserError for other names.
    """
    if kind not in CANVASES:
        raise unknown("canvas", kind, CANVASES)
    matrix = colours(images, colour)
    if kind == "maco":
        return Maco.like(images, shape, colour=matrix, seed=seed), CROPS
    canvas = CANVASES[kind].noise(shape, colour=matrix, seed=seed, device=images.device)
    return canvas, for_size(canvas.size)


def colours(images: Tensor, colour: str) -> Tensor | None:
    """The matrix that a canvas for data like `images` (N, C, h, w) takes: None for its own default."""
    if colour not in COLOURS:
        raise unknown("colour", colour, COLOURS)
    return colour_matrix(images) if colour == "data" and images.shape[1] == 3 else None
