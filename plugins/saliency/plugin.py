"""How saliency is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from interp.attribution.curves import Chance
from interp.attribution.methods import METHODS, Task, settled
from interp.attribution.saliency import mean_colour
from interp.attribution.trust import map_checks
from interp.errors import unknown
from interp.network.layers import Layer
from interp.parts import attempt
from interp.probe import Probe
from interp.processes.share import everyones, go_on_alone, handed_in, part
from interp.words import class_index, word
from plugins.base import Plugin, setting
from plugins.saliency.maps import gradients, maps_of
from plugins.saliency.result import SaliencyResult

Checks = dict[str, dict[str, float]]  # by method, by name of the check


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
        task, about = self._task(net, probe)
        left_out: list[str] = []
        panels = attempt(left_out, "the panels", lambda: gradients(net, task))
        task = self._placed(net, task)
        methods, maps, checks = self._explained(net, task, left_out)
        if panels is None and not methods:
            raise ValueError(f"nothing can be explained: {'; '.join(left_out)}")
        none, layer = torch.zeros(0), task.layer if "grad_cam" in methods else None
        return SaliencyResult(
            images=probe.images, labels=tuple(probe.names_of(task.targets)),
            gradient=panels.gradient if panels else none, baseline=panels.baseline if panels else none,
            about=about, methods=methods, maps=maps, checks=checks, left_out=tuple(left_out),
            layer=f"{layer.name}{layer.about}" if isinstance(layer, Layer) else "",
            film=(maps[:, 0] if methods else maps.new_zeros(len(probe), 0, 0))[None], looks=(0,),
        )  # fmt: skip

    def _task(self, net: nn.Module, probe: Probe) -> tuple[Task, str]:
        """What is to be explained, and target and blank image in words."""
        targets, which = self._targets(net, probe)
        blank, colour = self._blank(net, probe.images)
        task = Task(
            images=probe.images, targets=targets, blank=blank, layer=self.layer, steps=self.steps,
            samples=self.samples, noise=self.noise, batch_size=self.batch_size,
        )  # fmt: skip
        return task, f"{which}; the baseline's image is {colour}"

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

    def _explained(self, net: nn.Module, task: Task, left_out: list[str]) -> tuple[tuple[str, ...], Tensor, Checks]:
        """The methods that could be applied, their maps (B, M, H, W) and checks by method; `left_out` gets the others.

        Many processes share the methods, the first goes on with all.
        """
        failed: list[str] = []
        checked = self.methods and self.checks != "none"
        chance = attempt(failed, "the checks", lambda: self._chance(net, task)) if checked else None
        share = part(len(self.methods))
        failed = failed if 0 in share else []  # what all processes have met is told once
        maps, checks = self._by_method(net, task, [self.methods[index] for index in share], chance, failed)
        left_out += [text for texts in everyones(failed) for text in texts]
        methods = tuple(method for names in everyones(list(maps)) for method in names)
        checks = {method: values for of_process in everyones(checks) for method, values in of_process.items()}
        if not methods:
            go_on_alone()
            return methods, task.images.new_zeros(len(task.images), 0, 0, 0), checks
        return methods, handed_in([of_method[None] for of_method in maps.values()])[0].transpose(0, 1), checks

    def _by_method(
        self, net: nn.Module, task: Task, methods: list[str], chance: Chance | None, failed: list[str]
    ) -> tuple[dict[str, Tensor], Checks]:
        """Maps (B, H, W) of the methods that can be applied, and their checks if there is `chance` to compare with."""
        maps, checks = dict[str, Tensor](), Checks()
        for method in methods:
            torch.manual_seed(self.seed)  # the same random numbers whichever process it is and what came before
            maps_of_method = attempt(failed, method, partial(maps_of, net, method, task))
            if maps_of_method is None:
                continue
            maps[method] = maps_of_method
            if chance:
                every = self.checks == "all"
                check = partial(map_checks, net, method, task, chance, weights=every, left_out=failed)
                checks[method] = attempt(failed, f"{method}'s checks", check) or {}
        return maps, checks

    def _chance(self, net: nn.Module, task: Task) -> Chance:
        torch.manual_seed(self.seed)
        return Chance.of(net, task)

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
