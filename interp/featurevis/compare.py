"""The same images caricatured in several networks, side by side: what one saw and another did not."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.draw import enlarge, grid, rgb
from interp.errors import UserError
from interp.featurevis.caricature import caricatures
from interp.layers import Layer
from interp.result import Result


@dataclass(frozen=True)
class Comparison(Result):
    """Caricatures of the same images, with the same start and moves, in several networks."""

    images: Tensor  # (B, C, H, W) in [0, 1]
    labels: tuple[str, ...]  # B names of the rows, or none
    models: tuple[str, ...]  # M
    layers: tuple[str, ...]  # M, one a model
    drawn: Tensor  # (B, M, C, H, W) in [0, 1]
    cosine: Tensor  # (B, M) between the activations of picture and image in the model itself
    start_cosine: Tensor  # (B, M) of the grey picture that it began from

    def scalars(self) -> dict[str, float]:
        return {f"cosine/{model}": float(self.cosine[:, at].mean()) for at, model in enumerate(self.models)}

    def pictures(self) -> dict[str, Tensor]:
        side = 96 if max(self.images.shape[-2:]) <= 96 else 160
        cells = [enlarge(rgb(column), side) for column in (self.images, *self.drawn.unbind(1))]
        return {"compared": grid(torch.stack(cells, dim=1), self.labels, ["image", *self.models])}

    def captions(self) -> dict[str, str]:
        means = zip(self.models, self.layers, self.cosine.mean(dim=0), self.start_cosine.mean(dim=0), strict=True)
        said = "; ".join(
            f"{model} at {layer} {mean:.2f} (from grey: {start:.2f})" for model, layer, mean, start in means
        )
        return {
            "compared": "The same images, start and moves, caricatured in each model. Mean cosine to the image's own "
            f"activations: {said}. A model whose cosine hardly rises above grey draws nothing to compare, and "
            "cosines of different models are not on one scale."
        }


def compared(
    nets: Mapping[str, nn.Module],
    images: Tensor,
    layers: str | Mapping[str, str],
    *,
    labels: tuple[str, ...] = (),
    cosine_power: float = 1,
    **options,
) -> Comparison:
    """Caricatures of `images` (B, C, H, W) in each of `nets`, by label, at the layer that `layers` names for it.

    One name holds for all. `options` go to `caricatures` (steps, seed, ...), the same for every network. Raises
    UserError where the labels differ, a layer has no positions or there are no networks.
    """
    chosen = dict.fromkeys(nets, layers) if isinstance(layers, str) else dict(layers)
    if not nets or chosen.keys() != nets.keys():
        raise UserError(
            f"layers are named for {', '.join(chosen) or 'none'}; the models are {', '.join(nets) or 'none'}"
        )
    for model, net in nets.items():
        Layer.named(net, images, chosen[model])
    drawn = [caricatures(net, images, [chosen[m]], cosine_power=cosine_power, **options) for m, net in nets.items()]
    pictures, cosine, start = (
        torch.cat([getattr(each, name) for each in drawn], dim=1) for name in ("pictures", "cosine", "start_cosine")
    )
    names = tuple(chosen[model] for model in nets)
    return Comparison(images, tuple(labels), tuple(nets), names, pictures, cosine, start)
