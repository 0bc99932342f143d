"""How caricatures are shown: beside their images, with those of random weights, and as a film of the looks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.draw import cell_side, enlarge, grid, rgb
from interp.parts import drawn, omissions

if TYPE_CHECKING:
    from plugins.caricature.result import CaricatureResult


def pictures(result: "CaricatureResult") -> dict[str, Tensor]:
    """Each image with its caricatures, the same of random weights, and a film of the looks; what there is of them."""
    towards = ["" if target == "none" else f" > {target}" for target in result.targets]
    names = [f"{layer}{target}" for target in towards for layer in result.layers]
    makers = {"caricatures": lambda: _sheet(result, result.drawn.flatten(1, 2), names)}
    if len(result.control):
        makers["control"] = lambda: _sheet(result, result.control, result.layers)
    if len(result.looks) > 1:
        makers["film"] = lambda: _film(result)
    return drawn("picture", makers)


def _sheet(result: "CaricatureResult", caricatures: Tensor, names: Sequence[str]) -> Tensor:
    """Images, and beside each its caricatures (B, Q, C, H, W)."""
    side = cell_side(result.images)
    columns = [enlarge(rgb(column), side) for column in (result.images, *caricatures.unbind(1))]
    return grid(torch.stack(columns, dim=1), result.labels, ["image", *names])


def _film(result: "CaricatureResult") -> Tensor:
    cells = torch.stack([enlarge(rgb(frame), cell_side(result.images)) for frame in result.film], dim=1)
    return grid(cells, result.labels, [f"{look}" for look in result.looks])


def compared(results: "dict[str, CaricatureResult]") -> dict[str, tuple[Tensor, str]]:
    """The caricatures of each network's deepest layer beside the images that all have looked at."""
    first = next(iter(results.values()))
    side = cell_side(first.images)
    fitting = {name: result for name, result in results.items() if torch.equal(result.images, first.images)}
    columns = [enlarge(rgb(first.images), side)]
    columns += [enlarge(rgb(result.drawn[:, 0, -1]), side) for result in fitting.values()]
    names = ["image", *(f"{name}: {result.layers[-1]}" for name, result in fitting.items())]
    cosines = ", ".join(f"{name} {float(result.cosine[:, 0, -1].mean()):.2f}" for name, result in fitting.items())
    text = f"The same images as each network's deepest chosen layer saw them. Mean cosines reached: {cosines}."
    return {"compared": (grid(torch.stack(columns, dim=1), first.labels, names), text)}


def captions(result: "CaricatureResult") -> dict[str, str]:
    """What each picture shows, and how much it says about image and network."""
    captions_of = {"caricatures": _about_caricatures(result)}
    if len(result.looks) > 1:
        captions_of["film"] = f"The caricature at {result.layers[-1]} at earlier looks (columns; 0 is the first)."
    if len(result.control):
        captions_of["control"] = _about_control(result)
    return captions_of


def _about_control(result: "CaricatureResult") -> str:
    """What random weights show, or that they are no control."""
    sound, count = result.sound_cosines, result.control_cosine.numel()
    void = f"{count - len(sound)} of {count}" if len(sound) else "all"
    why = (
        f"No control: {void} of these pictures, which stay as they began or come from a layer that is the same for all "
        "images with random weights, and tell nothing of what was learnt."
    )
    if not len(sound):
        return why
    text = (
        "The same from a network with random weights, scaled so that its signal does not die out: what stays "
        f"recognisable here is not learnt. In the network itself these reach a mean cosine of {sound.mean():.2f}."
    )
    return text if len(sound) == count else f"{text} {why}"


def _about_caricatures(result: "CaricatureResult") -> str:
    plain = result.targets == ("none",)
    text = (
        "Pictures that excite a layer in the pattern in which the image does, but more. "
        if plain
        else "Pictures that excite what in each layer speaks for a target in this image. "
    )
    if result.iterated:
        text += "The attribution runs from layer to layer (its authors are not sure that this is principled). "
    shares = result.scalars()
    nearer = "there is no image of another class to be nearer to"
    if "identified" in shares:
        nearer = f"{shares['identified']:.0%} are nearer to their image than to any of another class here"
    if "recognised" in shares:
        nearer += f", and the network gives {shares['recognised']:.0%} the class that it gives the image (grey: "
        nearer += f"{shares['start_recognised']:.0%})"
    return text + (
        f"Mean cosine to the image's own activations {result.cosine.mean():.2f} (from grey: "
        f"{result.start_cosine.mean():.2f}); {nearer}. Where that is low, the picture says little about the image; "
        "where it is high, the network need not have learned anything: random weights reach it too, so compare "
        f"with epoch 0.{omissions(result.left_out)}"
    )
