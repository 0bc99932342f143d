"""What channels of layers look for: pictures optimised to excite them, beside the probe images that do so most."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from interp.draw import enlarge, grid, note, rgb, stepped
from interp.errors import UserError
from interp.featurevis import CANVASES, COLOURS, activation_grid, colours, mosaic, objectives, render, start
from interp.featurevis.objective import Objective
from interp.featurevis.render import Rendered
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt, drawn, of_those_that_can, omissions
from interp.probe import Probe
from interp.result import Result, finite
from plugins.base import Plugin, setting

OBJECTIVES = ("channel", "unit")
WIDEST = 512  # pixels of an activation grid in the result


@dataclass(frozen=True)
class FeatureVisualizationResult(Result):
    """Pictures of some channels of some layers, with the probe images that excite them most and least."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1], the probe
    layers: tuple[str, ...]  # N names, one a picture
    channels: Tensor  # (N,) int64
    drawn: Tensor  # (N, C, H', W') in [0, 1], whole 255ths
    values: Tensor  # (N,) the objective on the picture
    start: Tensor  # (N,) the objective on the grey noise that it began from
    of_images: Tensor  # (N, B) the objective on the probe images
    shown: int  # of the most and of the least activating images
    about: str
    grids: Tensor  # (G, C, h, w) in [0, 1], the activation grids of the deepest layer, or (0,)
    gridded: tuple[int, ...]  # G indices of the images that these are of

    def scalars(self) -> dict[str, float]:
        best = self.of_images.amax(dim=1)
        alive = best > 0
        ratio = (self.values[alive] / best[alive]).median() if alive.any() else torch.tensor(0.0)
        return {
            "value": float(self.values.mean()),
            "gain_over_images": float(ratio),
            "beats_images": float((self.values > best).float().mean()),
            "silent_channels": float(((best <= 0) & (self.values <= self.start)).sum()),
        }

    def pictures(self) -> dict[str, Tensor]:
        grids = {"activation_grid": self._activation_grid} if len(self.grids) else {}
        return drawn("picture", {"channels": self._channels} | grids)

    def _channels(self) -> Tensor:
        side, count = 96, min(self.shown, len(self.images))
        order = self.of_images.argsort(dim=1, descending=True, stable=True)
        thumbnails = enlarge(rgb(self.images), side)
        white = torch.ones(3)
        best = self.of_images.amax(dim=1)
        rows = torch.stack([self.values, best, self.of_images.amin(dim=1), self.start], dim=1).tolist()
        said = ("picture", "best", "least", "grey")
        lines = [[(f"{name} {value:.3g}", white) for name, value in zip(said, row, strict=True)] for row in rows]
        notes = torch.stack([note(each, side) for each in lines])[:, None]
        most, least = thumbnails[order[:, :count]], thumbnails[order[:, len(self.images) - count :]]
        cells = torch.cat([enlarge(rgb(self.drawn), side)[:, None], notes, most, least], dim=1)
        names = [f"{layer}: {channel}" for layer, channel in zip(self.layers, self.channels.tolist(), strict=True)]
        columns = ["picture", "objective", "most", *[""] * (count - 1), *[""] * (count - 1), "least"]
        return grid(cells, names, columns)

    def _activation_grid(self) -> Tensor:
        wide = max(self.grids.shape[-2:])
        beside = [enlarge(rgb(each), wide) for each in (self.images[list(self.gridded)], self.grids)]
        return grid(torch.stack(beside, dim=1), (), ["image", self.layers[-1]])

    def captions(self) -> dict[str, str]:
        found = self.scalars()
        text = (
            f"{self.about} Beside each picture its objective, and the probe images that excite the channel most and "
            f"least. {found['beats_images']:.0%} of the pictures excite their channel more than any probe image does, "
            f"the median {found['gain_over_images']:.1f} times as much: a picture far below 1 has found nothing, one "
            f"far above shows what no image of the data contains.{omissions(self.left_out)}"
        )
        grids = (
            "Every position of the deepest layer (at most 8 rows and columns, evenly spread) drawn as what excites the "
            "pattern of channels that fires there; the area is in proportion to how strongly it fires. Each cell "
            "is a picture of its own, not a piece of the image, and shows what the network could respond to."
        )
        return {"channels": text, "activation_grid": grids} if len(self.grids) else {"channels": text}


@dataclass(kw_only=True)
class FeatureVisualizationPlugin(Plugin):
    """Draw what channels of layers look for (Olah et al. 2017, "Feature Visualization")."""

    layers: Sequence[str] = setting([], "none: up to 3, evenly spread over the computation (docs/layers.md)")
    channels: int | Sequence[int] = setting(6, "so many of each layer, evenly spread; or a list of them")
    objective: str = setting("channel", "its mean over positions; or unit: at the centre", choices=OBJECTIVES)
    canvas: str = setting(
        "fft",
        "or pixel, aligned (the pictures share what is common), maco (with the spectrum of the probe images)",
        choices=[*CANVASES],
    )
    colour: str = setting("data", "directions in which the probe's colours vary; or imagenet, Lucid's", choices=COLOURS)
    size: int | None = setting(None, "pixels; null: as the images")
    steps: int = setting(96, "of the optimisation", least=1)
    shown: int = setting(3, "probe images on each side", least=1)
    activation_grid: int = setting(
        0,
        "of so many probe images; every position of the deepest layer drawn: a render of up to 64 pictures each",
        least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._by_rule = not self.layers

    def analyze(self, net: nn.Module, probe: Probe) -> FeatureVisualizationResult:
        named = [Layer.named(net, probe.images, name) for name in self.layers]
        layers = {layer.name: layer for layer in named or spread_layers(net, probe.images[:8], count=3)}
        self.layers, left_out = list(layers), list[str]()
        draw = partial(self._draw, net, probe, layers)
        names, (found, chosen, of_images) = of_those_that_can(left_out, [*layers], draw, settings=not self._by_rule)
        gridded = torch.linspace(0, len(probe) - 1, min(self.activation_grid, len(probe))).round().long().tolist()
        grids = attempt(left_out, "activation grids", lambda: self._grids(net, probe, names[-1], gridded))
        return FeatureVisualizationResult(
            probe.images, tuple(name for name, own in zip(names, chosen, strict=True) for _ in own),
            torch.tensor([channel for own in chosen for channel in own]), stepped(found.images), found.values,
            found.start, torch.cat(of_images), self.shown,
            f"What excites each {self.objective}, by {self.steps} steps from grey noise.",
            torch.zeros(0) if grids is None else grids, tuple(gridded), left_out=tuple(left_out),
        )  # fmt: skip

    def _draw(
        self, net: nn.Module, probe: Probe, layers: dict[str, Layer], names: list[str]
    ) -> tuple[Rendered, list[list[int]], list[Tensor]]:
        """Pictures of the named layers; of each the channels (n,) drawn, and their objective (n, B) on the images."""
        chosen, of_images = [], []
        for name in names:
            activations = finite(layers[name].activations(net, probe.images, self.batch_size), f"activations of {name}")
            chosen.append(self._chosen(activations.shape[1], name))
            of_images.append(self._measure(activations)[:, chosen[-1]].T)
        parts = [(self._objective(name, own), len(own)) for name, own in zip(names, chosen, strict=True)]
        return self._render(net, probe, parts), chosen, of_images

    def _chosen(self, count: int, layer: str) -> list[int]:
        """The channels of a layer: those named, or so many, evenly spread and the same in every epoch."""
        if isinstance(self.channels, int):
            return torch.linspace(0, count - 1, min(max(1, self.channels), count)).round().long().tolist()
        for channel in self.channels:
            if not 0 <= channel < count:
                raise UserError(f"plugin.{self.name}.channels: {channel} is not in {layer}, which has 0 to {count - 1}")
        return list(self.channels)

    def _measure(self, activations: Tensor) -> Tensor:
        """The objective (B, C) of each channel on images with these activations (B, C, h, w)."""
        if self.objective == "channel":
            return activations.mean(dim=(2, 3))
        return activations[:, :, activations.shape[2] // 2, activations.shape[3] // 2]

    def _objective(self, layer: str, channels: list[int]) -> Objective:
        make = {"channel": objectives.channel, "unit": objectives.unit}[self.objective]
        return make(layer, torch.tensor(channels))

    def _size(self, probe: Probe) -> tuple[int, int]:
        height, width = probe.images.shape[2:]
        return self.size or height, self.size or width

    def _render(self, net: nn.Module, probe: Probe, parts: list[tuple[Objective, int]]) -> Rendered:
        shape = (sum(count for _, count in parts), probe.images.shape[1], *self._size(probe))
        canvas, transforms = start(self.canvas, probe.images, shape, colour=self.colour, seed=self.seed)
        return render(net, canvas, parts, steps=self.steps, seed=self.seed, transforms=transforms)

    def _grids(self, net: nn.Module, probe: Probe, layer: str, chosen: list[int]) -> Tensor:
        """Activation grids (G, C, h, w) of the `chosen` images, at most WIDEST pixels wide and high."""
        if not chosen:
            return torch.zeros(0)
        matrix, size = colours(probe.images, self.colour), self._size(probe)
        drawn = activation_grid(
            net, probe.images[chosen], layer, size=size, colour=matrix, seed=self.seed, steps=self.steps
        )
        pictures = mosaic(drawn.cells, drawn.norms)
        scale = min(1.0, WIDEST / max(pictures.shape[-2:]))
        small = [round(scale * side) for side in pictures.shape[-2:]]
        return nn.functional.interpolate(pictures, small, mode="bilinear", antialias=True) if scale < 1 else pictures
