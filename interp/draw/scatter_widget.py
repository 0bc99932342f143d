"""The embedding widget: points that show their image, as one self-contained HTML text for W&B, the report, notebooks.

Letters: N images, E looks, J classes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from interp.draw.colour import class_colours, rgb
from interp.draw.scatter import NAMED, unit_square
from interp.draw.widget import data_url, widget_page

UNITS = 1000  # of the plane's side: coordinates are kept as whole numbers


def scatter_widget(
    layouts: Tensor,
    looks: Sequence[str],
    labels: Tensor,
    predicted: Tensor,
    class_names: Sequence[str],
    images: Tensor,
    caption: str = "",
    image_names: Sequence[str] = (),
) -> str:
    """Points at layouts (E, N, 2), with a slider over the E looks, in the colour of labels (N,), -1 unknown.

    Pointing at a point (or the arrow keys) shows its image of uint8 images (N, C, s, s), its class, or its own of the
    `image_names` where that is unknown, and the `predicted` class (N,); wrong ones have a rim. Names may hold anything:
    they are shown as text. Raises ValueError where the counts differ.
    """
    if not layouts.shape[1] == len(labels) == len(predicted) == len(images):
        counts = (layouts.shape[1], len(labels), len(predicted), len(images))
        raise ValueError(f"layouts, labels, predictions and images are of {counts} images")
    places = torch.stack([(unit_square(layout) * UNITS).round().int() for layout in layouts])
    colours = (class_colours(torch.arange(len(class_names)), len(class_names)) * 255).int().tolist()
    columns = math.ceil(math.sqrt(len(images)))
    data = {
        "places": places.flatten(1).tolist(), "labels": labels.tolist(), "predicted": predicted.tolist(),
        "names": list(class_names), "columns": columns, "looks": list(looks), "images": list(image_names),
        "colours": [f"rgb({red} {green} {blue})" for red, green, blue in colours],
    }  # fmt: skip
    present = sorted(set(labels.tolist()) - {-1})
    return widget_page(
        "embeddings", "Embeddings", data=data, caption=caption, sprite=sprite(images, columns), columns=columns,
        rows=math.ceil(len(images) / columns), units=UNITS, classes=[(j, class_names[j]) for j in present],
        legend=len(class_names) <= NAMED,
    )  # fmt: skip


def sprite(images: Tensor, columns: int) -> str:
    """Images uint8 (N, C, s, s) in rows of `columns`, as the data URL of one PNG."""
    from torchvision.transforms.v2.functional import to_pil_image

    padded = torch.nn.functional.pad(rgb(images), (0, 0, 0, 0, 0, 0, 0, -len(images) % columns))
    sheet = padded.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return data_url(to_pil_image(sheet), "PNG", optimize=True)
