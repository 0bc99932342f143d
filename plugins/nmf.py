"""Neuron groups at a layer, epoch by epoch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from interp.draw import dim, enlarge, grid, hues, overlay, rgb
from interp.factorization import match_groups, neuron_groups
from interp.factorization.groups import hoyer_sparsity
from interp.layers import capture, choose_layer
from interp.probe import Probe
from interp.result import Result, finite
from plugins.base import Plugin


@dataclass(frozen=True)
class NMFResult(Result):
    """Neuron groups of one layer on the probe."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names
    layer: str
    spatial: Tensor  # (B, K, h, w) how strongly each group fires where
    channel: Tensor  # (K, U) which units a group is made of, length 1
    relative_error: float  # norm of what the groups leave out over the norm of the activations, 0 to 1
    kinship: Tensor  # (K,) cosine of each group to the one of its colour in the epoch before, (0,) in the first

    def following(self, previous: "NMFResult") -> "NMFResult":
        if self.layer != previous.layer or self.channel.shape != previous.channel.shape:
            return self
        order, cosine = match_groups(self.channel, previous.channel)
        return replace(self, spatial=self.spatial[:, order], channel=self.channel[order], kinship=cosine)

    def scalars(self) -> dict[str, float]:
        energy = self.spatial.square().sum(dim=(0, 2, 3))
        return {
            **({"stability": float(self.kinship.mean())} if len(self.kinship) else {}),
            "relative_error": self.relative_error,
            "sparsity": float(hoyer_sparsity(self.spatial.transpose(0, 1).flatten(1)).mean()),
            "dead_groups": float((energy == 0).sum()),
        }

    def pictures(self) -> dict[str, Tensor]:
        side = 96 if max(self.images.shape[-2:]) <= 96 else 160
        colours = hues(self.spatial.shape[1])
        image = enlarge(rgb(self.images), side)
        brightest = self.spatial.float().quantile(0.99) if self.spatial.any() else torch.tensor(1.0)
        maps = enlarge(self.spatial / brightest.clamp_min(1e-12), side).clamp(0, 1)
        together = overlay(dim(image), maps, colours)
        alone = [overlay(dim(image), maps[:, [k]], colours[[k]]) for k in range(len(colours))]
        cells = torch.stack([image, together, *alone], dim=1)
        return {"groups": grid(cells, self.labels, ["image", "groups", *(f"{k + 1}" for k in range(len(colours)))])}

    def captions(self) -> dict[str, str]:
        order = "in the order in which they peak from left to right"
        if len(self.kinship):
            order = f"each in the colour of its next of kin in the epoch before (mean cosine {self.kinship.mean():.2f})"
        text = (
            f"{len(self.channel)} neuron groups at {self.layer}, {order}. "
            f"They leave {self.relative_error**2:.0%} of the activations' energy (sum of squares) unexplained."
        )
        dead = int(self.scalars()["dead_groups"])
        return {"groups": text + (f" {dead} of them never fire." if dead else "")}


@dataclass(kw_only=True)
class NMFPlugin(Plugin):
    """Factorise the probe's activations at a layer into neuron groups (Olah et al. 2018)."""

    layer: str | None = None  # None: the last non-negative one with a grid of at least 4 x 4
    groups: int = 6
    sweeps: int = 200
    tolerance: float = 1e-4

    def analyze(self, net: nn.Module, probe: Probe) -> NMFResult:
        self.layer = choose_layer(net, probe.images[:8], self.layer)
        activations = capture(net, probe.images, [self.layer], self.batch_size)[self.layer]
        finite(activations, f"the activations of {self.layer}")
        found = neuron_groups(activations, self.groups, sweeps=self.sweeps, tolerance=self.tolerance)
        return NMFResult(probe.images, tuple(probe.label_names()), self.layer, kinship=torch.zeros(0), **vars(found))
