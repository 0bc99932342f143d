"""How pictures of channels are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from interp.draw import stepped
from interp.errors import UserError
from interp.featurevis.recipe import usual_steps
from interp.network.layers import Layer, choose_layer, spread_layers
from interp.parts import attempt, of_those_that_can
from interp.probe import Probe
from interp.result import finite
from interp.words import class_index, word
from plugins.base import Drawing, Plugin, setting, spread_setting
from plugins.feature_visualization.pictures import OBJECTIVES, Asked, Drawn, Wanted, draw, grids, is_head
from plugins.feature_visualization.result import FeatureVisualizationResult


@dataclass(kw_only=True)
class FeatureVisualizationPlugin(Drawing, Plugin):
    """Draw what channels of layers look for (Olah et al. 2017, "Feature Visualization")."""

    layers: Sequence[str] = spread_setting(3)
    channels: int | Sequence[int | str] = setting(
        6, "so many of each layer, evenly spread; or a list; of the layer of logits class names as well", least=1
    )
    objective: str = setting("channel", "its mean over positions; or unit: at the centre", choices=OBJECTIVES)
    pictures: int = setting(1, "of each channel", least=1)
    diversity: float = setting(1.0, "weight of how alike the pictures of one channel may not be", least=0)
    begin: str = setting("noise", "or image: the probe image that excites the channel most", choices=("noise", "image"))
    distance: float = setting(0.0, "weight of the distance to that image's activations, with begin: image", least=0)
    transparency: bool | None = setting(None, "pictures show where pixels mattered; null: those of maco do")
    size: int | None = setting(None, "pixels; null: as the images", least=4)
    steps: int | None = setting(
        None, "of the optimisation; null: 64 above 64 pixels, else 48; pictures that gain nothing more stop", least=1
    )
    shown: int = setting(3, "probe images on each side", least=1)
    activation_grid: int = setting(
        0,
        "of so many probe images; every position of the deepest layer drawn: a render of up to 64 pictures each",
        least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._by_rule = not self.layers
        self._check_beginning()
        if not isinstance(self.channels, int):
            self.channels = [channel if isinstance(channel, int) else word(channel) for channel in self.channels]
            if not self.channels:
                raise UserError(f"plugin.{self.name}.channels is empty: name channels, or give a number such as 6")

    def _check_beginning(self) -> None:
        if self.begin == "image" and self.canvas == "maco":
            raise UserError(
                f"plugin.{self.name}.canvas=maco cannot begin with an image: take canvas=fft or begin=noise"
            )
        if self.begin != "image" and self.distance:
            raise UserError(f"plugin.{self.name}.distance={self.distance} is to a first image: it takes begin=image")

    def analyze(self, net: nn.Module, probe: Probe) -> FeatureVisualizationResult:
        named = [Layer.named(net, probe.images, name) for name in self.layers]
        layers = {layer.name: layer for layer in named or spread_layers(net, probe.images[:8], count=3)}
        self.layers, left_out = list(layers), list[str]()
        attempts = partial(self._draw, net, probe, layers)
        names, (drawn, wanted, of_images) = of_those_that_can(left_out, [*layers], attempts, settings=not self._by_rule)
        gridded = torch.linspace(0, len(probe) - 1, min(self.activation_grid, len(probe))).round().long().tolist()
        drawn_grids = attempt(left_out, "activation grids", partial(self._grids, net, probe, names[-1], gridded))
        transparent = self.canvas == "maco" if self.transparency is None else self.transparency
        return FeatureVisualizationResult(
            images=probe.images,
            layers=tuple(of_layer.layer for of_layer in wanted for _ in of_layer.channels),
            channels=torch.tensor([channel for of_layer in wanted for channel in of_layer.channels]),
            drawn=stepped(drawn.rendered.images), values=drawn.values, start=drawn.start, kept=drawn.kept,
            of_images=torch.cat(of_images), shown=self.shown, about=self._about(probe),
            grids=torch.zeros(0) if drawn_grids is None else drawn_grids, gridded=tuple(gridded),
            left_out=tuple(left_out),
            influence=stepped(drawn.rendered.influence) if transparent else torch.zeros(0),
            steps=drawn.rendered.steps, most_steps=self._steps(probe),
            class_names=tuple(name for of_layer in wanted for name in of_layer.class_names),
        )  # fmt: skip

    def _steps(self, probe: Probe) -> int:
        return self.steps or usual_steps(self._size(probe))

    def _about(self, probe: Probe) -> str:
        begin = "grey noise" if self.begin == "noise" else "the image that excites it most"
        return f"What excites each {self.objective}, by {self._steps(probe)} steps from {begin}."

    def _draw(
        self, net: nn.Module, probe: Probe, layers: dict[str, Layer], names: list[str]
    ) -> tuple[Drawn, list[Wanted], list[Tensor]]:
        """Pictures of the named layers' channels, what was wanted, and the objective (n, B) of each on the images."""
        wanted, of_images = [], []
        for name in names:
            activations = finite(layers[name].activations(net, probe.images, self.batch_size), f"activations of {name}")
            class_names = probe.class_names if is_head(net, probe.images, name) else ()
            chosen = self._channels_of(name, activations.shape[1], class_names)
            channels = [channel for channel in chosen for _ in range(self.pictures)]
            of_images.append(self._measure(activations)[:, channels].T)
            style = self._style(net, probe, layers[name]) if self.pictures > 1 and self.diversity else name
            names_of_classes = tuple(class_names[channel] if class_names else "" for channel in channels)
            wanted.append(Wanted(name, channels, style, of_images[-1].argmax(dim=1), names_of_classes))
        asked = Asked(self.objective, self.begin == "image", self.distance, self.diversity)
        recipe, size = self.recipe(self.steps, self.seed), self._size(probe)
        recipe.check(net, probe.images, size, f"plugin.{self.name}")
        return draw(net, probe.images, size, recipe, asked, wanted), wanted, of_images

    def _style(self, net: nn.Module, probe: Probe, layer: Layer) -> str:
        """Where pictures of one channel must differ: at the layer, or the last with positions before one without."""
        if layer.layout.kind != "vector":
            return layer.name
        try:
            return choose_layer(net, probe.images[:8], signed=True).name
        except UserError as error:
            fix = "pictures that must differ in style take a layer with positions: take pictures=1 or diversity=0"
            raise UserError(f"plugin.{self.name}.pictures={self.pictures}: {fix} ({error})") from error

    def _channels_of(self, layer: str, count: int, class_names: Sequence[str]) -> list[int]:
        """Channels of a layer with `count` of them: those named, or so many, evenly spread, the same in every epoch."""
        if isinstance(self.channels, int):
            return torch.linspace(0, count - 1, min(max(1, self.channels), count)).round().long().tolist()
        numbers = []
        for channel in self.channels:
            number = channel if isinstance(channel, int) else class_index(channel, class_names)
            if number is None or not 0 <= number < count:
                classes = f" or a class ({', '.join(class_names[:20])})" if class_names else ""
                raise UserError(
                    f"plugin.{self.name}.channels: {channel} is not in {layer}, which has 0 to {count - 1}{classes}"
                )
            numbers.append(number)
        return numbers

    def _measure(self, activations: Tensor) -> Tensor:
        """The objective (B, C) of each channel on images with these activations (B, C, h, w)."""
        if self.objective == "channel":
            return activations.mean(dim=(2, 3))
        return activations[:, :, activations.shape[2] // 2, activations.shape[3] // 2]

    def _size(self, probe: Probe) -> tuple[int, int]:
        height, width = probe.images.shape[2:]
        return self.size or height, self.size or width

    def _grids(self, net: nn.Module, probe: Probe, layer: str, gridded: list[int]) -> Tensor:
        """Activation grids (G, C, h, w) of the `gridded` images."""
        recipe = self.recipe(self.steps, self.seed)
        return grids(net, probe.images, gridded, layer, self._size(probe), recipe) if gridded else torch.zeros(0)
