"""What in an image a network's answer depends on, before training and after each epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from interp.attribution import saliency
from interp.attribution.methods import METHODS, Task, attribute, falls_short, settled, unfit
from interp.attribution.saliency import Saliency, mean_colour, spearman
from interp.attribution.trust import LIMITS, areas, map_checks, verdict
from interp.draw import divergent, enlarge, grid, rgb
from interp.draw.table import html_table
from interp.errors import unknown
from interp.network.layers import Layer
from interp.parts import attempt, drawn, omissions
from interp.probe import Probe
from interp.processes.share import everyones, go_on_alone, handed_in, part
from interp.result import Cell, Result, finite, longer_film
from interp.words import class_index, word
from plugins.base import Plugin, setting

PANELS = ("source", "baseline", "saliency", "delta", "overlay")


@dataclass(frozen=True)
class SaliencyResult(Result):
    """The five panels of the interrogation document and the maps of M methods, for each probe image; E looks."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names, of the target
    gradient: Tensor  # (B, C, H, W) of the target logit at the image, or (0,)
    baseline: Tensor  # (B, C, H, W) of the same logit at the blank image, or (0,)
    about: str  # target and blank image in words
    methods: tuple[str, ...]  # M names
    maps: Tensor  # (B, M, H, W) attributions, summed over channels
    layer: str  # of Grad-CAM and what to know of it, '' without it
    checks: dict[str, dict[str, float]]  # by method, by name (interp.attribution.trust); empty where none were made
    film: Tensor  # (E, B, H, W) maps of the first method at this look and earlier ones, or (E, B, 0, 0)
    looks: tuple[int, ...]  # E numbers of these looks, from 0

    def following(self, previous: "SaliencyResult") -> "SaliencyResult":
        if self.methods[:1] != previous.methods[:1] or self.film.shape[1:] != previous.film.shape[1:]:
            return self
        film, looks = longer_film(previous.film, previous.looks, self.film)
        return replace(self, film=film, looks=looks)

    def scalars(self) -> dict[str, float]:
        made = {f"{method}/{check}": value for method, own in self.checks.items() for check, value in own.items()}
        if not len(self.gradient):
            return made
        lengths = [g.flatten(1).norm(dim=1) for g in (self.baseline, self.gradient)]
        overlay = ((self.gradient - self.baseline) * self.images).abs()
        return {
            "baseline_share": float((lengths[0] / lengths[1].clamp_min(1e-12)).median()),
            "overlay_input_correlation": float(spearman(overlay.flatten(1), self.images.flatten(1)).mean()),
            **made,
        }

    def pictures(self) -> dict[str, Tensor]:
        makers = {"panels": self._panels} if len(self.gradient) else {}
        if self.methods:
            names = ["image", *(method.replace("_", " ") for method in self.methods)]
            makers["methods"] = lambda: self._sheet(self.maps / large(self.maps), names)
        if self.methods and len(self.looks) > 1:
            looks = ["image", *(f"look {look}" for look in self.looks)]
            makers["film"] = lambda: self._sheet((self.film / large(self.film)).transpose(0, 1), looks)
        return drawn("picture", makers)

    def _panels(self) -> Tensor:
        delta = self.gradient - self.baseline
        signed = torch.stack([self.baseline, self.gradient, delta, delta * self.images]).sum(dim=2)
        own = large(signed)
        scale = torch.cat([own[:3].amax(dim=0, keepdim=True).expand(3, -1, -1, -1), own[3:]])
        return self._sheet((signed / scale).transpose(0, 1), PANELS)

    def _sheet(self, maps: Tensor, names: Sequence[str]) -> Tensor:
        """Images, and beside each its maps (B, Q, H, W) in [-1, 1]."""
        side = 128 if max(self.images.shape[-2:]) <= 128 else 160  # the longest name of a method fits
        cells = [enlarge(rgb(self.images), side)[:, None], divergent(enlarge(maps, side))]
        return grid(torch.cat(cells, dim=1), self.labels, names)

    def captions(self) -> dict[str, str]:
        left, found = omissions(self.left_out), dict[str, str]()
        if len(self.gradient):
            correlation = self.scalars()["overlay_input_correlation"]
            found["panels"] = (
                f"Gradient of the logit of {self.about}. Orange raises the logit, blue lowers it. Delta = saliency - "
                "baseline; overlay = delta x image. Baseline, saliency and delta of a row share one scale. The "
                f"overlay's ranks agree {correlation:.2f} with the image's own brightness: near 1 shows the image, not "
                "the network."
            )
        if not self.methods:
            return {name: text + left for name, text in found.items()}
        methods = (
            "One column a method, each map on its own scale, its largest hundredth in full colour; orange raises the "
            "logit, blue lowers it. "
        )
        methods += f"Grad-CAM is at {self.layer}. " if self.layer else ""
        methods += verdict(self.checks) if self.checks else ""
        found["methods"] = methods.strip() + left
        if len(self.looks) > 1:
            found["film"] = f"{self.methods[0]} at earlier looks (0 is the first), each map on its own scale."
        return found

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        if not self.checks:
            return {}
        rows: list[list[Cell]] = [
            [method, *(own.get(check, math.nan) for check in LIMITS)] for method, own in self.checks.items()
        ]
        return {"checks": (["method", *(check.replace("_", " ") for check in LIMITS)], rows)}

    def widgets(self) -> dict[str, str]:
        if not self.checks:
            return {}
        columns, rows = self.tables()["checks"]
        shown = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
        limits = [
            f"{check.replace('_', ' ')} {'above' if limit > 0 else 'below'} {abs(limit):g}: {meaning}"
            for check, (limit, meaning) in LIMITS.items()
        ]
        return {"checks": html_table(columns, shown, f"Bad values. {'; '.join(limits)}. nan: not checked.")}


def large(maps: Tensor) -> Tensor:
    """What 99% of the sizes in maps (..., H, W) do not exceed (..., 1, 1); the largest where that is 0.

    A few pixels of a gradient are so large that beside them the rest would be black (Smilkov et al. 2017, SmoothGrad).
    """
    sizes = maps.abs().flatten(-2)
    most = sizes.kthvalue(math.ceil(0.99 * sizes.shape[-1]), dim=-1).values
    return torch.where(most > 0, most, sizes.amax(dim=-1)).clamp_min(1e-30)[..., None, None]


@dataclass(kw_only=True)
class SaliencyPlugin(Plugin):
    """The five panels of each probe image, and attributions by captum with checks (METHODS: saliency; seed 004)."""

    shares: ClassVar[bool] = True

    target: str = setting(
        "true", "class whose logit is explained: true (without labels: predicted), predicted or a class name"
    )
    blank: str = setting(
        "mean",
        "image without content, to compare with: mean (the zero of the normalised input) or black",
        choices=("mean", "black"),
    )
    methods: Sequence[str] = setting([*METHODS], "first: film", choices=METHODS)
    layer: str | None = setting(
        None, "of grad_cam; null: the deepest that the whole answer passes through (docs/layers.md)"
    )
    steps: int = setting(
        32,
        "of integrated_gradients; its maps are left out where they miss more than half of what they should add up to",
        above=0,
    )
    samples: int = setting(16, "of smoothgrad", above=0)
    noise: float = setting(0.15, "of smoothgrad: standard deviation, in brightness", above=0)
    checks: str = setting(
        "cheap",
        "none; cheap: class, deletion, insertion, noise, completeness; all: also with random weights",
        choices=("none", "cheap", "all"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.target = word(self.target)
        self.methods = list(dict.fromkeys(self.methods))

    def analyze(self, net: nn.Module, probe: Probe) -> SaliencyResult:
        targets, which = self._targets(net, probe)
        blank, colour = self._blank(net, probe.images)
        left_out: list[str] = []
        task = Task(probe.images, targets, blank, self.layer, self.steps, self.samples, self.noise, self.batch_size)
        panels = attempt(left_out, "the panels", lambda: self._panels(net, task))
        task = self._placed(net, task)
        methods, maps, checks = self._explained(net, task, left_out)
        if panels is None and not methods:
            raise ValueError(f"nothing can be explained: {'; '.join(left_out)}")
        none, at = torch.zeros(0), task.layer if "grad_cam" in methods else None
        return SaliencyResult(
            images=probe.images, labels=tuple(probe.class_names[target] for target in targets.tolist()),
            gradient=panels.gradient if panels else none, baseline=panels.baseline if panels else none,
            about=f"{which}; the baseline's image is {colour}", methods=methods, maps=maps,
            layer=f"{at.name}{at.about}" if isinstance(at, Layer) else "", left_out=tuple(left_out), checks=checks,
            film=(maps[:, 0] if methods else maps.new_zeros(len(probe), 0, 0))[None], looks=(0,),
        )  # fmt: skip

    def _blank(self, net: nn.Module, images: Tensor) -> tuple[Tensor, str]:
        """The image without content, and what it is."""
        mean = mean_colour(net, images) if self.blank == "mean" else None
        if mean is not None:
            return mean, "the mean colour"
        return torch.zeros(1, 1, 1), "black" + ", as the network has no mean colour" * (self.blank == "mean")

    def _placed(self, net: nn.Module, task: Task) -> Task:
        """The task with the layer of Grad-CAM, chosen once; without one where none fits, as that method then says."""
        if "grad_cam" in self.methods:
            place = partial(settled, net, "grad_cam", task)
            task = attempt([], "grad_cam", place, settings=self.layer is not None) or task
            self.layer = task.layer.name if isinstance(task.layer, Layer) else self.layer
        return task

    def _panels(self, net: nn.Module, task: Task) -> Saliency:
        found = saliency(net, task.images, task.targets, task.blank, self.batch_size)
        finite(torch.cat([found.gradient, found.baseline]), "the gradients")
        return found

    def _explained(
        self, net: nn.Module, task: Task, left_out: list[str]
    ) -> tuple[tuple[str, ...], Tensor, dict[str, dict[str, float]]]:
        """The methods that could be applied, their maps (B, M, H, W) and checks by method; `left_out` gets the others.

        Many processes share the methods, the first goes on with all.
        """
        failed, maps, checks = list[str](), dict[str, Tensor](), dict[str, dict[str, float]]()
        checked = self.methods and self.checks != "none"
        chance = attempt(failed, "the checks", lambda: self._chance(net, task)) if checked else None
        mine = part(len(self.methods))
        failed = failed if 0 in mine else []  # what all processes have met is told once
        for method in [self.methods[index] for index in mine]:
            torch.manual_seed(self.seed)  # the same random numbers whichever process it is and what came before
            found = attempt(failed, method, partial(self._maps, net, method, task))
            if found is None:
                continue
            maps[method] = found
            if chance:
                every = self.checks == "all"
                check = partial(map_checks, net, method, task, chance, weights=every, left_out=failed)
                checks[method] = attempt(failed, f"{method}'s checks", check) or {}
        left_out += [text for own in everyones(failed) for text in own]
        methods = tuple(method for own in everyones(list(maps)) for method in own)
        checks = {method: own for each in everyones(checks) for method, own in each.items()}
        if not methods:
            go_on_alone()
            return methods, task.images.new_zeros(len(task.images), 0, 0, 0), checks
        return methods, handed_in([each[None] for each in maps.values()])[0].transpose(0, 1), checks

    def _maps(self, net: nn.Module, method: str, task: Task) -> Tensor:
        """(B, H, W) summed over channels; raises ValueError where they would not mean what the name says."""
        if why := unfit(net, method, task.images, task.layer):
            raise ValueError(why)
        found = attribute(net, method, task)
        if why := falls_short(net, method, task, found):
            raise ValueError(why)
        return found.sum(dim=1)

    def _chance(self, net: nn.Module, task: Task) -> tuple[Tensor, Tensor]:
        torch.manual_seed(self.seed)
        return areas(net, task, torch.rand_like(task.images[:, 0]))

    def _targets(self, net: nn.Module, probe: Probe) -> tuple[Tensor, str]:
        """Classes (B,) int64 whose logits are explained, and which these are in words."""
        if self.target not in ("true", "predicted"):
            if (index := class_index(self.target, probe.class_names)) is None:
                raise unknown(f"plugin.{self.name}.target", self.target, ["true", "predicted", *probe.class_names])
            return torch.full_like(probe.labels, index), f"the class {probe.class_names[index]}"
        unlabelled = bool((probe.labels < 0).any())
        if self.target == "true" and not unlabelled:
            return probe.labels, "the true class"
        predicted = [net(images).detach().argmax(dim=1) for images in probe.images.split(self.batch_size)]
        return torch.cat(predicted), f"the predicted class{' (some images have no label)' if unlabelled else ''}"
