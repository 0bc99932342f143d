"""Are the axes of a layer special? Detectors in rotated bases, and how much of a concept one unit carries."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from interp.dissection import ConceptData, concept_data, dissect_layers
from interp.dissection.loadings import Loadings, concept_loadings, concept_rows
from interp.dissection.rotation import AxisAlignment, axis_alignment
from interp.draw.charts import chart, label, palette
from interp.errors import UserError, unknown
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt, drawn, omissions
from interp.probe import Probe
from interp.processes.share import go_on_alone
from interp.result import Cell, Result
from plugins.base import Plugin, setting

MOST = 8  # concepts whose loadings are shown unless they are named


@dataclass(frozen=True)
class AxisAlignmentResult(Result):
    """Detectors of a layer of U units in A x R rotated bases, and the loadings of M concepts."""

    layer: str
    original: Tensor  # (2,) int64, detectors and unique detectors
    permuted: Tensor  # (2,) int64, with the units in another order: must not differ
    alphas: Tensor  # (A,) float64, shares of a rotation
    rotated: Tensor  # (A, R, 2) int64
    concepts: tuple[str, ...]  # M names
    loadings: Tensor  # (M, U) float64, absolute, of the leading direction; squares sum to 1
    energy: Tensor  # (M,) share of the concept's sum of squares along it
    chance: Tensor  # (M,) the largest squared loading that 95% of as many random rows stay below
    verdicts: tuple[str, ...]  # M: one unit or a combination
    share: float  # that one unit must carry to count as the concept's
    count: int  # images

    @property
    def alignment(self) -> AxisAlignment:
        """The counts alone."""
        return AxisAlignment(self.layer, self.original, self.permuted, self.alphas, self.rotated)

    def scalars(self) -> dict[str, float]:
        mean, deviation = self.alignment.mean()[-1].tolist(), self.alignment.deviation()[-1].tolist()
        values = {"unique_detectors": float(self.original[1]), "rotated_unique_detectors": mean[1]}
        values |= {"rotated_unique_detectors_deviation": deviation[1], "rotated_detectors": mean[0]}
        values["permutation_difference"] = float((self.original - self.permuted).abs().sum())
        if self.verdicts:
            values["one_unit_concepts"] = self.verdicts.count("one unit") / len(self.verdicts)
            values["largest_squared_loading"] = float(self.loadings.square().amax(dim=1).mean())
        return values

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        carried, unit = self.loadings.square().max(dim=1) if len(self.loadings) else (torch.zeros(0),) * 2
        columns = ["concept", "unit", "carries", "by chance", "energy", "verdict"]
        numbers = zip(unit.tolist(), carried.tolist(), self.chance.tolist(), self.energy.tolist(), strict=True)
        rows: list[list[Cell]] = [
            [name, *values, verdict]
            for name, values, verdict in zip(self.concepts, numbers, self.verdicts, strict=True)
        ]
        return {"loadings": (columns, rows)} if rows else {}

    def pictures(self) -> dict[str, Tensor]:
        makers = {"rotation": partial(chart, self._draw_rotation, columns=2, height=2.8)}
        if self.concepts:
            shape: dict[str, Any] = {"rows": -(-len(self.concepts) // 2), "columns": 2, "height": 1.3}
            makers["loadings"] = partial(chart, self._draw_loadings, sharex=True, **shape)
        return drawn("picture", makers)

    def _draw_rotation(self, axes: Any) -> None:
        mean, deviation = self.alignment.mean(), self.alignment.deviation()
        for at, (axis, name) in enumerate(zip(axes[0], ("detectors", "unique detectors"), strict=True)):
            line = [float(self.original[at]), *mean[:, at].tolist()]
            spread = [0.0, *deviation[:, at].tolist()]
            axis.errorbar([0, *self.alphas.tolist()], line, spread, fmt="o-", capsize=3, markersize=4)
            axis.axhline(float(self.permuted[at]), linestyle=":", color="gray", label="units permuted")
            axis.set_title(f"{label(self.layer, 250)}: {name}")
            axis.set_xlabel("share of a random rotation")
            axis.set_ylim(bottom=0)
            axis.legend(frameon=False)

    def _draw_loadings(self, axes: Any) -> None:
        for axis in axes.flat[len(self.concepts) :]:
            axis.axis("off")
        for m, (axis, name) in enumerate(zip(axes.flat, self.concepts, strict=False)):
            carried = self.loadings[m].square()
            colour = palette(2)[self.verdicts[m] == "one unit"]
            axis.bar(range(len(carried)), carried.tolist(), color=colour, width=1.0)
            axis.axhline(float(self.chance[m]), linestyle=":", color="gray")
            unit, most = int(carried.argmax()), float(carried.max())
            axis.set_title(f"{label(name)}: unit {unit} carries {most:.0%}, {self.verdicts[m]}")
            axis.set_ylim(0, max(self.share, float(carried.max())) * 1.1)
        for axis in axes[-1]:
            axis.set_xlabel("unit")
        axes[0, 0].set_ylabel("squared loading")

    def captions(self) -> dict[str, str]:
        repeats = self.rotated.shape[1]
        rotation = (
            f"Detectors at {self.layer} over {self.count} images when its units are mixed by a random rotation, from "
            f"0, not at all, to 1, wholly; thresholds anew in each basis. Mean and standard deviation of {repeats} "
            "rotations; dotted: the units in another order, which must change nothing. If fewer concepts are found in "
            "rotated bases, the axes of the layer are special; where the deviation reaches across, nothing is shown."
            f"{omissions(self.left_out)}"
        )
        loadings = (
            "The leading direction of the standardised activations at the positions of each concept (singular value "
            f"decomposition): how much of it each unit carries. One unit: one carries more than {self.share:.0%} and "
            "more than the dotted line, which 95% of random rows stay below; else a combination."
        )
        return {"rotation": rotation, **({"loadings": loadings} if self.concepts else {})}


@dataclass(kw_only=True)
class AxisAlignmentPlugin(Plugin):
    """Unique detectors in the layer's own basis against random rotations, and loadings of concepts (seed 003)."""

    shares: ClassVar[bool] = True

    every_n_epochs: int = setting(5, "it dissects the layer in 52 bases", least=1)
    layer: str | None = setting(
        None, "null: the last of up to 4 layers, evenly spread over the computation (docs/layers.md)"
    )
    concepts: ConceptData | None = setting(
        None, "the data set's own (shapes), else its classes; or {_target_: interp.dissection.Broden, root: FOLDER}"
    )
    images: int | None = setting(150, "of the concept data, evenly spread; null: all", least=1)
    quantile: float = setting(0.005, "share of its positions in which a unit fires, before upsampling")
    minimum: float = setting(0.04, "IoU that a detector exceeds")
    rotations: int = setting(10, "random ones, for mean and standard deviation", least=1)
    alphas: Sequence[float] = setting([0.2, 0.4, 0.6, 0.8, 1.0], "shares of each rotation")
    loadings: Sequence[str] = setting([], "concepts by name; none: the 8 that units detect best")
    share: float = setting(0.5, "of the leading direction that one unit must carry to count as the concept's")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alphas = sorted(float(alpha) for alpha in self.alphas)
        self.loadings = list(map(str, self.loadings))
        if not self.alphas or self.alphas[0] <= 0 or self.alphas[-1] > 1:
            raise UserError(f"plugin.{self.name}.alphas={self.alphas}: wanted are some above 0 and up to 1")

    def analyze(self, net: nn.Module, probe: Probe) -> AxisAlignmentResult:
        data = concept_data(probe, self.concepts, self.images)
        layer = Layer.named(net, probe.images, self.layer) if self.layer else spread_layers(net, probe.images[:8])[-1]
        self.layer = layer.name
        options: dict[str, Any] = {name: getattr(self, name) for name in ("quantile", "minimum", "batch_size")}
        turned = axis_alignment(
            net, data, layer.name, rotations=self.rotations, alphas=self.alphas, seed=self.seed, **options
        )
        (found,) = dissect_layers(net, data, [layer], 1, **options)[0].values()
        go_on_alone()
        left_out: list[str] = []
        names = self.loadings or [found.concepts[c] for c in found.iou.amax(dim=0).argsort(descending=True)[:MOST]]
        carried = attempt(left_out, "loadings", lambda: self._loadings(net, data, layer.name, names)) or {}
        return AxisAlignmentResult(
            **vars(turned) | {"left_out": tuple(left_out)},
            concepts=tuple(carried), verdicts=tuple(one.verdict for one in carried.values()),
            loadings=torch.stack([one.loadings for one in carried.values()]) if carried else torch.zeros(0),
            energy=torch.tensor([one.energy for one in carried.values()]),
            chance=torch.tensor([float(one.by_chance.quantile(0.95)) for one in carried.values()]),
            share=self.share, count=len(data),
        )  # fmt: skip

    def _loadings(self, net: nn.Module, data: ConceptData, layer: str, names: Sequence[str]) -> dict[str, Loadings]:
        """Of the concepts that lie at a position of the layer, by name."""
        for name in names:
            if name not in data.concepts.names:
                raise unknown(f"plugin.{self.name}.loadings", name, data.concepts.names)
        rows, present = concept_rows(net, data, layer, self.batch_size)
        members = {name: present[:, data.concepts.names.index(name)] for name in names}
        if absent := [name for name, own in members.items() if not own.any() and name in self.loadings]:
            warnings.warn(
                f"no loadings of {', '.join(absent)}: at no position of {layer} in these images", stacklevel=2
            )
        return {
            name: concept_loadings(rows, own, share=self.share, seed=self.seed)
            for name, own in members.items()
            if own.any()
        }
