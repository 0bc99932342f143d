"""How pictures are drawn, by the names that a configuration uses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import UserError, unknown
from interp.featurevis.canvas import LARGE, Aligned, Canvas, Fft, Maco, Pixel, colour_matrix, usual_detail
from interp.featurevis.objective import Objective
from interp.featurevis.objectives import l1, l2, total_variation
from interp.featurevis.transforms import CROPS, NAMED, Transforms, for_size

CANVASES = {"fft": Fft, "pixel": Pixel, "aligned": Aligned, "maco": Maco}
COLOURS = ("data", "imagenet")
PENALTIES = {"total_variation": total_variation, "l1": l1, "l2": l2}


@dataclass(frozen=True)
class Recipe:
    """What a render is told beside its objective."""

    canvas: str = "fft"  # one of CANVASES
    colour: str = "imagenet"  # one of COLOURS
    detail: float | None = None  # of the pixels that is drawn of fft and aligned canvases, None: by size
    transforms: str | None = None  # one of NAMED, None: what suits canvas and size
    feed: int | None = None  # pixels of the shorter side of what the network gets, None: as the transforms leave it
    learning_rate: float | None = None  # None: the canvas's own
    steps: int | None = None  # None: what suits the size
    penalties: tuple[tuple[str, float], ...] = ()  # of PENALTIES, each with its weight
    seed: int = 0

    def begin(self, images: Tensor, shape: Sequence[int], shown: Tensor | None = None) -> Canvas:
        """The canvas for pictures of `shape` (B, C, H, W) of data like `images` (N, C, h, w).

        It is grey noise or, where they are given, the images `shown` (B, C, H, W).
        """
        if self.canvas not in CANVASES:
            raise unknown("canvas", self.canvas, CANVASES)
        matrix = colours(images, self.colour)
        if shown is not None:
            detail = usual_detail((shape[2], shape[3])) if self.detail is None else self.detail
            return CANVASES[self.canvas].of(shown, colour=matrix, detail=detail)
        if self.canvas == "maco":
            return Maco.like(images, shape, colour=matrix, seed=self.seed)
        chosen = CANVASES[self.canvas]
        return chosen.noise(shape, colour=matrix, seed=self.seed, device=images.device, detail=self.detail)

    def options(self, size: tuple[int, int]) -> dict[str, Any]:
        """What `render` takes for pictures of `size` (H, W)."""
        rate, moves = self.learning_rate, self._moves(size)
        steps = self.steps or usual_steps(size)
        return {"transforms": moves, "steps": steps, "seed": self.seed, "learning_rate": rate}

    @torch.no_grad()
    def check(self, net: nn.Module, images: Tensor, size: tuple[int, int], key: str) -> None:
        """Raise UserError where `net`, of `images` (B, C, h, w), does not take what pictures of `size` (H, W) come to.

        Many take images of one size only. `key` is where the settings stand.
        """
        height, width = self._moves(size).frame(size)
        if (height, width) == images.shape[2:]:
            return
        try:
            net(images.new_full((2, images.shape[1], height, width), 0.5))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise UserError(
                f"{key}: the network does not take the {height} x {width} pixels that size, feed={self.feed} and "
                f"transforms={self.transforms} come to, only {images.shape[2]} x {images.shape[3]}: leave all null"
            ) from error

    def penalised(self, objective: Objective) -> Objective:
        """The objective less the weighted penalties."""
        for name, weight in self.penalties:
            if weight:
                objective = objective - PENALTIES[name]() * weight
        return objective

    def _moves(self, size: tuple[int, int]) -> Transforms:
        if self.transforms is not None and self.transforms not in NAMED:
            raise unknown("transforms", self.transforms, NAMED)
        usual = CROPS if self.canvas == "maco" else for_size(size)
        moves = usual if self.transforms is None else NAMED[self.transforms]
        if self.feed is None:
            return moves
        scale = self.feed / min(size)
        return replace(moves, feed=(round(scale * size[0]), round(scale * size[1])))


def usual_steps(size: tuple[int, int]) -> int:
    """Steps after which pictures of `size` (H, W) mean most for what they cost (docs/pictures.md)."""
    return 64 if min(size) > LARGE else 48


def colours(images: Tensor, colour: str) -> Tensor | None:
    """The matrix that a canvas for data like `images` (N, C, h, w) takes: None for its own default.

    With `colour` "data" three channels vary as those of the images do, with "imagenet" as Lucid's matrix says; other
    channel counts are left as they are. Raises UserError for other names.
    """
    if colour not in COLOURS:
        raise unknown("colour", colour, COLOURS)
    return colour_matrix(images) if colour == "data" and images.shape[1] == 3 else None
