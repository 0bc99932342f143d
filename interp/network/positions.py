"""A layer's output as a grid of positions with channels, whatever its layout: convolutions and transformers alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from torch import Tensor, nn

# The axes of images and of channels by kind: (B, C, H, W), (B, H, W, C), (B, T, C), (T, B, C), (B, C, T), (B, C).
AXES = {
    "channels_first": (0, 1), "channels_last": (0, 3), "tokens": (0, 2), "tokens_first": (1, 2), "flattened": (0, 1),
    "vector": (0, 1),
}  # fmt: skip
MAPS = ("channels_first", "channels_last")


@dataclass(frozen=True)
class Layout:
    """Where the positions and channels of a layer's output lie."""

    kind: str  # one of AXES
    height: int
    width: int
    prefix: int = 0  # class and register tokens before those of the grid
    suffix: int = 0  # the same after them

    def channels(self, shape: Sequence[int]) -> int:
        """How many channels an output of `shape` has."""
        return shape[AXES[self.kind][1]]

    @property
    def special(self) -> int:
        """How many class and register tokens each image has besides those of the grid."""
        return self.prefix + self.suffix

    @property
    def about(self) -> str:
        """What a reader should know of the layout, '' where it is a convolution's."""
        if self.kind == "vector":
            return " (a vector: it has one position)"
        if self.kind in MAPS:
            return ""
        left_out = {0: "", 1: ", the class token left out"}
        note = left_out.get(self.special, f", {self.special} special tokens left out")
        return f" (tokens on their {self.height} x {self.width} grid{note})"

    def grid(self, output: Tensor) -> Tensor:
        """(B, C, H, W) of an output; class and register tokens are left out."""
        if self.kind == "vector":
            return output[:, :, None, None]
        moved = output.movedim(AXES[self.kind], (0, 1))
        if self.kind in MAPS:
            return moved
        return moved.narrow(2, self.prefix, self.height * self.width).unflatten(2, (self.height, self.width))

    def output(self, grid: Tensor) -> Tensor:
        """An output of the layer's own shape that holds `grid` (B, C, H, W), and zeros in class and register tokens.

        The transpose of `grid`: also what turns a change of positions into a change of the output.
        """
        if self.kind == "vector":
            return grid.flatten(1)
        if self.kind not in MAPS:
            grid = nn.functional.pad(grid.flatten(2), (self.prefix, self.suffix))
        return grid.movedim((0, 1), AXES[self.kind])


def layout(shape: tuple[int, ...], body: nn.Module) -> Layout | None:
    """The likeliest layout of a layer's output of `shape` in the network `body`, None where it has no grid.

    By the shape alone, for layers that do not change with the image: of four dimensions the channels come last where
    the first two of the others are equal and the third is not (Swin); of three, the tokens must fill a square grid (or
    the one of `body.patch_embed`) after the class and register tokens, whose count is the network's own
    (`num_prefix_tokens` of timm) or at most 5.
    """
    if len(shape) == 4:
        if shape[1] == shape[2] != shape[3]:
            return Layout("channels_last", shape[1], shape[2])
        return Layout("channels_first", shape[2], shape[3])
    if len(shape) != 3:
        return None
    grid_size = getattr(getattr(body, "patch_embed", None), "grid_size", None)
    prefixes = range(6)
    if (count := getattr(body, "num_prefix_tokens", None)) is not None:
        prefixes = range(count, count + 1)
    for prefix in prefixes:
        tokens = shape[1] - prefix
        if grid_size and tokens == grid_size[0] * grid_size[1]:
            return Layout("tokens", grid_size[0], grid_size[1], prefix)
        if tokens > 0 and isqrt(tokens) ** 2 == tokens:
            return Layout("tokens", isqrt(tokens), isqrt(tokens), prefix)
    return None
