"""Caricatures of the probe images at several layers, epoch by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from interp.angles import cosine, directions
from interp.attribution.trust import cascade
from interp.draw import enlarge, grid, rgb, stepped
from interp.errors import UserError, unknown
from interp.featurevis import CANVASES, COLOURS, Caricatures, attribution_caricatures, caricatures, start
from interp.network.layers import Layer, layers, spread_layers
from interp.network.modules import split
from interp.parts import attempt, drawn, each_of, of_those_that_can, omissions
from interp.probe import Probe
from interp.result import Result, longer_film
from interp.words import class_index, word
from plugins.base import Plugin, setting

WORDS = ("none", "true", "predicted")


@dataclass(frozen=True)
class CaricatureResult(Result):
    """For each image and layer a picture with a similar, stronger pattern of activations there."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names
    layers: tuple[str, ...]  # L names, early to late
    targets: tuple[str, ...]  # T: what the attribution is to; none: plain caricatures
    drawn: Tensor  # (B, T, L, C, H, W) in [0, 1], whole 255ths, as all pictures here
    cosine: Tensor  # (B, T, L) between the activations of picture and image at the layer
    start_cosine: Tensor  # (B, L) of the grey picture that it began from
    identified: Tensor  # (B, T, L) 1 where no image of another class is nearer to the picture, else 0; -1 without one
    control: Tensor  # (B, L, C, H, W) the plain caricatures of a network with random weights, or (0,)
    control_cosine: Tensor  # (B, L) that these reach in the network itself, or (0,)
    iterated: bool
    film: Tensor  # (E, B, C, H, W) the deepest layer's caricature of the first target at this look and earlier ones
    looks: tuple[int, ...]  # E numbers of these looks, from 0

    def following(self, previous: "CaricatureResult") -> "CaricatureResult":
        if self.layers != previous.layers or self.drawn.shape != previous.drawn.shape:
            return self
        film, looks = longer_film(previous.film, previous.looks, self.film)
        return replace(self, film=film, looks=looks)

    def scalars(self) -> dict[str, float]:
        by_layer = {f"cosine/{name}": float(self.cosine[:, 0, at].mean()) for at, name in enumerate(self.layers)}
        control = {"control_cosine": float(self.control_cosine.mean())} if len(self.control) else {}
        known = self.identified >= 0
        return {
            "cosine": float(self.cosine.mean()),
            "start_cosine": float(self.start_cosine.mean()),
            **({"identified": float(self.identified[known].mean())} if known.any() else {}),
            **by_layer,
            **control,
        }

    def pictures(self) -> dict[str, Tensor]:
        towards = ["" if target == "none" else f" > {target}" for target in self.targets]
        names = [f"{layer}{target}" for target in towards for layer in self.layers]
        makers = {"caricatures": lambda: self._sheet(self.drawn.flatten(1, 2), names)}
        if len(self.control):
            makers["control"] = lambda: self._sheet(self.control, self.layers)
        if len(self.looks) > 1:
            makers["film"] = self._film
        return drawn("picture", makers)

    def _film(self) -> Tensor:
        cells = torch.stack([enlarge(rgb(frame), _side(self.images)) for frame in self.film], dim=1)
        return grid(cells, self.labels, [f"{look}" for look in self.looks])

    def _sheet(self, drawn: Tensor, names: Sequence[str]) -> Tensor:
        side = _side(self.images)
        columns = [enlarge(rgb(column), side) for column in (self.images, *drawn.unbind(1))]
        return grid(torch.stack(columns, dim=1), self.labels, ["image", *names])

    @classmethod
    def compared(cls, results: dict[str, Self]) -> dict[str, tuple[Tensor, str]]:
        first = next(iter(results.values()))
        side = _side(first.images)
        fitting = {name: each for name, each in results.items() if torch.equal(each.images, first.images)}
        columns = [enlarge(rgb(first.images), side)]
        columns += [enlarge(rgb(each.drawn[:, 0, -1]), side) for each in fitting.values()]
        names = ["image", *(f"{name}: {each.layers[-1]}" for name, each in fitting.items())]
        cosines = ", ".join(f"{name} {float(each.cosine[:, 0, -1].mean()):.2f}" for name, each in fitting.items())
        text = f"The same images as each network's deepest chosen layer saw them. Mean cosines reached: {cosines}."
        return {"compared": (grid(torch.stack(columns, dim=1), first.labels, names), text)}

    def captions(self) -> dict[str, str]:
        plain = self.targets == ("none",)
        text = (
            "Pictures that excite a layer in the pattern in which the image does, but more. "
            if plain
            else "Pictures that excite what in each layer speaks for a target in this image. "
        )
        if self.iterated:
            text += "The attribution runs from layer to layer (its authors are not sure that this is principled). "
        share = self.scalars().get("identified")
        nearer = "there is no image of another class to be nearer to"
        if share is not None:
            nearer = f"{share:.0%} are nearer to their image than to any image of another class"
        text += (
            f"Mean cosine to the image's own activations {self.cosine.mean():.2f} (from grey: "
            f"{self.start_cosine.mean():.2f}); {nearer}. Where that is low, the picture says little about the image; "
            "where it is high, the network need not have learned anything: random weights reach it too, so compare "
            f"with epoch 0.{omissions(self.left_out)}"
        )
        film = f"The caricature at {self.layers[-1]} at earlier looks (columns; 0 is the first)."
        control = (
            "The same from a network with random weights: what stays recognisable here is not learnt. "
            f"In the network itself these reach a mean cosine of {self.control_cosine.mean():.2f}."
        )
        return {
            "caricatures": text,
            **({"film": film} if len(self.looks) > 1 else {}),
            **({"control": control} if len(self.control) else {}),
        }


def _side(images: Tensor) -> int:
    return 96 if max(images.shape[-2:]) <= 96 else 160


@dataclass(kw_only=True)
class CaricaturePlugin(Plugin):
    """Exaggerate how layers saw the probe's images (seed 002)."""

    layers: Sequence[str] = setting([], "none: up to 4, evenly spread over the computation (docs/layers.md)")
    targets: Sequence[str] = setting(
        ["none"],
        "none: the whole pattern; or what speaks for: true, predicted, class names, a later layer; side by side",
    )
    iterated: bool = setting(False, "run the attribution from layer to layer")
    images: int = setting(6, "of the probe, evenly spread over its classes", least=1)
    canvas: str = setting(
        "fft",
        "or pixel, aligned (the pictures share what is common), maco (with the spectrum of the probe images)",
        choices=[*CANVASES],
    )
    colour: str = setting("data", "directions in which the probe's colours vary; or imagenet, Lucid's", choices=COLOURS)
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
        chosen = torch.linspace(0, len(probe) - 1, min(self.images, len(probe))).round().long().to(probe.labels.device)
        images, labels = probe.images[chosen], probe.labels[chosen]
        names = list(self.layers) or [layer.name for layer in spread_layers(net, probe.images[:8])]
        self.layers = names
        targets = {target: self._target(net, probe, images, labels, target) for target in self.targets}
        canvas, transforms = start(self.canvas, probe.images, images.shape, colour=self.colour, seed=self.seed)
        options = {"canvas": canvas, "transforms": transforms, "steps": self.steps, "seed": self.seed}
        left_out: list[str] = []
        draw = partial(self._draw_all, net, images, targets, options)
        names, (found, failed) = of_those_that_can(left_out, names, draw, settings=not self._by_rule)
        at = [Layer.named(net, images, name) for name in names]
        seen = [self._identified(net, one, images, labels, at) for one in found.values()]
        control = None
        if self.control:
            control = attempt(failed, "control", lambda: self._control(net, images, names, at, options))
        controls, control_cosine = control or (torch.zeros(0),) * 2
        pictures = stepped(torch.stack([one.pictures for one in found.values()], dim=1))
        cosine = torch.stack([one.cosine for one in found.values()], dim=1)
        before = next(iter(found.values())).start_cosine
        return CaricatureResult(
            images, tuple(probe.class_names[j] if j >= 0 else "" for j in labels.tolist()), tuple(names), tuple(found),
            pictures, cosine, before, torch.stack(seen, dim=1), stepped(controls), control_cosine,
            self.iterated, film=pictures[None, :, 0, -1], looks=(0,), left_out=(*left_out, *failed),
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

    def _identified(
        self, net: nn.Module, drawn: Caricatures, images: Tensor, labels: Tensor, at: list[Layer]
    ) -> Tensor:
        """(B, L) 1 where no image of another class comes nearer to the picture's activations than its own image.

        -1 where there is no such image.
        """
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        other = (labels[:, None] != labels[None]) | ((labels < 0)[:, None] & ~itself)  # unknown classes may differ
        found = []
        for index, layer in enumerate(at):
            both = [layer.activations(net, x, self.batch_size).flatten(1) for x in (drawn.pictures[:, index], images)]
            alike = directions(both[0]) @ directions(both[1]).T
            nearest_other = alike.masked_fill(~other, -2).amax(dim=1)
            found.append((alike.diagonal() > nearest_other).float().masked_fill(~other.any(dim=1), -1))
        return torch.stack(found, dim=1)

    def _control(
        self, net: nn.Module, images: Tensor, names: Sequence[str], at: list[Layer], options: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Plain caricatures of a network with random weights, and the cosines that they reach in `net`."""
        random = next(cascade(net, stages=1))
        drawn = self._draw(random, images, names, None, options).pictures
        cosines = []
        for index, layer in enumerate(at):
            both = [layer.activations(net, x, self.batch_size).flatten(1) for x in (drawn[:, index], images)]
            cosines.append(cosine(both[0], both[1]))
        return drawn, torch.stack(cosines, dim=1)
