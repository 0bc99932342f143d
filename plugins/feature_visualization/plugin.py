"""How pictures of channels are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from interp.draw import stepped
from interp.errors import UserError
from interp.featurevis import CANVASES, COLOURS, activation_grid, colours, mosaic, objectives, render, start
from interp.featurevis.objective import Objective
from interp.featurevis.render import Rendered
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt, of_those_that_can
from interp.probe import Probe
from interp.result import finite
from plugins.base import Plugin, setting, spread_setting
from plugins.feature_visualization.result import FeatureVisualizationResult

OBJECTIVES = ("channel", "unit")
WIDEST = 512  # pixels of an activation grid in the result


@dataclass(kw_only=True)
class FeatureVisualizationPlugin(Plugin):
    """Draw what channels of layers look for (Olah et al. 2017, "Feature Visualization")."""

    layers: Sequence[str] = spread_setting(3)
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
        names, (rendered, channels, of_images) = of_those_that_can(
            left_out, [*layers], draw, settings=not self._by_rule
        )
        gridded = torch.linspace(0, len(probe) - 1, min(self.activation_grid, len(probe))).round().long().tolist()
        grids = attempt(left_out, "activation grids", lambda: self._grids(net, probe, names[-1], gridded))
        return FeatureVisualizationResult(
            images=probe.images,
            layers=tuple(name for name, of_layer in zip(names, channels, strict=True) for _ in of_layer),
            channels=torch.tensor([channel for of_layer in channels for channel in of_layer]),
            drawn=stepped(rendered.images), values=rendered.values, start=rendered.start,
            of_images=torch.cat(of_images), shown=self.shown,
            about=f"What excites each {self.objective}, by {self.steps} steps from grey noise.",
            grids=torch.zeros(0) if grids is None else grids, gridded=tuple(gridded), left_out=tuple(left_out),
        )  # fmt: skip

    def _draw(
        self, net: nn.Module, probe: Probe, layers: dict[str, Layer], names: list[str]
    ) -> tuple[Rendered, list[list[int]], list[Tensor]]:
        """Pictures of the named layers; of each the channels (n,) drawn, and their objective (n, B) on the images."""
        channels, of_images = [], []
        for name in names:
            activations = finite(layers[name].activations(net, probe.images, self.batch_size), f"activations of {name}")
            channels.append(self._channels_of(name, activations.shape[1]))
            of_images.append(self._measure(activations)[:, channels[-1]].T)
        of_layers = zip(names, channels, strict=True)
        parts = [(self._objective(name, of_layer), len(of_layer)) for name, of_layer in of_layers]
        return self._render(net, probe, parts), channels, of_images

    def _channels_of(self, layer: str, count: int) -> list[int]:
        """Channels of a layer with `count` of them: those named, or so many, evenly spread, the same in every epoch."""
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

    def _grids(self, net: nn.Module, probe: Probe, layer: str, gridded: list[int]) -> Tensor:
        """Activation grids (G, C, h, w) of the `gridded` images, at most WIDEST pixels wide and high."""
        if not gridded:
            return torch.zeros(0)
        matrix, size = colours(probe.images, self.colour), self._size(probe)
        grids = activation_grid(
            net, probe.images[gridded], layer, size=size, colour=matrix, seed=self.seed, steps=self.steps
        )
        pictures = mosaic(grids.cells, grids.norms)
        scale = min(1.0, WIDEST / max(pictures.shape[-2:]))
        small = [round(scale * side) for side in pictures.shape[-2:]]
        return nn.functional.interpolate(pictures, small, mode="bilinear", antialias=True) if scale < 1 else pictures
