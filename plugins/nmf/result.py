"""What the study of neuron groups has found at one look: where each fires, of which units it is made, what it does."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.factorization import match_groups
from interp.factorization.groups import hoyer_sparsity
from interp.result import Result
from interp.vectors import fraction
from plugins.nmf import view

PAST = 16  # earlier looks that are kept, at most


@dataclass(frozen=True)
class NMFResult(Result):
    """Neuron groups of one layer on the probe."""

    view: ClassVar[Any] = view

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
        if len(looks) > PAST:  # every other one, and always the first
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

    @property
    def linear_tail(self) -> bool:
        """Whether the network after the layer is linear in the groups: both kinds of effects are the same, to rounding.

        By construction then, whatever the groups are, so that their agreement says nothing.
        """
        if not len(self.effects) or not len(self.exact_effects):
            return False
        return bool((self.effects - self.exact_effects).abs().amax() <= 1e-3 * self.exact_effects.abs().amax())

    def scalars(self) -> dict[str, float]:
        energy = self.spatial.square().sum(dim=(0, 2, 3))
        return {
            **({"stability": float(self.kinship.mean())} if len(self.kinship) else {}),
            "relative_error": self.relative_error,
            "groups": float(len(self.channel)),
            "sparsity": float(hoyer_sparsity(self.spatial.transpose(0, 1).flatten(1)).mean()),
            "dead_groups": float((energy == 0).sum()),
            "negative_share": self.negative_share,
            **self.trust,
            **self._scalars_of_effects(),
        }

    def _scalars_of_effects(self) -> dict[str, float]:
        if not len(self.effects):
            return {}
        residual = fraction(self.residual_effects.abs().sum(), self.effects.abs().sum())
        scalars = {"effect_residual": float(residual)}
        if len(self.exact_effects) and not self.linear_tail:
            scalars["effect_agreement"] = correlation(self.effects, self.exact_effects)
        return scalars


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's, of all values of two tensors of one shape; 0 where one is constant."""
    centred = [values.double().flatten() - values.double().mean() for values in (first, second)]
    length = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / length) if length > 0 else 0.0
