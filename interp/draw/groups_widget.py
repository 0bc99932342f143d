"""The neuron-groups widget: one self-contained HTML text, the same for W&B, the report and notebooks.

Letters: B images, K groups, J classes of an image; maps are h x w.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from interp.draw.colour import hues, rgb
from interp.draw.widget import data_url, widget_page
from interp.result import finite

PIXELATED = 96  # images up to this side are shown pixel by pixel, so they are kept without loss
LARGEST = 384  # pixels on the longer side that are kept; the page shows an image no larger


def groups_widget(
    images: Tensor,
    labels: Sequence[str],
    spatial: Tensor,
    icons: Tensor | None = None,
    effects: Tensor | None = None,
    class_names: Sequence[Sequence[str]] | None = None,
    caption: str = "",
) -> str:
    """Where each group fires, group by group and together, and what it does to the classes, as an HTML document.

    `images` (B, C, H, W) and `icons` (K, C, s, s) in [0, 1]; `labels` B names; `spatial` (B, K, h, w) >= 0;
    `effects` (B, K, J) in logits on the classes that `class_names` gives for each image (B tuples of J names);
    `caption` is what to know before believing it. Names may hold anything: they are shown as text. In a notebook:
    `IPython.display.HTML(text)`. Raises ValueError for shapes that do not fit each other and for NaN. After Olah et
    al. 2018, "The Building Blocks of Interpretability".
    """
    images, icons = rgb(images), None if icons is None else rgb(icons)
    _check(images, labels, spatial, icons, effects, class_names)
    return widget_page(
        "neuron-groups", "Neuron groups", data=_data(spatial, effects, class_names), caption=caption,
        images=[(label, picture(image)) for label, image in zip(labels, images, strict=True)],
        size=images.shape[:1:-1], pixelated=max(images.shape[-2:]) <= PIXELATED,
        hues=(hues(spatial.shape[1]) * 255).round().int().tolist(),
        icons=[] if icons is None else [picture(icon) for icon in icons],
    )  # fmt: skip


def intensities(spatial: Tensor) -> Tensor:
    """Maps (B, K, h, w) >= 0 in 0..255, uint8: divided by the 99th percentile over all images, groups and positions.

    Where more than 99% of the values are zero, by the largest one.

    >>> import torch
    >>> intensities(torch.tensor([0.0, 1.0, 2.0, 4.0]).view(1, 1, 2, 2)).flatten().tolist()
    [0, 65, 129, 255]
    """
    import numpy as np

    values = spatial.detach().float().cpu()  # torch.quantile refuses more than 16 million values
    brightest = float(np.quantile(values.numpy(), 0.99)) or float(values.max()) or 1.0
    return (values / brightest * 255).round().clamp(0, 255).byte()


def picture(image: Tensor) -> str:
    """An image (3, H, W) in [0, 1] as a data URL: PNG where it is small, otherwise JPEG at `LARGEST` pixels or less."""
    from torchvision.transforms.v2.functional import to_pil_image

    longer = max(image.shape[-2:])
    if longer > LARGEST:
        image = interpolate(image[None].float(), scale_factor=LARGEST / longer, mode="bilinear", antialias=True)[0]
    pil_image = to_pil_image((image.detach().float().cpu().clamp(0, 1) * 255).round().byte())
    return data_url(pil_image, "PNG", optimize=True) if longer <= PIXELATED else data_url(pil_image, "JPEG", quality=88)


def _data(spatial: Tensor, effects: Tensor | None, class_names: Sequence[Sequence[str]] | None) -> dict[str, Any]:
    """What the page's script reads; maps in base64, image by image, group by group, row by row."""
    _, groups, height, width = spatial.shape
    maps = b64encode(intensities(spatial).numpy().tobytes()).decode()
    data = {"groups": groups, "height": height, "width": width, "maps": maps, "effects": None}
    if effects is None or class_names is None:
        return data
    rounded = [[[float(f"{value:.4g}") for value in row] for row in image] for image in effects.tolist()]
    return data | {"effects": rounded, "classes": [list(names) for names in class_names]}


def _check(
    images: Tensor,
    labels: Sequence[str],
    spatial: Tensor,
    icons: Tensor | None,
    effects: Tensor | None,
    class_names: Sequence[Sequence[str]] | None,
) -> None:
    """Raise ValueError that says what does not fit what."""
    if spatial.ndim != 4 or not spatial.numel() or (finite(spatial, "the maps") < 0).any():
        raise ValueError(f"maps are (B, K, h, w) and not negative, but these are {tuple(spatial.shape)}")
    count, groups = spatial.shape[:2]
    if len(images) != count or len(labels) != count:
        raise ValueError(f"maps of {count} images, but {len(images)} images and {len(labels)} labels")
    if icons is not None and len(icons) != groups:
        raise ValueError(f"{groups} groups, but {len(icons)} icons")
    if (effects is None) != (class_names is None):
        raise ValueError("effects and class_names come together")
    if effects is None or class_names is None:
        return
    named = [len(names) for names in class_names]
    if named != [effects.shape[-1]] * count or tuple(finite(effects, "the effects").shape[:-1]) != (count, groups):
        raise ValueError(f"effects {tuple(effects.shape)} of {groups} groups on {count} images with {named} classes")
