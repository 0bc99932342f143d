"""How caricatures are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from interp.attribution.random_copies import cascade, some, tells_apart
from interp.draw import stepped
from interp.errors import UserError, unknown
from interp.featurevis import Caricatures, attribution_caricatures, caricatures
from interp.network.layers import Layer, layers, spread_layers
from interp.network.modules import split
from interp.parts import attempt, each_of, of_those_that_can
from interp.probe import Probe
from interp.words import class_index, word
from plugins.base import Drawing, Plugin, setting, spread_setting
from plugins.caricature.likeness import cosines, identified, moved, recognised
from plugins.caricature.result import CaricatureResult

WORDS = ("none", "true", "predicted")


@dataclass(kw_only=True)
class CaricaturePlugin(Drawing, Plugin):
    """Exaggerate how layers saw the probe's images (seed 002)."""

    layers: Sequence[str] = spread_setting(4)
    targets: Sequence[str] = setting(
        ["none"],
        "none: the whole pattern; or what speaks for: true, predicted, class names, a later layer; side by side",
    )
    iterated: bool = setting(False, "run the attribution from layer to layer")
    images: int = setting(6, "of the probe, evenly spread over its classes", least=1)
    steps: int = setting(64, "of the optimisation", least=1)
    power: float = setting(0.0, "of Lucid's objective: larger stays closer to the image")
    cosine_power: float = setting(
        1.0, "of the true cosine: larger stays closer to the image; 0 with power 0 is Lucid's default"
    )
    control: bool = setting(False, "also draw the caricatures of a network with random weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._by_rule = not self.layers
        self.targets = ["none" if target is None else word(target) for target in self.targets]
        if not self.targets:
            raise UserError(f"plugin.{self.name}.targets is empty: name one of {', '.join(WORDS)}, a class or a layer")

    def analyze(self, net: nn.Module, probe: Probe) -> CaricatureResult:
        indices = torch.linspace(0, len(probe) - 1, min(self.images, len(probe))).round().long().to(probe.labels.device)
        images, labels = probe.images[indices], probe.labels[indices]
        names = list(self.layers) or [layer.name for layer in spread_layers(net, probe.images[:8])]
        self.layers = names
        targets = {target: self._target(net, probe, images, labels, target) for target in self.targets}
        recipe = self.recipe(self.steps, self.seed)
        recipe.check(net, images, (images.shape[2], images.shape[3]), f"plugin.{self.name}")
        canvas = recipe.begin(probe.images, images.shape)
        options = {"canvas": canvas, "penalised": recipe.penalised, **recipe.options(canvas.size)}
        left_out: list[str] = []
        draw = partial(self._draw_all, net, images, targets, options)
        names, (by_target, failed) = of_those_that_can(left_out, names, draw, settings=not self._by_rule)
        chosen_layers = [Layer.named(net, images, name) for name in names]
        pictures = stepped(torch.stack([of_target.pictures for of_target in by_target.values()], dim=1))
        return CaricatureResult(
            images=images, labels=tuple(probe.label_names()[b] for b in indices.tolist()),
            layers=tuple(names), targets=tuple(by_target), drawn=pictures,
            **self._likeness(net, by_target, images, labels, chosen_layers, canvas()),
            **self._control(net, probe, images, names, chosen_layers, options, failed), iterated=self.iterated,
            film=pictures[None, :, 0, -1], looks=(0,), left_out=(*left_out, *failed),
        )  # fmt: skip

    def _draw_all(
        self,
        net: nn.Module,
        images: Tensor,
        targets: dict[str, Tensor | str | None],
        options: dict[str, Any],
        names: list[str],
    ) -> tuple[dict[str, Caricatures], list[str]]:
        """What is drawn towards each target that allows it, and what does not."""
        failed: list[str] = []
        makers = {name: partial(self._draw, net, images, names, target, options) for name, target in targets.items()}
        return each_of(failed, makers), failed

    def _target(self, net: nn.Module, probe: Probe, images: Tensor, labels: Tensor, target: str) -> Tensor | str | None:
        """Classes (B,), the name of a layer, or None for the plain caricature."""
        if target == "none":
            return None
        if target == "predicted" or (target == "true" and bool((labels < 0).any())):
            with torch.no_grad():
                return net(images).argmax(dim=1)
        if target == "true":
            return labels
        if (index := class_index(target, probe.class_names)) is not None:
            return torch.full_like(labels, index)
        if split(target)[0] in layers(net):
            return target
        raise unknown(f"plugin.{self.name}.targets", target, [*WORDS, *probe.class_names, *layers(net)])

    def _draw(
        self, net: nn.Module, images: Tensor, names: Sequence[str], target: Tensor | str | None, options: dict[str, Any]
    ) -> Caricatures:
        if target is None and not self.iterated:
            return caricatures(net, images, names, power=self.power, cosine_power=self.cosine_power, **options)
        return attribution_caricatures(net, images, names, target, iterated=self.iterated, **options)

    def _likeness(
        self,
        net: nn.Module,
        by_target: dict[str, Caricatures],
        images: Tensor,
        labels: Tensor,
        chosen_layers: list[Layer],
        start: Tensor,
    ) -> dict[str, Tensor]:
        """The fields that say how like their images the caricatures are at the chosen layers."""
        of_targets = list(by_target.values())
        nearest = [identified(net, of.pictures, images, labels, chosen_layers, self.batch_size) for of in of_targets]
        return {
            "cosine": torch.stack([of.cosine for of in of_targets], dim=1),
            "start_cosine": of_targets[0].start_cosine,
            "identified": torch.stack(nearest, dim=1),
            "recognised": torch.stack([recognised(net, of.pictures, images, self.batch_size) for of in of_targets], 1),
            "start_recognised": recognised(net, start[:, None], images, self.batch_size)[:, 0],
        }

    def _control(
        self,
        net: nn.Module,
        probe: Probe,
        images: Tensor,
        names: Sequence[str],
        chosen_layers: list[Layer],
        options: dict[str, Any],
        failed: list[str],
    ) -> dict[str, Tensor]:
        """The fields of the plain caricatures of a network with random weights; empty where they are not asked for.

        `failed` gets the reason where they cannot be drawn.
        """

        def draw() -> dict[str, Tensor]:
            random = next(cascade(net, probe.images, stages=1))
            pictures = self._draw(random, images, names, None, options).pictures
            sound = moved(pictures, options["canvas"]())
            for index, layer in enumerate(chosen_layers):
                sound[:, index] *= tells_apart(layer.activations(random, some(probe.images), self.batch_size))
            reached = cosines(net, pictures, images, chosen_layers, self.batch_size)
            return {"control": stepped(pictures), "control_cosine": reached, "control_sound": sound}

        fields = attempt(failed, "control", draw) if self.control else None
        return fields or dict.fromkeys(("control", "control_cosine", "control_sound"), torch.zeros(0))
