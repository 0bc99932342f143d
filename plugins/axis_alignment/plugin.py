"""How the study of axis alignment is asked for."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from interp.dissection import ConceptData, concept_data, dissect_layers, untold, usual_quantile
from interp.dissection.loadings import Loadings, concept_loadings, concept_rows
from interp.dissection.rotation import axis_alignment
from interp.errors import UserError, unknown
from interp.network.layers import Layer, spread_layers
from interp.parts import attempt
from interp.probe import Probe
from interp.processes.share import go_on_alone
from plugins.axis_alignment.result import AxisAlignmentResult
from plugins.base import Plugin, setting

MOST = 8  # concepts whose loadings are shown unless they are named


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
    quantile: float | None = setting(
        None,
        "share of its positions in which a unit fires, before upsampling; null: 0.005, on vectors 1 / concepts",
    )
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
        quantile = usual_quantile([layer], data.concepts) if self.quantile is None else self.quantile
        options: dict[str, Any] = {"quantile": quantile, "minimum": self.minimum, "batch_size": self.batch_size}
        alignment = axis_alignment(
            net, data, layer.name, rotations=self.rotations, alphas=self.alphas, seed=self.seed, **options
        )
        dissection = dissect_layers(net, data, [layer], 1, **options)[0][layer.name]
        go_on_alone()
        left_out = untold(dissection)
        best_first = dissection.iou.amax(dim=0).argsort(descending=True)
        names = self.loadings or [dissection.concepts[c] for c in best_first[:MOST]]
        loadings = attempt(left_out, "loadings", lambda: self._loadings(net, data, layer.name, names)) or {}
        return AxisAlignmentResult(
            **vars(alignment) | {"left_out": tuple(left_out)}, **_of_concepts(loadings), share=self.share,
            count=len(data),
        )  # fmt: skip

    def _loadings(self, net: nn.Module, data: ConceptData, layer: str, names: Sequence[str]) -> dict[str, Loadings]:
        """Of the concepts that lie at a position of the layer, by name."""
        for name in names:
            if name not in data.concepts.names:
                raise unknown(f"plugin.{self.name}.loadings", name, data.concepts.names)
        rows, present = concept_rows(net, data, layer, self.batch_size)
        members = {name: present[:, data.concepts.names.index(name)] for name in names}
        if absent := [name for name, of_concept in members.items() if not of_concept.any() and name in self.loadings]:
            warnings.warn(
                f"no loadings of {', '.join(absent)}: at no position of {layer} in these images", stacklevel=2
            )
        return {
            name: concept_loadings(rows, of_concept, share=self.share, seed=self.seed)
            for name, of_concept in members.items()
            if of_concept.any()
        }


def _of_concepts(loadings: dict[str, Loadings]) -> dict[str, Any]:
    """Fields of the result: M concepts and their loadings."""
    by_chance = [float(concept.by_chance.quantile(0.95)) for concept in loadings.values()]
    directions = [concept.loadings for concept in loadings.values()]
    return {
        "concepts": tuple(loadings),
        "verdicts": tuple(concept.verdict for concept in loadings.values()),
        "loadings": torch.stack(directions) if directions else torch.zeros(0),
        "energy": torch.tensor([concept.energy for concept in loadings.values()]),
        "chance": torch.tensor(by_chance),
    }
