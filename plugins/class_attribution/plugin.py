"""Attributions of all classes at layers, factorised: what in an image speaks for which classes."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor, nn

from interp.attribution import Tail, all_classes
from interp.draw import enlarge, grid, hues, note, rgb
from interp.draw.table import html_table, thumbnails
from interp.factorization import match_groups, nmf
from interp.network.layers import Layer, choose_layer
from interp.network.replica import precise
from interp.parts import each_of, omissions
from interp.probe import Probe
from interp.processes.share import everyones, handed_in, part
from interp.result import Cell, Result, finite
from plugins.base import Plugin, setting

log = logging.getLogger(__name__)
CLASSES = ("all", "top", "weighted")
STRONGEST = 100  # classes that "top" keeps
Factorised = tuple[Tensor, Tensor, Tensor, Tensor]
AT_ONCE = 4  # images: few, so that processes can share those of a small probe


@dataclass(frozen=True)
class ClassAttributionResult(Result):
    """The attributions of all classes at each of some layers, factorised image by image."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names
    layers: tuple[str, ...]  # L names
    maps: Tensor  # (L, B, F, h, w) how much each factor pushes at each position, on the finest layer's grid
    weights: Tensor  # (L, B, F, J) how much each factor pushes each class in all, in logits
    relative_error: Tensor  # (L, B) of the factorisation, 0 to 1
    negative_share: Tensor  # (L, B) of the attributions' energy: it is left out
    class_names: tuple[str, ...]  # J names
    shown: int  # labels of each factor
    about: str  # what else to know before believing it

    def following(self, previous: "ClassAttributionResult") -> "ClassAttributionResult":
        if self.layers != previous.layers or self.weights.shape != previous.weights.shape:
            return self
        maps, weights = self.maps.clone(), self.weights.clone()
        for at in torch.cartesian_prod(torch.arange(len(self.layers)), torch.arange(len(self.images))).tolist():
            order, _ = match_groups(self.weights[tuple(at)], previous.weights[tuple(at)])
            maps[tuple(at)], weights[tuple(at)] = maps[tuple(at)][order], weights[tuple(at)][order]
        return replace(self, maps=maps, weights=weights)

    def top(self) -> tuple[Tensor, Tensor]:
        """Weights and classes (L, B, F, n) of the strongest labels of each factor."""
        return self.weights.topk(min(self.shown, len(self.class_names)), dim=3)

    def scalars(self) -> dict[str, float]:
        maps = nn.functional.normalize(self.maps.flatten(3), dim=3)  # a dead factor stays 0
        factors = maps.shape[2]
        overlap = (maps @ maps.mT).triu(diagonal=1).sum(dim=(2, 3)) / max(1, factors * (factors - 1) / 2)
        return {
            "relative_error": float(self.relative_error.mean()),
            "negative_share": float(self.negative_share.mean()),
            "separation": float((1 - overlap.mean()).clamp(0, 1)) if factors > 1 else 0.0,
            "concentration": float(self.top()[0].sum() / self.weights.sum().clamp_min(1e-12)),
        }

    def pictures(self) -> dict[str, Tensor]:
        side = 176
        factors = self.maps.shape[2]
        colours = self.colours(factors)
        cells, names = [enlarge(rgb(self.images), side)], ["image"]
        for maps, weights, classes, layer in zip(self.maps, *self.top(), self.layers, strict=True):
            cells += [enlarge(mixed(maps, colours), side), self._notes(weights, classes, colours, side)]
            names += [layer, ""]
        return {"factors": grid(torch.stack(cells, dim=1), self.labels, names)}

    def _notes(self, weights: Tensor, classes: Tensor, colours: Tensor, side: int) -> Tensor:
        def lines(row: Tensor, names: Tensor) -> list[tuple[str, Tensor]]:
            shown = max(1, 10 // len(colours))
            return [
                (f"{self.class_names[j]} ({w:.2g})", colour)
                for colour, ws, js in zip(colours, row, names, strict=True)
                for w, j in list(zip(ws.tolist(), js.tolist(), strict=True))[:shown]
                if w > 0
            ]

        return torch.stack([note(lines(row, names), side) for row, names in zip(weights, classes, strict=True)])

    @staticmethod
    def colours(factors: int) -> Tensor:
        """Blue and orange for two factors, as in the source; else evenly spaced hues."""
        return torch.tensor([[0.25, 0.55, 1.0], [1.0, 0.55, 0.1]]) if factors == 2 else hues(factors)

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        rows: list[list[Cell]] = []
        for layer, image, factor, labels in self._found():
            picture = self._where(layer, image, factor)
            at: list[Cell] = [self.layers[layer], image, self.labels[image], factor + 1]
            rows += [[*at, label, weight, picture] for label, weight in labels]
        columns = ["layer", "image", "class", "factor", "label", "logits", "where"]
        return {"labels": (columns, rows)}

    def _found(self) -> Iterator[tuple[int, int, int, list[tuple[str, float]]]]:
        """Layer, image, factor, and the factor's strongest labels with what it adds to their logits."""
        weights, classes = self.top()
        for layer, image, factor in product(*map(range, weights.shape[:3])):
            pairs = zip(*(part[layer, image, factor].tolist() for part in (classes, weights)), strict=True)
            yield layer, image, factor, [(self.class_names[j], weight) for j, weight in pairs if weight > 0]

    def _where(self, layer: int, image: int, factor: int) -> Tensor:
        """The image, dark where the factor does not push."""
        maps = self.maps[layer, image]
        return thumbnails(self.images[image, None], maps[None, factor] / maps[factor].amax().clamp_min(1e-30))[0]

    def widgets(self) -> dict[str, str]:
        rows = [
            [self.layers[layer], image, self.labels[image], factor + 1, ", ".join(f"{n} ({w:.3g})" for n, w in labels)]
            for layer, image, factor, labels in self._found()
        ]
        columns = ["layer", "image", "class", "factor", "strongest labels (logits)"]
        return {"table": html_table(columns, rows, self.captions()["factors"])}

    def captions(self) -> dict[str, str]:
        error, negative = (float(part.mean()) for part in (self.relative_error**2, self.negative_share))
        return {
            "factors": (
                f"Gradient x activation for {self.about} at every position, negative values set to zero, "
                f"factorised image by image. Brightness: how much is pushed there; hue: which factor. Beside it each "
                f"factor's strongest labels with what it adds to their logits. On average the factors leave {error:.0%}"
                f" of the positive energy unexplained, and {negative:.0%} of all energy was negative."
                f"{omissions(self.left_out)}"
            )
        }


def mixed(maps: Tensor, colours: Tensor) -> Tensor:
    """Maps (B, F, h, w) >= 0 as colours (B, 3, h, w): brightness is their sum over the image's largest, hue their mix.

    A weak position is dark, not grey.
    """
    total = maps.sum(dim=1, keepdim=True)
    brightness = total / total.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)
    return torch.einsum("bfhw,fc->bchw", maps / total.clamp_min(1e-30), colours) * brightness


@dataclass(kw_only=True)
class ClassAttributionPlugin(Plugin):
    """Factorise the attributions of all classes at layers ("The Building Blocks of Interpretability"; seed 000)."""

    shares: ClassVar[bool] = True

    layers: Sequence[str] = setting(
        [], "none: the deepest that the whole answer passes through (docs/layers.md); several stand side by side"
    )
    factors: int = setting(2, "of each layer's attributions", least=1)
    classes: str = setting(
        "all", "or top: each image's 100 strongest; or weighted: each by the root of its probability", choices=CLASSES
    )
    smooth: bool = setting(
        False, "smooth gradients through max pooling: a cleaner picture that may hide what the network does"
    )
    shown: int = setting(5, "labels of each factor", least=1)

    def analyze(self, net: nn.Module, probe: Probe) -> ClassAttributionResult:
        names: list[str | None] = [*self.layers] or [None]
        layers = [choose_layer(net, probe.images[:8], name, signed=True) for name in names]
        self.layers = [layer.name for layer in layers]
        for layer in [layer for layer in layers if not layer.non_negative]:
            log.warning("class attribution at %s, which has negative outputs: labels there mean little", layer.name)
        left_out: list[str] = []
        rest, precision = precise(net, probe.images[:1])
        made = each_of(left_out, {at.name: partial(self._attributed, net, probe, at, rest) for at in layers})
        names_of_all, left_of_all = everyones(list(made)), everyones(left_out)
        layers = [layer for layer in layers if all(layer.name in names for names in names_of_all)]
        left_out = list(dict.fromkeys(text for texts in left_of_all for text in texts))
        if not layers:
            raise ValueError(f"nothing can be attributed{omissions(left_out)}")
        columns = handed_in(*(column for layer in layers for column in made[layer.name]))
        pairs = zip(layers, columns[::2], columns[1::2], strict=True)
        found = each_of(left_out, {at.name: partial(self._factorised, at, *own) for at, *own in pairs})
        return self._result(probe, [layer for layer in layers if layer.name in found], found, precision, left_out)

    def _result(
        self, probe: Probe, layers: list[Layer], found: dict[str, Factorised], precision: str, left_out: list[str]
    ) -> ClassAttributionResult:
        sizes = [maps.shape[2:] for maps, *_ in found.values()]
        finest = max(sizes, key=lambda size: size[0] * size[1])
        maps = [nn.functional.interpolate(maps, finest, mode="nearest-exact") for maps, *_ in found.values()]
        _, weights, errors, negative = zip(*found.values(), strict=True)
        about = {"all": "all classes", "top": f"each image's {STRONGEST} strongest classes"}
        about["weighted"] = "all classes by the root of their probability"
        smooth = self.smooth * " (max pooling smoothed: it can hide what the network does)"
        tokens = "".join(dict.fromkeys(layer.about for layer in layers))
        return ClassAttributionResult(
            probe.images, tuple(probe.label_names()), tuple(layer.name for layer in layers), torch.stack(maps),
            torch.stack(weights), torch.stack(errors), torch.stack(negative), probe.class_names, self.shown,
            about[self.classes] + tokens + precision + smooth, left_out=tuple(left_out),
        )  # fmt: skip

    def _attributed(
        self, net: nn.Module, probe: Probe, layer: Layer, rest: nn.Module
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Attributions (n, J, h, w) and logits (n, J) of this process's share of the images, batch by batch."""
        size = min(AT_ONCE, self.batch_size)
        mine = part(len(probe), size)
        batches = probe.images[mine.start : mine.stop].split(size) if mine else ()
        tails = (Tail(net, images, layer, rest) for images in batches)
        with torch.no_grad():
            pairs = [(all_classes(t, smooth=self.smooth, chunk=self.batch_size), t(t.activations)) for t in tails]
        return [attributions for attributions, _ in pairs], [logits for _, logits in pairs]

    def _factorised(self, layer: Layer, attributions: Tensor, logits: Tensor) -> Factorised:
        """Maps (B, F, h, w), weights (B, F, J), relative errors (B,) and negative shares (B,)."""
        finite(attributions, f"the attributions at {layer.name}")
        scale = self._scale(logits)
        rows = (attributions * scale[..., None, None]).flatten(2).mT.contiguous()  # (B, P, J)
        energy = rows.square().sum(dim=(1, 2)).clamp_min(1e-30)
        negative = rows.clamp_max(0).square().sum(dim=(1, 2)) / energy
        fitting = min(self.factors, *rows.shape[1:])
        factors = nmf(rows.clamp_min(0), fitting)
        maps = factors.spatial.mT.unflatten(2, attributions.shape[2:])
        weights = (
            factors.channel * maps.sum(dim=(2, 3))[..., None] / scale[:, None].clamp_min(1e-30) * (scale[:, None] > 0)
        )
        order = maps.flatten(2).sum(dim=2).argsort(dim=1, descending=True, stable=True)
        maps = maps.gather(1, order[..., None, None].expand_as(maps))
        weights = weights.gather(1, order[..., None].expand_as(weights))
        return maps, weights, factors.relative_error.float(), negative

    def _scale(self, logits: Tensor) -> Tensor:
        """What each class's attributions (B, J) are multiplied with before they are factorised."""
        if self.classes == "all":
            return torch.ones_like(logits)
        if self.classes == "weighted":
            return logits.softmax(dim=1).sqrt()
        strongest = logits.topk(min(STRONGEST, logits.shape[1]), dim=1).indices
        return torch.zeros_like(logits).scatter(1, strongest, 1.0)
