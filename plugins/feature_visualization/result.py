"""What feature visualisation has found at one look: pictures that excite channels, and how far the probe images do."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.result import Result
from plugins.feature_visualization import view


@dataclass(frozen=True)
class FeatureVisualizationResult(Result):
    """Pictures of some channels of some layers, with the probe images that excite them most and least."""

    view: ClassVar[Any] = view

    images: Tensor  # (B, C, H, W) float32 in [0, 1], the probe
    layers: tuple[str, ...]  # N names, one a picture
    channels: Tensor  # (N,) int64
    drawn: Tensor  # (N, C, H', W') in [0, 1], whole 255ths
    values: Tensor  # (N,) the objective on the picture
    start: Tensor  # (N,) the objective on the noise or image that it began from
    of_images: Tensor  # (N, B) the objective on the probe images
    shown: int  # of the most and of the least activating images
    about: str
    grids: Tensor  # (G, C, h, w) in [0, 1], the activation grids of the deepest layer, or (0,)
    gridded: tuple[int, ...]  # G indices of the images that these are of
    kept: Tensor = field(
        default_factory=lambda: torch.zeros(0)
    )  # (N,) of the gain, when the picture is blurred, or (0,)
    influence: Tensor = field(default_factory=lambda: torch.zeros(0))  # (N, H', W') how opaque it is shown, or (0,)
    steps: Tensor = field(default_factory=lambda: torch.zeros(0))  # (N,) int64 that moved each picture
    most_steps: int = 0  # that could have
    class_names: tuple[str, ...] = ()  # N, of the class whose logit each excites, '' for none; of old results ()

    def scalars(self) -> dict[str, float]:
        best = self.of_images.amax(dim=1)
        alive = best > 0
        return {
            "value": float(self.values.mean()),
            **({"gain_over_images": float((self.values[alive] / best[alive]).median())} if alive.any() else {}),
            "beats_images": float((self.values > best).float().mean()),
            **({"kept": float(self.kept_shares.mean())} if len(self.kept) else {}),
            "silent_channels": float(((best <= 0) & (self.values <= self.start)).sum()),
        }

    @property
    def kept_shares(self) -> Tensor:
        """(N,) in [0, 1]: where blurring gains more than was lost all is kept, where it loses more than all nothing."""
        return self.kept.clamp(0, 1)
