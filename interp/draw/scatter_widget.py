"""The embedding widget: points that show their image, as one self-contained HTML text for W&B, the report, notebooks.

Letters: N images, E looks, J classes.
"""

import math
from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from interp.draw.colour import rgb
from interp.draw.scatter import NAMED, class_colours, unit_square
from interp.files import readable

HERE = Path(__file__).parent
UNITS = 1000  # of the plane's side: coordinates are kept as whole numbers


def scatter_widget(
    layouts: Tensor,
    looks: Sequence[str],
    labels: Tensor,
    predicted: Tensor,
    class_names: Sequence[str],
    images: Tensor,
    caption: str = "",
) -> str:
    """Points at layouts (E, N, 2), with a slider over the E looks, in the colour of labels (N,), -1 unknown.

    Pointing at a point (or the arrow keys) shows its image of uint8 images (N, C, s, s), its class and the `predicted`
    one (N,); wrong ones have a rim. Names may hold anything: they are shown as text. Raises ValueError where the
    counts differ.
    """
    import jinja2

    if not layouts.shape[1] == len(labels) == len(predicted) == len(images):
        counts = (layouts.shape[1], len(labels), len(predicted), len(images))
        raise ValueError(f"layouts, labels, predictions and images are of {counts} images")
    places = torch.stack([(unit_square(layout) * UNITS).round().int() for layout in layouts])
    colours = (class_colours(torch.arange(len(class_names)), len(class_names)) * 255).int().tolist()
    columns = math.ceil(math.sqrt(len(images)))
    data = {
        "places": places.flatten(1).tolist(), "labels": labels.tolist(), "predicted": predicted.tolist(),
        "names": list(class_names), "columns": columns, "looks": list(looks),
        "colours": [f"rgb({red} {green} {blue})" for red, green, blue in colours],
    }  # fmt: skip
    style, script = ((HERE / f"scatter_widget.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((HERE / "scatter_widget.html").read_text(encoding="utf-8"))
    present = sorted(set(labels.tolist()) - {-1})
    page = template.render(
        style=style, script=script, data=data, caption=caption, sprite=sprite(images, columns), columns=columns,
        rows=math.ceil(len(images) / columns), units=UNITS, classes=[(j, class_names[j]) for j in present],
        legend=len(class_names) <= NAMED,
    )  # fmt: skip
    return readable(page)


def sprite(images: Tensor, columns: int) -> str:
    """Images uint8 (N, C, s, s) in rows of `columns`, as the data URL of one PNG."""
    from torchvision.transforms.v2.functional import to_pil_image

    padded = torch.nn.functional.pad(rgb(images), (0, 0, 0, 0, 0, 0, 0, -len(images) % columns))
    sheet = padded.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    file = BytesIO()
    to_pil_image(sheet).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
