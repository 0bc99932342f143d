"""Where the positions of a layer lie: from the types of layers, and from what moves where the image changes."""

from collections.abc import Iterator, Sequence
from functools import cache
from math import nan

import torch
from torch import Tensor, nn

from interp.network.positions import AXES, MAPS, Layout
from interp.vectors import directions

SPECIAL = 8  # class and register tokens of an image, at most; two of them may come after the others
# How far the places where a layer changes must agree with those where the image did; tokens for pieces of it that are
# not square, which are rare, clearly.
AGREEMENT, CLEAR_AGREEMENT = 0.65, 0.85
# The image is cut into as many rows and columns; in each row one tile is changed, in this column: in no order.
_COLUMNS = (3, 1, 5, 0, 4, 2)
_CONVOLUTIONAL = (
    nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.PixelShuffle, nn.Upsample,
)  # fmt: skip


def told(module: nn.Module) -> str:
    """The kind of four-dimensional tensors that a layer of a known type reads and writes, '' for other layers."""
    if isinstance(module, _CONVOLUTIONAL):
        return "channels_first"
    own = type(module).forward  # a subclass may take its input otherwise, as LayerNorm2d does
    rows = own in (nn.LayerNorm.forward, nn.RMSNorm.forward) and len(module.normalized_shape) == 1  # type: ignore[arg-type]
    return "channels_last" if rows or own is nn.Linear.forward else ""


def changed(image: Tensor) -> Tensor:
    """`image` (C, H, W) in [0, 1] as it is, and changed in one tile a row of tiles: (7, C, H, W)."""
    images = image.repeat(len(_COLUMNS) + 1, 1, 1, 1)
    height, width = image.shape[-2:]
    for row, column in enumerate(_COLUMNS):
        tile = images[row + 1, :, _tile(row, height), _tile(column, width)]
        tile.copy_((tile < 0.5).to(tile))
    return images


def _tile(number: int, side: int) -> slice:
    """The pixels of a tile along a `side`, at least one."""
    start, end = (place * side // len(_COLUMNS) for place in (number, number + 1))
    return slice(start, max(end, start + 1))


def evidence(output: Tensor, size: Sequence[int], guess: Layout | None = None) -> tuple[Layout | None, float]:
    """The layout of an `output` for `changed` images in which the positions that change are those of the tiles.

    And how far these agree, at most 1; NaN where nothing changes. `size` is (height, width) of the images. Of several
    layouts the one that agrees most, or a `guess` that agrees clearly.
    """
    best: tuple[Layout | None, float] = None, nan
    for kind in _kinds(output.shape):
        maps = output.detach().movedim(AXES[kind], (0, 1)).float()
        moved = directions((maps[1:] - maps[:1]).flatten(2), (1, 2))
        change = moved.square().sum(dim=1).cpu().double()  # (6, positions)
        if not (change.isfinite().all() and change.any(dim=1).all()):
            continue
        change = change / change.sum(dim=1, keepdim=True)
        if guess and guess.kind == kind and (agreement := _agreement(guess, change)) > CLEAR_AGREEMENT:
            return guess, agreement
        for at in _layouts(kind, output.shape, change.shape[1], size):
            if not best[1] >= (agreement := _agreement(at, change)):
                best = at, agreement
    return best


def follows(at: Layout | None, agreement: float, size: Sequence[int]) -> bool:
    """Whether a layout and its `agreement` are those of positions in images of `size` (height, width)."""
    if at is None or min(at.height, at.width) < 2:
        return False
    square = at.kind in MAPS or abs(at.height * size[1] / size[0] - at.width) < 1
    return agreement >= (AGREEMENT if square else CLEAR_AGREEMENT)


def _kinds(shape: Sequence[int]) -> list[str]:
    by_dimensions = {3: ("tokens", "tokens_first", "flattened"), 4: MAPS}
    return [kind for kind in by_dimensions.get(len(shape), ()) if shape[AXES[kind][0]] == len(_COLUMNS) + 1]


def _layouts(kind: str, shape: Sequence[int], count: int, size: Sequence[int]) -> Iterator[Layout]:
    """Those that are possible; of tokens rows alone, columns alone, and pieces up to four times as long as wide."""
    if kind in MAPS:
        height, width = (shape[axis] for axis in range(4) if axis not in AXES[kind])
        yield Layout(kind, height, width)
        return
    for prefix in range(SPECIAL + 1):
        for suffix in range(min(2, SPECIAL - prefix) + 1):
            tokens = count - prefix - suffix
            for height in (height for height in range(1, tokens + 1) if tokens % height == 0):
                longer = height * size[1] / (tokens // height * size[0])
                if height in (1, tokens) or 1 / 4 <= longer <= 4:
                    yield Layout(kind, height, tokens // height, prefix, suffix)


def _agreement(at: Layout, change: Tensor) -> float:
    """Cosine of where each image's change lies (6, positions), less the mean over images, with where its tile lies.

    Both as shares in the tiles, to which positions belong the more the nearer they are, and in special tokens.
    """
    grid = change.narrow(1, at.prefix, at.height * at.width).unflatten(1, (at.height, at.width))
    special = torch.cat([change[:, : at.prefix], change[:, change.shape[1] - at.suffix :]], dim=1)
    seen = torch.cat([(_near(at.height) @ grid @ _near(at.width).T).flatten(1), special], dim=1)
    seen, expected = seen - seen.mean(dim=0), _expected()
    length = float(seen.norm() * expected.norm())
    return float((seen[:, : expected.shape[1]] * expected).sum()) / length if length > 0 else 0.0


@cache
def _expected() -> Tensor:
    """Shares (6, 36) of the tiles near the one that is changed in each image, less the mean over images."""
    tiles = _near(len(_COLUMNS))
    shares = (tiles.T[:, :, None] * tiles.T[list(_COLUMNS), None]).flatten(1)
    return shares - shares.mean(dim=0)


@cache
def _near(side: int) -> Tensor:
    """Shares (6, side) in which positions along a side of a grid belong to the rows or columns of tiles."""
    places = (torch.arange(side).double() + 0.5) / side * len(_COLUMNS) - 0.5
    tiles = torch.arange(len(_COLUMNS)).double()
    return (-(tiles[:, None] - places).square() / 2).softmax(dim=0)
