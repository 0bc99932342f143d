"""How neuron groups are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from interp.attribution import Tail, choose_classes
from interp.draw import crops
from interp.errors import UserError
from interp.factorization import NeuronGroups, neuron_groups, trust
from interp.factorization.reducers import NEGATIVE, SOLVERS
from interp.featurevis import Recipe, objectives, render
from interp.network.layers import Layer, choose_layer
from interp.network.replica import precise
from interp.parts import attempt
from interp.probe import Probe
from interp.processes.share import handed_in, part
from interp.result import finite
from interp.words import word
from plugins.base import Plugin, setting
from plugins.nmf.effects import exact_effects, linear_effects
from plugins.nmf.result import NMFResult

EFFECTS = ("effects", "residual_effects", "exact_effects")
ORDERS = ("horizontal_peak", "energy", "effect")


@dataclass(kw_only=True)
class NMFPlugin(Plugin):
    """Factorise the probe's activations at a layer into neuron groups (Olah et al. 2018)."""

    shares: ClassVar[bool] = True

    layer: str | None = setting(
        None, "null: the deepest that the whole answer passes through, with a grid of 4 x 4 or more (docs/layers.md)"
    )
    groups: int | str = setting(
        6, "or auto: the smallest count after which one more would explain less than 2% of the energy"
    )
    order: str = setting(
        "horizontal_peak", "of the first look; or energy, or effect (on the first of `classes`)", choices=ORDERS
    )
    negative: str = setting(
        "split",
        "of negative activations: factorise both signs; rectify: drop them; error: refuse them",
        choices=NEGATIVE,
    )
    solver: str = setting("hals", "on the device; or sklearn, pca, kmeans", choices=SOLVERS)
    sweeps: int = setting(200, "at most", least=1)
    tolerance: float = setting(1e-4, "stop when the squared error changes by less than this share", least=0)
    restarts: int = setting(
        5, "random starts that show how stable the groups are; 0 leaves this and the shuffled null out", least=0
    )
    classes: Sequence[str] = setting(
        ["true", "top"],
        "whose logits the effects are on: true, predicted, top (the 5 strongest) or class names (class:true, ...)",
    )
    crops: int = setting(2, "of the probe's images, for each group the ones in which it is strongest", least=1)
    icon_steps: int = setting(48, "of drawing what each group looks for; 0 leaves the pictures out", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = list(map(word, self.classes))
        if self.groups != "auto" and not (isinstance(self.groups, int) and self.groups > 0):
            raise UserError(f"plugin.{self.name}.groups={self.groups!r}: give a whole number of at least 1, or auto")
        if not self.classes:
            raise UserError(f"plugin.{self.name}.classes is empty: name one, such as predicted")

    def analyze(self, net: nn.Module, probe: Probe) -> NMFResult:
        layer = choose_layer(net, probe.images[:8], self.layer, signed=self.negative != "error")
        self.layer = layer.name
        groups, activations = self._factorised(net, layer, probe)
        left_out: list[str] = []
        rest, precision = precise(net, probe.images[:1])
        order, groups, effects = self._in_order(groups, self._effects(net, layer, rest, groups, probe, left_out))
        drawings = attempt(left_out, "pictures of the groups", lambda: self._draw(net, probe, layer, groups.channel),
                           settings=False)  # fmt: skip
        measured = attempt(left_out, "null, floor and restarts", lambda: self._trust(activations, groups))
        return NMFResult(
            images=probe.images, labels=tuple(probe.label_names()), layer=layer.name,
            about=layer.about + precision * bool(effects["classes"]), **vars(groups), **effects,
            trust=measured or {}, order=order, icons=crops(probe.images, groups.spatial, self.crops),
            drawn=torch.zeros(0) if drawings is None else drawings, left_out=tuple(left_out),
            kinship=torch.zeros(0), past=torch.zeros(0, *groups.channel.shape), past_looks=(),
        )  # fmt: skip

    def _factorised(self, net: nn.Module, layer: Layer, probe: Probe) -> tuple[NeuronGroups, Tensor]:
        """The groups of the whole probe and its activations (B, U, h, w); each process factorises a share of them."""
        share = part(len(probe), self.batch_size)
        images = probe.images[share.start : share.stop] if share else probe.images[:1]
        activations = layer.activations(net, images, self.batch_size)[: len(share)]
        finite(activations, f"the activations of {layer.name}")
        options = {"sweeps": self.sweeps, "tolerance": self.tolerance}
        groups = neuron_groups(
            activations, self.groups, negative=self.negative, solver=self.solver, shared=True, **options
        )
        (activations,) = handed_in([activations])
        return groups, activations

    def _in_order(self, groups: NeuronGroups, effects: dict[str, Any]) -> tuple[str, NeuronGroups, dict[str, Any]]:
        """The order that they are in, groups and effects; by horizontal peak where effects are asked for in vain."""
        logits = effects["effects"] if len(effects["effects"]) else effects["exact_effects"]
        if self.order == "horizontal_peak" or (self.order == "effect" and not len(logits)):
            return "horizontal_peak", groups, effects
        key = groups.spatial.square().sum(dim=(0, 2, 3)) if self.order == "energy" else logits[..., 0].mean(0)
        order = key.argsort(descending=True, stable=True)
        moved = {name: effects[name][:, order] for name in ("effects", "exact_effects") if len(effects[name])}
        return self.order, groups.ordered(order), effects | moved

    def _effects(
        self, net: nn.Module, layer: Layer, rest: nn.Module, groups: NeuronGroups, probe: Probe, left_out: list[str]
    ) -> dict[str, Any]:
        """The effects on the chosen classes; empty as far as they cannot be had."""
        effects: dict[str, Any] = {"classes": (), **dict.fromkeys(EFFECTS, torch.zeros(0))}
        tails = [Tail(net, images, layer, rest) for images in probe.images.split(self.batch_size)]
        classes = attempt(left_out, "effects on classes", lambda: self._classes(tails, probe))
        if classes is None:
            return effects
        linear = attempt(left_out, "linear effects", lambda: linear_effects(tails, groups, classes))
        exact = attempt(left_out, "exact effects", lambda: exact_effects(tails, groups, classes))
        names = tuple(tuple(probe.class_names[j] for j in row) for row in classes.tolist())
        if linear is not None:
            effects |= {"classes": names, **dict(zip(EFFECTS, linear, strict=False))}
        return effects if exact is None else effects | {"classes": names, "exact_effects": exact}

    @torch.no_grad()
    def _classes(self, tails: list[Tail], probe: Probe) -> Tensor:
        """The classes (B, T) int64 to look at."""
        logits = finite(torch.cat([tail(tail.activations) for tail in tails]), "the logits")
        return choose_classes(logits, probe.labels, self.classes, probe.class_names)

    def _draw(self, net: nn.Module, probe: Probe, layer: Layer, channel: Tensor) -> Tensor:
        """A picture (K, C, H, W) in the direction of each group's channel factor."""
        if not self.icon_steps:
            return torch.zeros(0)
        recipe = Recipe(steps=self.icon_steps, seed=self.seed)
        canvas = recipe.begin(probe.images, (len(channel), *probe.images.shape[1:]))
        objective = objectives.direction(layer.name, channel, power=1.0)
        return render(net, canvas, objective, **recipe.options(canvas.size)).images

    def _trust(self, activations: Tensor, groups: NeuronGroups) -> dict[str, float]:
        if not self.restarts:
            return {}
        rows = activations.permute(0, 2, 3, 1).flatten(0, 2)
        how = {"solver": self.solver, "negative": self.negative}
        return vars(trust(rows, len(groups.channel), self.restarts, self.seed, **how))
