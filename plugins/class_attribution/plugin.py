"""How class attributions are asked for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from interp.attribution import Tail, all_classes
from interp.factorization import nmf
from interp.network.layers import Layer, choose_layer
from interp.network.replica import precise
from interp.parts import each_of, omissions
from interp.probe import Probe
from interp.processes.share import everyones, handed_in, part
from interp.result import finite
from interp.vectors import energy, fraction
from plugins.base import Plugin, setting
from plugins.class_attribution.result import ClassAttributionResult

log = logging.getLogger(__package__)  # the study's own name in train.log, not that of a file of it
CLASSES = ("all", "top", "weighted")
STRONGEST = 100  # classes that "top" keeps
Factorised = tuple[Tensor, Tensor, Tensor, Tensor]
AT_ONCE = 4  # images: few, so that processes can share those of a small probe


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
        layers = self._layers(net, probe)
        left_out: list[str] = []
        rest, precision = precise(net, probe.images[:1])
        makers = {layer.name: partial(self._attributed, net, probe, layer, rest) for layer in layers}
        attributed = each_of(left_out, makers)
        names_of_all, left_of_all = everyones(list(attributed)), everyones(left_out)
        layers = [layer for layer in layers if all(layer.name in names for names in names_of_all)]
        left_out = list(dict.fromkeys(text for texts in left_of_all for text in texts))
        if not layers:
            raise ValueError(f"nothing can be attributed{omissions(left_out)}")
        columns = handed_in(*(column for layer in layers for column in attributed[layer.name]))
        pairs = zip(layers, columns[::2], columns[1::2], strict=True)
        factorised = each_of(left_out, {layer.name: partial(self._factorised, layer, *pair) for layer, *pair in pairs})
        layers = [layer for layer in layers if layer.name in factorised]
        return self._result(probe, layers, factorised, precision, left_out)

    def _layers(self, net: nn.Module, probe: Probe) -> list[Layer]:
        """Those that are named, or one by rule, which keeps its name for later epochs."""
        names: list[str | None] = [*self.layers] or [None]
        layers = [choose_layer(net, probe.images[:8], name, signed=True) for name in names]
        self.layers = [layer.name for layer in layers]
        for layer in [layer for layer in layers if not layer.non_negative]:
            log.warning("class attribution at %s, which has negative outputs: labels there mean little", layer.name)
        return layers

    def _result(
        self, probe: Probe, layers: list[Layer], factorised: dict[str, Factorised], precision: str, left_out: list[str]
    ) -> ClassAttributionResult:
        sizes = [maps.shape[2:] for maps, *_ in factorised.values()]
        finest = max(sizes, key=lambda size: size[0] * size[1])
        maps = [nn.functional.interpolate(maps, finest, mode="nearest-exact") for maps, *_ in factorised.values()]
        _, weights, errors, negative = zip(*factorised.values(), strict=True)
        return ClassAttributionResult(
            images=probe.images,
            labels=tuple(probe.label_names()),
            layers=tuple(layer.name for layer in layers),
            maps=torch.stack(maps),
            weights=torch.stack(weights),
            relative_error=torch.stack(errors),
            negative_share=torch.stack(negative),
            class_names=probe.class_names,
            shown=self.shown,
            about=self._about(layers, precision),
            left_out=tuple(left_out),
        )

    def _about(self, layers: list[Layer], precision: str) -> str:
        about = {"all": "all classes", "top": f"each image's {STRONGEST} strongest classes"}
        about["weighted"] = "all classes by the root of their probability"
        smooth = self.smooth * " (max pooling smoothed: it can hide what the network does)"
        tokens = "".join(dict.fromkeys(layer.about for layer in layers))
        return about[self.classes] + tokens + precision + smooth

    def _attributed(
        self, net: nn.Module, probe: Probe, layer: Layer, rest: nn.Module
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Attributions (n, J, h, w) and logits (n, J) of this process's share of the images, batch by batch."""
        size = min(AT_ONCE, self.batch_size)
        share = part(len(probe), size)
        batches = probe.images[share.start : share.stop].split(size) if share else ()
        tails = (Tail(net, images, layer, rest) for images in batches)
        with torch.no_grad():
            pairs = [(all_classes(t, smooth=self.smooth, chunk=self.batch_size), t(t.activations)) for t in tails]
        return [attributions for attributions, _ in pairs], [logits for _, logits in pairs]

    def _factorised(self, layer: Layer, attributions: Tensor, logits: Tensor) -> Factorised:
        """Maps (B, F, h, w), weights (B, F, J), relative errors (B,) and negative shares (B,)."""
        finite(attributions, f"the attributions at {layer.name}")
        scale = self._scale(logits)
        rows = (attributions * scale[..., None, None]).flatten(2).mT.contiguous()  # (B, P, J)
        negative = fraction(energy(rows.clamp_max(0), (1, 2)), energy(rows, (1, 2))).float()
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
