"""How neuron groups are shown: where each fires and what it looks for, and how like themselves they were before."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.draw import cell_side, dim, enlarge, grid, heat, hues, overlay, rgb, stacked
from interp.draw.groups_widget import groups_widget, intensities
from interp.factorization import match_maps
from interp.parts import drawn, omissions

if TYPE_CHECKING:
    from plugins.nmf.result import NMFResult

IN_ORDER = {
    "horizontal_peak": "in the order in which they peak from left to right",
    "energy": "strongest first",
    "effect": "by their effect on each image's first class",
}


def pictures(result: "NMFResult") -> dict[str, Tensor]:
    """The groups on the images; how they emerged where there were looks before."""
    makers = {"groups": lambda: _groups(result)}
    if len(result.past):
        makers["emergence"] = lambda: _emergence(result)
    return drawn("picture", makers)


def _groups(result: "NMFResult") -> Tensor:
    side = cell_side(result.images)
    colours = hues(result.spatial.shape[1])
    images = enlarge(rgb(result.images), side)
    maps = enlarge(intensities(result.spatial), side) / 255
    together = overlay(dim(images), maps, colours)
    alone = [overlay(dim(images), maps[:, [k]], colours[[k]]) for k in range(len(colours))]
    icons, names = _rows_of_icons(result, side)
    blank = torch.ones(len(icons), 2, 3, side, side)
    cells = torch.cat([torch.cat([blank, icons], dim=1), torch.stack([images, together, *alone], dim=1)])
    columns = ["image", "groups", *(f"{k + 1}" for k in range(len(colours)))]
    return grid(cells, [*names, *result.labels], columns)


def _rows_of_icons(result: "NMFResult", side: int) -> tuple[Tensor, list[str]]:
    """Rows (R, K, 3, side, side) of what stands for each group, and their names: drawings first, then crops."""
    crops = result.icons.transpose(0, 1)  # (n, K, C, s, s)
    rows = torch.stack([enlarge(rgb(row), side) for row in crops])
    names = ["strongest", *([""] * (len(crops) - 1))]
    if not len(result.drawn):
        return rows, names
    return torch.cat([enlarge(rgb(result.drawn), side)[None], rows]), ["drawn", *names]


def _emergence(result: "NMFResult") -> Tensor:
    similarity = torch.cat([result.similarity, torch.ones(1, len(result.channel))]).clamp(0, 1)
    colours = hues(len(result.channel))
    cells = heat(similarity.T[..., None, None].expand(-1, -1, 28, 28), colours[:, None])
    looks = [f"{look}" for look in (*result.past_looks, result.look)]
    return grid(cells, [f"group {k + 1}" for k in range(len(colours))], looks)


def compared(results: "dict[str, NMFResult]") -> dict[str, tuple[Tensor, str]]:
    """The groups of all networks, each in the colour of that group of the first whose maps are most like its own."""
    (base, first), *others = results.items()
    sheets, correlations = {base: _groups(first)}, []
    for name, other in others:
        if torch.equal(other.images, first.images):
            order, alike = match_maps(other.spatial, first.spatial)
            sheets[name] = _groups(other.reordered(order))
            correlations.append(f"{name}: {', '.join(f'{value:.2f}' for value in alike.tolist())}")
    text = f"Groups of one colour fire where those of {base} do. Correlations of their maps, in order: "
    return {"groups": (stacked(sheets), text + "; ".join(correlations) + ". Near 0: no such group there.")}


def widgets(result: "NMFResult") -> dict[str, str]:
    """The groups to explore, with their effects where there are any."""
    effects = next((effects for effects in (result.effects, result.exact_effects) if len(effects)), None)
    classes = None if effects is None else result.classes

    def explore() -> str:
        icons = result.drawn if len(result.drawn) else result.icons[:, 0]
        maps, caption = result.spatial.clamp_min(0), captions(result)["groups"]
        return groups_widget(result.images, result.labels, maps, icons, effects, classes, caption)

    return drawn("widget", {"explore": explore})


def captions(result: "NMFResult") -> dict[str, str]:
    """What each picture shows, and how far to trust the groups."""
    order = IN_ORDER[result.order]
    if len(result.kinship):
        order = f"each in the colour of its next of kin in the epoch before (mean cosine {result.kinship.mean():.2f})"
    text = f"{len(result.channel)} neuron groups at {result.layer}{result.about}, {order}. {_honest_line(result)}"
    captions_of = {"groups": text + omissions(result.left_out)}
    if len(result.past):
        captions_of["emergence"] = (
            "How like itself each group was at earlier looks (columns; 0 is the first): the brighter, the larger the "
            "cosine of its channel factor then to the one of now."
        )
    return captions_of


def _about_effects(result: "NMFResult") -> str:
    """A sentence, with a space before it, on how exact the effects are, '' where there are none to compare."""
    scalars = result.scalars()
    if "effect_agreement" in scalars:
        return f" Linear and exact effects correlate {scalars['effect_agreement']:.2f}."
    if not result.linear_tail:
        return ""
    return (
        " Effects are exact by construction, as the network after the layer is linear in the groups; what the groups "
        f"leave out moves the logits by {scalars['effect_residual']:.0%} of what all of them do together."
    )


def _honest_line(result: "NMFResult") -> str:
    """What stands beside the picture so that a reader knows how far to trust it."""
    scalars = result.scalars()
    text = f"They leave {result.relative_error**2:.0%} of the activations' energy (sum of squares) unexplained"
    if result.trust:
        null, best, stability, worst = result.trust.values()
        text += (
            f"; {null**2:.0%} with each channel shuffled, {best**2:.0%} at best with factors of any sign. Maps "
            f"correlate {stability:.2f} with those of random starts, the worst group {worst:.2f}: near 1 the "
            "groups are a fact, far below one choice among several"
        )
    text += f".{_about_effects(result)}"
    if len(result.curve):
        text += f" The count is the smallest, up to {len(result.curve)}, after which one more would explain under 2%."
    dead = int(scalars["dead_groups"])
    text += f" {dead} groups never fire;" if dead else " Every group fires;"
    negative = f" {result.negative_share:.0%} of the energy is negative." if result.negative_share else ""
    return text + (negative or " no activation is negative.")
