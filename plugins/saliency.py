"""What in an image a network's answer depends on, before training and after each epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.attribution import saliency
from interp.attribution.saliency import spearman
from interp.draw import divergent, enlarge, grid, rgb
from interp.errors import UserError, unknown
from interp.probe import Probe
from interp.result import Result, finite
from plugins.base import Plugin

PANELS = ("source", "baseline", "saliency", "delta", "overlay")


@dataclass(frozen=True)
class SaliencyResult(Result):
    """The five panels of the interrogation document for each probe image."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names, of the target
    gradient: Tensor  # (B, C, H, W) of the target logit at the image
    baseline: Tensor  # (B, C, H, W) of the same logit at the blank image
    about: str  # target and blank image in words

    def scalars(self) -> dict[str, float]:
        lengths = [g.flatten(1).norm(dim=1) for g in (self.baseline, self.gradient)]
        overlay = ((self.gradient - self.baseline) * self.images).abs()
        return {
            "baseline_share": float((lengths[0] / lengths[1].clamp_min(1e-12)).median()),
            "overlay_input_correlation": float(spearman(overlay.flatten(1), self.images.flatten(1)).mean()),
        }

    def pictures(self) -> dict[str, Tensor]:
        delta = self.gradient - self.baseline
        signed = torch.stack([self.baseline, self.gradient, delta, delta * self.images]).sum(dim=2)
        flat = signed.abs().flatten(2)
        scale = torch.cat([flat[:3].amax(dim=(0, 2)).expand(3, -1), flat[3:].amax(dim=2)])[..., None, None]
        side = 96 if self.images.shape[-1] <= 96 else 160
        maps = enlarge(signed / scale.clamp_min(1e-12), side)
        cells = torch.cat([enlarge(rgb(self.images), side)[:, None], divergent(maps).transpose(0, 1)], dim=1)
        return {"panels": grid(cells, self.labels, PANELS)}

    def captions(self) -> dict[str, str]:
        correlation = self.scalars()["overlay_input_correlation"]
        text = (
            f"Gradient of the logit of {self.about}. Orange raises the logit, blue lowers it. Delta = saliency - "
            "baseline; overlay = delta x image. Baseline, saliency and delta of a row share one scale. The overlay's "
            f"ranks agree {correlation:.2f} with the image's own brightness: near 1 shows the image, not the network."
        )
        return {"panels": text}


@dataclass(kw_only=True)
class SaliencyPlugin(Plugin):
    """Source, baseline, saliency, delta and overlay of each probe image (METHODS: saliency; seed 004)."""

    target: str = "true"  # or predicted
    blank: str = "mean"  # the zero of the normalised input; or black

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, allowed in (("target", ("true", "predicted")), ("blank", ("mean", "black"))):
            if getattr(self, key) not in allowed:
                raise unknown(f"plugin.{self.name}.{key}", getattr(self, key), allowed)

    def analyze(self, net: nn.Module, probe: Probe) -> SaliencyResult:
        if self.target == "true" and bool((probe.labels < 0).any()):
            raise UserError("these images have no labels: set target=predicted")
        targets = probe.labels
        if self.target == "predicted":
            targets = torch.cat([net(images).detach().argmax(1) for images in probe.images.split(self.batch_size)])
        black = torch.zeros(1, 1, 1)
        blank = getattr(net, "mean", black) if self.blank == "mean" else black
        found = saliency(net, probe.images, targets, blank, self.batch_size)
        finite(found.gradient, "the gradients")
        labels = tuple(probe.class_names[target] for target in targets.tolist())
        about = (
            f"the {self.target} class; the baseline's image is {'the mean colour' if self.blank == 'mean' else 'black'}"
        )
        return SaliencyResult(probe.images, labels, found.gradient, found.baseline, about)
