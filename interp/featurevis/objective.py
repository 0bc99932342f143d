"""An objective: one number for each image, to be maximised, and the layers it must see; objectives add and scale."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Look:
    """What objectives see in one step."""

    images: Tensor  # (B, C, H, W) the canvas, without transforms
    activations: Mapping[str, Tensor]  # by layer (B, C, h, w), of the transformed canvas
    reference: Mapping[str, Tensor] = field(default_factory=dict)  # the same of each image's reference, if there is one
    maps: Tensor | None = None  # (B, 2, 3) how the canvas was moved, None for not at all


@dataclass(frozen=True)
class Objective:
    """One value (B,) for the images of a look, and the layers that it needs to see."""

    name: str
    layers: frozenset[str]
    value: Callable[[Look], Tensor]

    def __call__(self, look: Look) -> Tensor:
        return self.value(look)

    def __add__(self, other: "Objective | float") -> "Objective":
        if not isinstance(other, Objective):
            return Objective(f"{self.name} + {other}", self.layers, lambda look: self(look) + other)
        name, layers = f"{self.name} + {other.name}", self.layers | other.layers
        return Objective(name, layers, lambda look: self(look) + other(look))

    def __mul__(self, factor: float) -> "Objective":
        return Objective(f"{factor} * ({self.name})", self.layers, lambda look: self(look) * factor)

    def __neg__(self) -> "Objective":
        return self * -1.0

    def __sub__(self, other: "Objective | float") -> "Objective":
        return self + -other

    __radd__, __rmul__ = __add__, __mul__
