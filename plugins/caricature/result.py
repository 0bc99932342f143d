"""What the caricature study has found at one look: pictures for each image and layer, and how like it they are."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.result import Result, longer_film
from plugins.caricature import view

NONE = torch.zeros(0)


@dataclass(frozen=True)
class CaricatureResult(Result):
    """For each image and layer a picture with a similar, stronger pattern of activations there."""

    view: ClassVar[Any] = view

    images: Tensor  # (B, C, H, W) float32 in [0, 1]
    labels: tuple[str, ...]  # B class names
    layers: tuple[str, ...]  # L names, early to late
    targets: tuple[str, ...]  # T: what the attribution is to; none: plain caricatures
    drawn: Tensor  # (B, T, L, C, H, W) in [0, 1], whole 255ths, as all pictures here
    cosine: Tensor  # (B, T, L) between the activations of picture and image at the layer
    start_cosine: Tensor  # (B, L) of the grey picture that it began from
    identified: Tensor  # (B, T, L) 1 where no image of another class is nearer to the picture, else 0; -1 without one
    control: Tensor  # (B, L, C, H, W) the plain caricatures of a network with random weights, or (0,)
    control_cosine: Tensor  # (B, L) that these reach in the network itself, or (0,)
    iterated: bool
    film: Tensor  # (E, B, C, H, W) the deepest layer's caricature of the first target at this look and earlier ones
    looks: tuple[int, ...]  # E numbers of these looks, from 0
    # These are (0,) in results of version 0.1:
    recognised: Tensor = NONE  # (B, T, L) 1 where the network's answer is that to the image, else 0; -1 without one
    start_recognised: Tensor = NONE  # (B,) the same of the grey picture
    control_sound: Tensor = NONE  # (B, L) 1 where the random layer tells images apart and the picture moved, else 0

    def following(self, previous: "CaricatureResult") -> "CaricatureResult":
        if self.layers != previous.layers or self.drawn.shape != previous.drawn.shape:
            return self
        film, looks = longer_film(previous.film, previous.looks, self.film)
        return replace(self, film=film, looks=looks)

    def scalars(self) -> dict[str, float]:
        by_layer = {f"cosine/{name}": float(self.cosine[:, 0, index].mean()) for index, name in enumerate(self.layers)}
        shares = {name: getattr(self, name) for name in ("identified", "recognised", "start_recognised")}
        known = {name: values[values >= 0] for name, values in shares.items()}
        known["control_cosine"] = self.sound_cosines
        return {
            "cosine": float(self.cosine.mean()),
            "start_cosine": float(self.start_cosine.mean()),
            **by_layer,
            **{name: float(values.mean()) for name, values in known.items() if len(values)},
        }

    @property
    def sound_cosines(self) -> Tensor:
        """(n,) of `control_cosine` those of controls that are some."""
        sound = self.control_sound if len(self.control_sound) else torch.ones_like(self.control_cosine)
        return self.control_cosine[sound > 0]
