"""How pictures of channels are shown: beside the probe images that excite the channel most and least."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.draw import cell_side, enlarge, grid, note, rgb
from interp.parts import drawn, omissions

if TYPE_CHECKING:
    from plugins.feature_visualization.result import FeatureVisualizationResult

OPAQUE = 0.95  # of the pixels by how much they mattered: those above it are shown as they are


def pictures(result: "FeatureVisualizationResult") -> dict[str, Tensor]:
    """The channels, and the activation grids where there are any."""
    makers = {"channels": lambda: _channels(result)}
    if len(result.grids):
        makers["activation_grid"] = lambda: _activation_grid(result)
    return drawn("picture", makers)


def _channels(result: "FeatureVisualizationResult") -> Tensor:
    """A row a channel: its picture, the objective in numbers, and the images that excite it most and least."""
    count, side = min(result.shown, len(result.images)), cell_side(result.drawn)
    order = result.of_images.argsort(dim=1, descending=True, stable=True)
    thumbnails = enlarge(rgb(result.images), side)
    most, least = thumbnails[order[:, :count]], thumbnails[order[:, len(result.images) - count :]]
    cells = torch.cat([enlarge(rgb(_shown(result)), side)[:, None], _notes(result, side)[:, None], most, least], dim=1)
    class_names = result.class_names or ("",) * len(result.layers)
    channels = [name or str(channel) for name, channel in zip(class_names, result.channels.tolist(), strict=True)]
    names = [f"{layer}: {channel}" for layer, channel in zip(result.layers, channels, strict=True)]
    columns = ["picture", "objective", "most", *[""] * (count - 1), *[""] * (count - 1), "least"]
    return grid(cells, names, columns)


def _shown(result: "FeatureVisualizationResult") -> Tensor:
    """The pictures (N, C, H', W'), on white and as opaque as their pixels mattered where that is asked for."""
    if not len(result.influence):
        return result.drawn
    most = result.influence.flatten(1).quantile(OPAQUE, dim=1)[:, None, None]
    opacity = (result.influence / torch.where(most > 0, most, 1.0)).clamp(0, 1)[:, None]
    return result.drawn * opacity + (1 - opacity)


def _notes(result: "FeatureVisualizationResult", side: int) -> Tensor:
    """The objective on picture, images and start, and what of it is left when blurred, in words: (N, 3, side, side)."""
    best, least = result.of_images.amax(dim=1), result.of_images.amin(dim=1)
    rows = torch.stack([result.values, best, least, result.start], dim=1).tolist()
    names, white = ("drawn", "best", "least", "start"), torch.ones(3)
    lines = [[(f"{name} {value:.3g}", white) for name, value in zip(names, row, strict=True)] for row in rows]
    for row_of_channel, share in zip(lines, result.kept_shares.tolist(), strict=False):
        row_of_channel.append((f"blurred {share:.0%}", white))
    return torch.stack([note(lines_of_channel, side) for lines_of_channel in lines])


def _activation_grid(result: "FeatureVisualizationResult") -> Tensor:
    side = max(result.grids.shape[-2:])
    columns = [enlarge(rgb(column), side) for column in (result.images[list(result.gridded)], result.grids)]
    return grid(torch.stack(columns, dim=1), (), ["image", result.layers[-1]])


def _trust(result: "FeatureVisualizationResult") -> str:
    """What speaks for the pictures beside their objective, which show nothing, and which were left early."""
    count, text = len(result.values), ""
    if len(result.kept):
        text = (
            f" Blurred to a quarter of its detail a picture keeps {result.kept_shares.mean():.0%} of its gain (the "
            "last number beside it): in large networks, the less, the more fine detail pleases this one alone."
        )
    if idle := int((result.values <= result.start).sum()):
        text += f" {idle} of {count} excite their channel no more than their start did: they show nothing of it."
    if early := int((result.steps < result.most_steps).sum()):
        text += f" {early} of {count} gained nothing more and were left before the last step."
    return text


def _paper(result: "FeatureVisualizationResult") -> str:
    return "White: pixels that did not matter. " if len(result.influence) else ""


def captions(result: "FeatureVisualizationResult") -> dict[str, str]:
    """What each picture shows, and how far the pictures of channels go beyond the images."""
    scalars = result.scalars()
    ratio = scalars.get("gain_over_images")
    beyond = (
        "; no image excites any of them above 0, so there is no ratio: compare the numbers"
        if ratio is None
        else f", the median {ratio:.1f} times as much: a picture far below 1 has found nothing, one far above shows "
        "what no image of the data contains"
    )
    text = (
        f"{result.about} Beside each picture the objective on it, on the best and least of the probe images and at the "
        f"start, and the images that excite the channel most and least. {_paper(result)}"
        f"{scalars['beats_images']:.0%} of the pictures excite their channel more than any probe image does"
        f"{beyond}.{_trust(result)}{omissions(result.left_out)}"
    )
    grids = (
        "Every position of the deepest layer (at most 8 rows and columns, evenly spread) drawn as what excites the "
        "pattern of channels that fires there; the area is in proportion to how strongly it fires. Each cell "
        "is a picture of its own, not a piece of the image, and shows what the network could respond to."
    )
    return {"channels": text, "activation_grid": grids} if len(result.grids) else {"channels": text}
