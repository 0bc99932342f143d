"""How saliency is shown: the five panels, a sheet of the methods' maps, a film of the looks, a table of the checks."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.attribution.curves import ORDERS
from interp.attribution.trust import LIMITS, SIGNIFICANCE, verdict
from interp.draw import cell_side, divergent, enlarge, grid, rgb
from interp.draw.table import html_table
from interp.parts import drawn, omissions
from interp.result import Cell

if TYPE_CHECKING:
    from plugins.saliency.result import SaliencyResult

PANELS = ("source", "baseline", "saliency", "delta", "overlay")


def pictures(result: "SaliencyResult") -> dict[str, Tensor]:
    """The five panels, the maps of all methods, and a film of the first method's; what there is of them."""
    makers = {"panels": lambda: _panels(result)} if len(result.gradient) else {}
    if result.methods:
        names = ["image", *(method.replace("_", " ") for method in result.methods)]
        makers["methods"] = lambda: _sheet(result, result.maps / large(result.maps), names)
    if result.methods and len(result.looks) > 1:
        looks = ["image", *(f"look {look}" for look in result.looks)]
        makers["film"] = lambda: _sheet(result, (result.film / large(result.film)).transpose(0, 1), looks)
    return drawn("picture", makers)


def _panels(result: "SaliencyResult") -> Tensor:
    delta = result.gradient - result.baseline
    signed = torch.stack([result.baseline, result.gradient, delta, delta * result.images]).sum(dim=2)
    sizes = large(signed)
    scale = torch.cat([sizes[:3].amax(dim=0, keepdim=True).expand(3, -1, -1, -1), sizes[3:]])
    return _sheet(result, (signed / scale).transpose(0, 1), PANELS)


def _sheet(result: "SaliencyResult", maps: Tensor, names: Sequence[str]) -> Tensor:
    """Images, and beside each its maps (B, Q, H, W) in [-1, 1]."""
    side = cell_side(result.images, small=128)  # the longest name of a method fits
    cells = [enlarge(rgb(result.images), side)[:, None], divergent(enlarge(maps, side))]
    return grid(torch.cat(cells, dim=1), result.labels, names)


def large(maps: Tensor) -> Tensor:
    """What 99% of the sizes in maps (..., H, W) do not exceed (..., 1, 1); the largest where that is 0.

    A few pixels of a gradient are so large that beside them the rest would be black (Smilkov et al. 2017, SmoothGrad).
    """
    sizes = maps.abs().flatten(-2)
    most = sizes.kthvalue(math.ceil(0.99 * sizes.shape[-1]), dim=-1).values
    return torch.where(most > 0, most, sizes.amax(dim=-1)).clamp_min(1e-30)[..., None, None]


def captions(result: "SaliencyResult") -> dict[str, str]:
    """What each picture shows, and how far to trust it."""
    captions_of = {}
    if len(result.gradient):
        correlation = result.scalars()["overlay_input_correlation"]
        captions_of["panels"] = (
            f"Gradient of the logit of {result.about}. Orange raises the logit, blue lowers it. Delta = saliency - "
            "baseline; overlay = delta x image. Baseline, saliency and delta of a row share one scale. The "
            f"overlay's ranks agree {correlation:.2f} with the image's own brightness: near 1 shows the image, not "
            "the network."
        )
    left_out = omissions(result.left_out)
    if not result.methods:
        return {name: text + left_out for name, text in captions_of.items()}
    captions_of["methods"] = _about_methods(result) + left_out
    if len(result.looks) > 1:
        captions_of["film"] = f"{result.methods[0]} at earlier looks (0 is the first), each map on its own scale."
    return captions_of


def _about_methods(result: "SaliencyResult") -> str:
    text = (
        "One column a method, each map on its own scale, its largest hundredth in full colour; orange raises the "
        "logit, blue lowers it. "
    )
    text += f"Grad-CAM is at {result.layer}. " if result.layer else ""
    text += verdict(result.checks) if result.checks else ""
    return text.strip()


def tables(result: "SaliencyResult") -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """The checks of each method, where any were made."""
    if not result.checks:
        return {}
    rows: list[list[Cell]] = [
        [method, *(checks.get(check, math.nan) for check in LIMITS)] for method, checks in result.checks.items()
    ]
    return {"checks": (["method", *(check.replace("_", " ") for check in LIMITS)], rows)}


def widgets(result: "SaliencyResult") -> dict[str, str]:
    """The table of the checks, with what their bad values mean."""
    if not result.checks:
        return {}
    columns, rows = tables(result)["checks"]
    texts_of_rows = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    limits = [
        f"{check.replace('_', ' ')} {'above' if limit > 0 else 'below'} {abs(limit):g}: {meaning}"
        for check, (limit, meaning) in LIMITS.items()
        if check not in SIGNIFICANCE
    ]
    about = f"A z is the gain in standard errors of {ORDERS} random orders of the pixels. nan: not checked."
    return {"checks": html_table(columns, texts_of_rows, f"Bad values. {'; '.join(limits)}. {about}")}
