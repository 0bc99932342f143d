"""How the robustness study is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from interp.confusion import all_answered
from interp.dissection import ConceptData, broken_units, concept_data, evidence, targets_of, untold, usual_quantile
from interp.dissection.robustness import Seen, see, survival
from interp.errors import UserError
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt, each_of
from interp.perturbation.attack import Attacked
from interp.perturbation.disturbed import ATTACKS, Disturbed, disturbances
from interp.probe import Probe
from interp.processes.share import go_on_alone
from plugins.base import Plugin, setting, spread_setting
from plugins.robustness.result import RobustnessResult

RADII = (1, 2, 4, 8)  # of attacks, in 255ths of the full scale


class Variant(NamedTuple):
    """The data under a disturbance."""

    family: str
    strength: str
    data: ConceptData


@dataclass(kw_only=True)
class RobustnessPlugin(Plugin):
    """What disturbed images leave of the network's answers and detectors (seed 003)."""

    shares: ClassVar[bool] = True

    every_n_epochs: int = setting(5, "it looks at all images once for each disturbance", least=1)
    layers: Sequence[str] = spread_setting(4)
    concepts: ConceptData | None = setting(
        None, "the data set's own (shapes), else its classes; or {_target_: interp.dissection.Broden, root: FOLDER}"
    )
    disturbances: Sequence[str] = setting(
        ["noise", "rotation", "patches"],
        "also fgsm, pgd, corruptions (the extra `corruptions`, 435 MB) or one of these by name",
    )
    images: int | None = setting(200, "of the concept data, evenly spread; null: all", least=1)
    quantile: float | None = setting(
        None,
        "share of its positions in which a unit fires, before upsampling; null: 0.005, on vectors 1 / concepts",
    )
    minimum: float = setting(0.04, "IoU that a detector exceeds")
    shown: int = setting(2, "units of each layer in the picture", least=0)
    top: int = setting(2, "images for each of them", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.disturbances = list(dict.fromkeys(self.disturbances))
        if not self.disturbances:
            raise UserError(f"plugin.{self.name}.disturbances is empty: name one, such as noise")
        disturbances(name for name in self.disturbances if name not in ATTACKS)

    def analyze(self, net: nn.Module, probe: Probe) -> RobustnessResult:
        data = concept_data(probe, self.concepts, self.images)
        layers = [Layer.named(net, probe.images, name) for name in self.layers] or spread_layers(net, probe.images[:8])
        self.layers = [layer.name for layer in layers]
        quantile = usual_quantile(layers, data.concepts) if self.quantile is None else self.quantile
        options: dict[str, Any] = {"quantile": quantile, "minimum": self.minimum, "batch_size": self.batch_size}
        clean = self._see(net, data, layers, options)
        dissections = [clean.found[layer.name] for layer in layers]
        left_out = broken_units(dissections) + untold(dissections[0])
        options["thresholds"] = {name: dissection.thresholds for name, dissection in clean.found.items()}
        classes = targets_of(probe, data, self.concepts)
        targets = clean.answers if classes is None else classes
        variants = {f"{variant.family} {variant.strength}": variant for variant in self._disturbed(net, data, targets)}
        makers = {name: partial(self._see, net, variant.data, layers, options) for name, variant in variants.items()}
        seen_by_name = each_of(left_out, makers)
        go_on_alone()
        families, strengths, parts = zip(("", "0", data), *(variants[name] for name in seen_by_name), strict=True)
        sheets = attempt(left_out, "pictures of units", partial(self._sheets, net, parts, layers, clean))
        images, masks = sheets or (torch.zeros(0, dtype=torch.uint8), torch.zeros(0, dtype=torch.bool))
        return RobustnessResult(
            layers=tuple(self.layers), families=families, strengths=strengths,
            right="agreement" if classes is None else "accuracy", count=len(data), images=images, masks=masks,
            rows=self._rows(layers, clean) if sheets else (), left_out=tuple(left_out),
            **self._survived(clean, list(seen_by_name.values()), targets),
        )  # fmt: skip

    def _see(self, net: nn.Module, data: ConceptData, layers: Sequence[Layer], options: dict[str, Any]) -> Seen:
        """What the network makes of `data`; raises ValueError where it has no answer to an image."""
        seen = see(net, data, layers, self.top, **options)
        all_answered(seen.answers)
        return seen

    def _disturbed(self, net: nn.Module, data: ConceptData, targets: Tensor) -> Iterator[Variant]:
        for name in self.disturbances:
            if name in ATTACKS:
                for radius in RADII:
                    attacked = Attacked(data, net, targets, radius, ATTACKS[name], self.batch_size)
                    yield Variant(name, str(radius), attacked)
            else:
                for kind in disturbances([name]):
                    yield Variant(kind.family, kind.strength, Disturbed(data, kind, self.seed))

    def _survived(self, clean: Seen, disturbed: Sequence[Seen], targets: Tensor) -> dict[str, Tensor]:
        """Fields of the result: right answers (D + 1,), and what survives of each layer (D + 1, Y, 7)."""
        everything = [clean, *disturbed]
        return {
            "answers": torch.stack([(seen.answers == targets).double().mean() for seen in everything]),
            "survival": torch.stack(
                [torch.stack([survival(clean, seen, name) for name in self.layers]) for seen in everything]
            ),
        }

    def _sheets(
        self, net: nn.Module, parts: Sequence[ConceptData], layers: Sequence[Layer], clean: Seen
    ) -> tuple[Tensor, Tensor]:
        """Those of all data: (S, D + 1, C, H, W) uint8 and (S, D + 1, H, W) bool."""
        images, masks = zip(*(self._sheet(net, data, layers, clean) for data in parts), strict=True)
        return torch.stack(images, dim=1), torch.stack(masks, dim=1)

    def _sheet(self, net: nn.Module, data: ConceptData, layers: Sequence[Layer], clean: Seen) -> tuple[Tensor, Tensor]:
        """Images (S, C, H, W) uint8 of `data` in which the leading units peak undisturbed, and where these fire."""
        images_of_layers, masks_of_layers = [], []
        for layer in layers:
            dissection = clean.found[layer.name]
            units = dissection.leading(self.shown)
            tops = clean.tops[layer.name].images[units]
            images, masks = evidence(net, data, layer, units, tops, dissection.thresholds, self.batch_size)
            images_of_layers.append(images.flatten(0, 1))
            masks_of_layers.append(masks.flatten(0, 1))
        return torch.cat(images_of_layers), torch.cat(masks_of_layers)

    def _rows(self, layers: Sequence[Layer], clean: Seen) -> tuple[str, ...]:
        """S names: unit, concept and IoU at the first image of a unit, "" at its others."""
        rows = []
        for layer in layers:
            dissection = clean.found[layer.name]
            best, iou, names = dissection.best.tolist(), dissection.best_iou.tolist(), dissection.concepts
            for unit in dissection.leading(self.shown).tolist():
                rows.append(f"{layer.name} {unit}: {names[best[unit]]} {iou[unit]:.2f}")
                rows += [""] * (clean.tops[layer.name].images.shape[1] - 1)
        return tuple(rows)
