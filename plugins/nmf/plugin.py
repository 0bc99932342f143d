"""Neuron groups at a layer, epoch by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from interp.attribution import Tail, ablation_effects, choose_classes, group_effects
from interp.draw import crops, dim, enlarge, grid, heat, hues, overlay, rgb, stacked
from interp.draw.groups_widget import groups_widget, intensities
from interp.errors import UserError
from interp.factorization import NeuronGroups, match_groups, match_maps, neuron_groups, trust
from interp.factorization.groups import hoyer_sparsity
from interp.factorization.reducers import NEGATIVE, SOLVERS
from interp.featurevis import Fft, colour_matrix, objectives, render
from interp.network.layers import Layer, choose_layer
from interp.network.replica import precise
from interp.parts import attempt, drawn, omissions
from interp.probe import Probe
from interp.processes.share import handed_in, part
from interp.result import Result, finite
from interp.words import word
from plugins.base import Plugin, setting

EFFECTS = ("effects", "residual_effects", "exact_effects")
ORDERS = ("horizontal_peak", "energy", "effect")


@dataclass(frozen=True)
class NMFResult(Result):
    """Neuron groups of one layer on the probe."""

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names
    layer: str
    about: str  # what to know of the layer's layout
    spatial: Tensor  # (B, K, h, w) how strongly each group fires where
    channel: Tensor  # (K, U) which units a group is made of, length 1
    relative_error: float  # norm of what these groups leave out over the norm of what was factorised, 0 to 1
    negative_share: float  # of the activations' energy, 0 to 1
    curve: Tensor  # (M,) relative errors of 1 to M groups where the count was chosen from them, else (0,)
    trust: dict[str, float]  # the fields of interp.factorization.Trust; empty without restarts
    icons: Tensor  # (K, n, C, s, s) the crops of the probe in which each group is strongest
    drawn: Tensor  # (K, C, H, W) a picture optimised for each group's channel direction, or (0,)
    classes: tuple[tuple[str, ...], ...]  # B times the names of T classes, or () without effects
    effects: Tensor  # (B, K, T) of each group on these classes, in logits, to first order, or (0,)
    residual_effects: Tensor  # (B, T) of what the groups leave out, or (0,)
    exact_effects: Tensor  # (B, K, T) by taking the group's activations away, or (0,)
    order: str
    kinship: Tensor  # (K,) cosine of each group to the one of its colour in the epoch before, (0,) in the first
    past: Tensor  # (E, K, U) channel factors of earlier looks, oldest first, at most 16 of them
    past_looks: tuple[int, ...]  # E numbers of these looks, from 0

    def following(self, previous: "NMFResult") -> "NMFResult":
        if self.layer != previous.layer or self.channel.shape != previous.channel.shape:
            return self
        order, cosine = match_groups(self.channel, previous.channel)
        past = torch.cat([previous.past, previous.channel[None]])
        looks = (*previous.past_looks, previous.look)
        if len(looks) > 16:  # every other one, and always the first
            past, looks = past[::2], looks[::2]
        return replace(self.reordered(order), kinship=cosine, past=past, past_looks=looks)

    def reordered(self, order: Tensor) -> "NMFResult":
        """The same groups in another order (K,)."""
        of_images = {name: getattr(self, name) for name in ("spatial", "effects", "exact_effects")}
        of_groups = {name: getattr(self, name) for name in ("channel", "icons", "drawn")}
        moved = {name: values[:, order] for name, values in of_images.items() if len(values)}
        return replace(self, **moved, **{name: values[order] for name, values in of_groups.items() if len(values)})

    @property
    def look(self) -> int:
        """The number of this look in its series, from 0."""
        return self.past_looks[-1] + 1 if self.past_looks else 0

    @property
    def similarity(self) -> Tensor:
        """(E, K) cosine of each group as it is now to what it was at each earlier look."""
        return (self.past * self.channel).sum(dim=2)

    def scalars(self) -> dict[str, float]:
        energy = self.spatial.square().sum(dim=(0, 2, 3))
        of_effects = {}
        if len(self.effects):
            left = self.residual_effects.abs().sum() / self.effects.abs().sum().clamp_min(1e-12)
            of_effects = {"effect_residual": float(left)}
        if len(self.effects) and len(self.exact_effects):
            of_effects["effect_agreement"] = correlation(self.effects, self.exact_effects)
        return {
            **({"stability": float(self.kinship.mean())} if len(self.kinship) else {}),
            "relative_error": self.relative_error,
            "groups": float(len(self.channel)),
            "sparsity": float(hoyer_sparsity(self.spatial.transpose(0, 1).flatten(1)).mean()),
            "dead_groups": float((energy == 0).sum()),
            "negative_share": self.negative_share,
            **self.trust,
            **of_effects,
        }

    def pictures(self) -> dict[str, Tensor]:
        return drawn("picture", {"groups": self._groups} | ({"emergence": self._emergence} if len(self.past) else {}))

    @classmethod
    def compared(cls, results: dict[str, Self]) -> dict[str, tuple[Tensor, str]]:
        (base, first), *others = results.items()
        shown, said = {base: first._groups()}, []
        for name, other in others:
            if torch.equal(other.images, first.images):
                order, alike = match_maps(other.spatial, first.spatial)
                shown[name] = other.reordered(order)._groups()
                said.append(f"{name}: {', '.join(f'{value:.2f}' for value in alike.tolist())}")
        text = f"Groups of one colour fire where those of {base} do. Correlations of their maps, in order: "
        return {"groups": (stacked(shown), text + "; ".join(said) + ". Near 0: no such group there.")}

    def _groups(self) -> Tensor:
        side = 96 if max(self.images.shape[-2:]) <= 96 else 160
        colours = hues(self.spatial.shape[1])
        image = enlarge(rgb(self.images), side)
        maps = enlarge(intensities(self.spatial), side) / 255
        together = overlay(dim(image), maps, colours)
        alone = [overlay(dim(image), maps[:, [k]], colours[[k]]) for k in range(len(colours))]
        cells = torch.stack([image, together, *alone], dim=1)
        icons = self.icons.transpose(0, 1)  # (n, K, C, s, s)
        strongest = torch.stack([enlarge(rgb(row), side) for row in icons])
        names = ["strongest", *([""] * (len(icons) - 1)), *self.labels]
        if len(self.drawn):
            strongest = torch.cat([enlarge(rgb(self.drawn), side)[None], strongest])
            names = ["drawn", *names]
        blank = torch.ones(len(strongest), 2, 3, side, side)
        cells = torch.cat([torch.cat([blank, strongest], dim=1), cells])
        return grid(cells, names, ["image", "groups", *(f"{k + 1}" for k in range(len(colours)))])

    def _emergence(self) -> Tensor:
        now = torch.cat([self.similarity, torch.ones(1, len(self.channel))]).clamp(0, 1)
        colours = hues(len(self.channel))
        cells = heat(now.T[..., None, None].expand(-1, -1, 28, 28), colours[:, None])
        looks = [f"{look}" for look in (*self.past_looks, self.look)]
        return grid(cells, [f"group {k + 1}" for k in range(len(colours))], looks)

    def widgets(self) -> dict[str, str]:
        effects = next((found for found in (self.effects, self.exact_effects) if len(found)), None)

        def explore() -> str:
            return groups_widget(
                self.images, self.labels, self.spatial.clamp_min(0), self._icons(), effects,
                None if effects is None else self.classes, self.captions()["groups"],
            )  # fmt: skip

        return drawn("widget", {"explore": explore})

    def _icons(self) -> Tensor:
        """What stands for each group in the widget: the picture drawn for it, or else its strongest crop."""
        return self.drawn if len(self.drawn) else self.icons[:, 0]

    def captions(self) -> dict[str, str]:
        order = {"horizontal_peak": "in the order in which they peak from left to right", "energy": "strongest first",
                 "effect": "by their effect on each image's first class"}[self.order]  # fmt: skip
        if len(self.kinship):
            order = f"each in the colour of its next of kin in the epoch before (mean cosine {self.kinship.mean():.2f})"
        text = f"{len(self.channel)} neuron groups at {self.layer}{self.about}, {order}. {self._honest_line()}"
        text += omissions(self.left_out)
        emergence = (
            "How like itself each group was at earlier looks (columns; 0 is the first): the brighter, the larger the "
            "cosine of its channel factor then to the one of now."
        )
        return {"groups": text, **({"emergence": emergence} if len(self.past) else {})}

    def _honest_line(self) -> str:
        """What stands beside the picture so that a reader knows how far to trust it."""
        text = f"They leave {self.relative_error**2:.0%} of the activations' energy (sum of squares) unexplained"
        if self.trust:
            null, best, stability, worst = self.trust.values()
            text += (
                f"; {null**2:.0%} with each channel shuffled, {best**2:.0%} at best with factors of any sign. Maps "
                f"correlate {stability:.2f} with those of random starts, the worst group {worst:.2f}: near 1 the "
                "groups are a fact, far below one choice among several"
            )
        agreement = self.scalars().get("effect_agreement")
        text += "." if agreement is None else f". Linear and exact effects correlate {agreement:.2f}."
        if len(self.curve):
            text += f" The count is the smallest, up to {len(self.curve)}, after which one more would explain under 2%."
        dead = int(self.scalars()["dead_groups"])
        text += f" {dead} groups never fire;" if dead else " Every group fires;"
        negative = f" {self.negative_share:.0%} of the energy is negative." if self.negative_share else ""
        return text + (negative or " no activation is negative.")


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's, of all values of two tensors of one shape; 0 where one is constant."""
    centred = [part.double().flatten() - part.double().mean() for part in (first, second)]
    length = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / length) if length > 0 else 0.0


def _at(effects: Tensor, chosen: Tensor) -> Tensor:
    """Effects (B, K, J) on the `chosen` classes (B, T): (B, K, T)."""
    return finite(effects.gather(2, chosen[:, None].expand(-1, effects.shape[1], -1)), "they")


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
    icon_steps: int = setting(64, "of drawing what each group looks for; 0 leaves the pictures out", least=0)

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
        mine = part(len(probe), self.batch_size)
        images = probe.images[mine.start : mine.stop] if mine else probe.images[:1]
        activations = layer.activations(net, images, self.batch_size)[: len(mine)]
        finite(activations, f"the activations of {layer.name}")
        options = {"sweeps": self.sweeps, "tolerance": self.tolerance}
        found = neuron_groups(
            activations, self.groups, negative=self.negative, solver=self.solver, shared=True, **options
        )
        (activations,) = handed_in([activations])
        left_out: list[str] = []
        rest, precision = precise(net, probe.images[:1])
        order, found, effects = self._in_order(found, self._effects(net, layer, rest, found, probe, left_out))
        about = layer.about + precision * bool(effects["classes"])
        icons = attempt(left_out, "pictures of the groups", lambda: self._draw(net, probe, layer, found.channel),
                        settings=False)  # fmt: skip
        measured = attempt(left_out, "null, floor and restarts", lambda: self._trust(activations, found))
        return NMFResult(
            probe.images, tuple(probe.label_names()), layer.name, about, **vars(found), **effects,
            trust=measured or {}, order=order, icons=crops(probe.images, found.spatial, self.crops),
            drawn=torch.zeros(0) if icons is None else icons, left_out=tuple(left_out),
            kinship=torch.zeros(0), past=torch.zeros(0, *found.channel.shape), past_looks=(),
        )  # fmt: skip

    def _in_order(self, found: NeuronGroups, effects: dict[str, Any]) -> tuple[str, NeuronGroups, dict[str, Any]]:
        """The order that they are in, groups and effects; by horizontal peak where effects are asked for in vain."""
        pushes = effects["effects"] if len(effects["effects"]) else effects["exact_effects"]
        if self.order == "horizontal_peak" or (self.order == "effect" and not len(pushes)):
            return "horizontal_peak", found, effects
        key = found.spatial.square().sum(dim=(0, 2, 3)) if self.order == "energy" else pushes[..., 0].mean(0)
        order = key.argsort(descending=True, stable=True)
        moved = {name: effects[name][:, order] for name in ("effects", "exact_effects") if len(effects[name])}
        return self.order, found.ordered(order), effects | moved

    def _effects(
        self, net: nn.Module, layer: Layer, rest: nn.Module, found: NeuronGroups, probe: Probe, left_out: list[str]
    ) -> dict[str, Any]:
        """The effects on the chosen classes; empty as far as they cannot be had."""
        made: dict[str, Any] = {"classes": (), **dict.fromkeys(EFFECTS, torch.zeros(0))}
        tails = [Tail(net, images, layer, rest) for images in probe.images.split(self.batch_size)]
        chosen = attempt(left_out, "effects on classes", lambda: self._chosen(tails, probe))
        if chosen is None:
            return made
        linear = attempt(left_out, "linear effects", lambda: self._linear(tails, found, chosen))
        exact = attempt(left_out, "exact effects", lambda: self._exact(tails, found, chosen))
        names = tuple(tuple(probe.class_names[j] for j in row) for row in chosen.tolist())
        if linear is not None:
            made |= {"classes": names, **dict(zip(EFFECTS, linear, strict=False))}
        return made if exact is None else made | {"classes": names, "exact_effects": exact}

    @torch.no_grad()
    def _chosen(self, tails: list[Tail], probe: Probe) -> Tensor:
        """The classes (B, T) int64 to look at."""
        logits = finite(torch.cat([tail(tail.activations) for tail in tails]), "the logits")
        return choose_classes(logits, probe.labels, self.classes, probe.class_names)

    @torch.no_grad()
    def _linear(self, tails: list[Tail], found: NeuronGroups, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Effects (B, K, T) of the groups on the `chosen` classes and (B, T) of what they leave out."""
        parts = zip(tails, found.spatial.split([len(tail.images) for tail in tails]), strict=True)
        pairs = [group_effects(tail, spatial, found.channel) for tail, spatial in parts]
        effects, residual = (torch.cat(column) for column in zip(*pairs, strict=True))
        return _at(effects, chosen), finite(residual.gather(1, chosen), "they")

    @torch.no_grad()
    def _exact(self, tails: list[Tail], found: NeuronGroups, chosen: Tensor) -> Tensor:
        parts = zip(tails, found.spatial.split([len(tail.images) for tail in tails]), strict=True)
        return _at(torch.cat([ablation_effects(tail, spatial, found.channel) for tail, spatial in parts]), chosen)

    def _draw(self, net: nn.Module, probe: Probe, layer: Layer, channel: Tensor) -> Tensor:
        """A picture (K, C, H, W) in the direction of each group's channel factor."""
        if not self.icon_steps:
            return torch.zeros(0)
        shape = (len(channel), *probe.images.shape[1:])
        colour = colour_matrix(probe.images) if shape[1] == 3 else None
        canvas = Fft.noise(shape, colour=colour, seed=self.seed, device=probe.images.device)
        objective = objectives.direction(layer.name, channel, power=1.0)
        return render(net, canvas, objective, steps=self.icon_steps, seed=self.seed).images

    def _trust(self, activations: Tensor, found: NeuronGroups) -> dict[str, float]:
        if not self.restarts:
            return {}
        rows = activations.permute(0, 2, 3, 1).flatten(0, 2)
        how = {"solver": self.solver, "negative": self.negative}
        return vars(trust(rows, len(found.channel), self.restarts, self.seed, **how))
