"""A layer's output as a grid of positions with channels, whatever its layout: convolutions and transformers alike."""

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Where the positions and channels of a layer's output lie."""

    kind: str  # channels_first (B, C, H, W), channels_last (B, H, W, C) or tokens (B, T, C)
    height: int
    width: int
    prefix: int = 0  # tokens before the grid: class and register tokens

    def channels(self, shape: tuple[int, ...]) -> int:
        """How many channels an output of `shape` has."""
        return shape[1] if self.kind == "channels_first" else shape[-1]

    @property
    def about(self) -> str:
        """What a reader should know of the layout, '' where it is a convolution's."""
        if self.kind != "tokens":
            return ""
        left_out = {0: "", 1: ", the class token left out"}.get(self.prefix, f", {self.prefix} special tokens left out")
        return f" (tokens on their {self.height} x {self.width} grid{left_out})"

    def grid(self, output: Tensor) -> Tensor:
        """(B, C, H, W) of an output; class and register tokens are left out."""
        if self.kind == "channels_first":
            return output
        if self.kind == "channels_last":
            return output.movedim(-1, 1)
        return output[:, self.prefix :].movedim(-1, 1).unflatten(2, (self.height, self.width))

    def output(self, grid: Tensor) -> Tensor:
        """An output of the layer's own shape that holds `grid` (B, C, H, W), and zeros in class and register tokens.

        The transpose of `grid`: also what turns a change of positions into a change of the output.
        """
        if self.kind == "channels_first":
            return grid
        if self.kind == "channels_last":
            return grid.movedim(1, -1)
        tokens = grid.flatten(2).movedim(1, -1)
        return torch.cat([tokens.new_zeros(len(tokens), self.prefix, tokens.shape[2]), tokens], dim=1)


def layout(shape: tuple[int, ...], body: nn.Module) -> Layout | None:
    """The layout of a layer's output of `shape` in the network `body`, None where it has no grid of positions.

    Of four dimensions the channels come last where the first two of the others are equal and the third is not
    (Swin); of three, the tokens must fill a square grid (or the one of `body.patch_embed`) after the class and register
    tokens, whose count is the network's own (`num_prefix_tokens` of timm) or at most 5.
    """
    if len(shape) == 4:
        if shape[1] == shape[2] != shape[3]:
            return Layout("channels_last", shape[1], shape[2])
        return Layout("channels_first", shape[2], shape[3])
    if len(shape) != 3:
        return None
    own = getattr(getattr(body, "patch_embed", None), "grid_size", None)
    prefixes = range(6)
    if (count := getattr(body, "num_prefix_tokens", None)) is not None:
        prefixes = range(count, count + 1)
    for prefix in prefixes:
        tokens = shape[1] - prefix
        if own and tokens == own[0] * own[1]:
            return Layout("tokens", own[0], own[1], prefix)
        if tokens > 0 and isqrt(tokens) ** 2 == tokens:
            return Layout("tokens", isqrt(tokens), isqrt(tokens), prefix)
    return None
