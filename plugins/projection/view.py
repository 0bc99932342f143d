"""How a projection is shown: a scatter of the images, its film, a widget to explore, and TensorBoard's projector."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.draw import grid, rgb
from interp.draw.colour import class_colours
from interp.draw.scatter import NAMED, legend, scatter
from interp.draw.scatter_widget import scatter_widget
from interp.draw.text import one_line
from interp.parts import drawn, omissions

if TYPE_CHECKING:
    from plugins.projection.result import ProjectionResult

KINDS = {"tsne": "t-SNE", "pca": "Principal components", "umap": "UMAP"}


def pictures(result: "ProjectionResult") -> dict[str, Tensor]:
    """The images in the plane, with a legend where the classes are few, and a film of the looks."""
    makers = {"scatter": lambda: _scatter(result)}
    if len(result.looks) > 1:
        makers["film"] = lambda: _film(result)
    return drawn("picture", makers)


def _scatter(result: "ProjectionResult") -> Tensor:
    classes = len(result.class_names)
    colours = class_colours(result.labels, classes)
    plane = scatter(result.layout, colours, result.wrong)
    if classes <= NAMED:
        colours_of_classes = class_colours(torch.arange(classes), classes)
        plane = torch.cat([plane, legend(result.class_names, colours_of_classes, plane.shape[1])], dim=2)
    return plane


def _film(result: "ProjectionResult") -> Tensor:
    colours = class_colours(result.labels, len(result.class_names))
    cells = torch.stack([scatter(layout, colours, side=200) for layout in result.film]).float() / 255
    return grid(cells[None], (), [f"look {look}" for look in result.looks])


def captions(result: "ProjectionResult") -> dict[str, str]:
    """What is embedded, and how far the picture can be trusted."""
    captions_of = {"scatter": _what_is_embedded(result) + _how_far_to_trust(result) + omissions(result.left_out)}
    if len(result.looks) > 1:
        captions_of["film"] = "The same images at earlier looks (0 is the first); each begins at the layout before it."
    return captions_of


def _what_is_embedded(result: "ProjectionResult") -> str:
    count = len(result.labels)
    text = f"{KINDS[result.method]} of the embeddings at {result.layer}: {count} of {result.of} validation images"
    text += "" if count == result.of else ", balanced over the classes"
    return f"{text}; colour: true class; black crosses: predicted wrongly."


def _how_far_to_trust(result: "ProjectionResult") -> str:
    """Sentences, each with a space before it."""
    text, trust = "", result.trust
    if "knn_accuracy" in trust:
        text += (
            f" {trust['knn_accuracy']:.0%} have the class of most of their 10 nearest in the layer (silhouette "
            f"{trust['silhouette']:.2f})."
        )
    if "trustworthiness" in trust:
        text += f" Neighbours in the picture are neighbours in the layer to {trust['trustworthiness']:.0%}."
    if trust:
        text += (
            f" All of that is of these {len(result.labels)} images, by the {result.vectors.shape[1]} largest principal "
            f"components of the embeddings ({result.variance_kept:.0%} of their variance): among more images others "
            "would be near."
        )
    if result.method != "pca":
        text += " Distances between groups, their sizes and their density mean little in such a picture."
    return text


def widgets(result: "ProjectionResult") -> dict[str, str]:
    """The film to explore, image by image."""
    looks = [f"{look}" for look in result.looks]
    names, caption = result.class_names, captions(result)["scatter"].replace("black crosses", "rims")
    points = result.labels, result.predicted, names, result.thumbnails
    return {"explore": scatter_widget(result.film, looks, *points, caption, result.image_names)}


def to_tensorboard(result: "ProjectionResult", writer: Any, name: str, step: int) -> None:
    """TensorBoard's projector: the embeddings with their images, classes and predictions."""
    names = [one_line(name) for name in result.class_names]  # its table is of lines and tabs
    unknown = [one_line(name) or "unknown" for name in result.image_names or ("",) * len(result.labels)]
    true = [names[j] if j >= 0 else unknown[n] for n, j in enumerate(result.labels.tolist())]
    predicted = [names[j] if j >= 0 else "none" for j in result.predicted.tolist()]
    wrong = ["wrong" if is_wrong else "" for is_wrong in result.wrong.tolist()]
    rows = [list(row) for row in zip(true, predicted, wrong, strict=True)]
    images = rgb(result.thumbnails) / 255
    writer.add_embedding(result.vectors, rows, images, step, name, metadata_header=["class", "predicted", "wrong"])
