"""Models of torchvision, built for weights and sizes of images."""

import inspect
from typing import Any, get_type_hints

from torch import nn

from interp.errors import UserError, unknown


def weights_of(name: str, weights: str) -> Any:
    """torchvision's entry of the `weights` of a model; raises UserError where there are none of that name."""
    from torchvision import models

    known = models.get_model_weights(name)
    names = [entry.name for entry in known]
    if weights not in (*names, "DEFAULT"):
        raise unknown("weights", weights, [*names, "DEFAULT"], owner=name)
    return getattr(known, weights)


def usual_size(name: str, weights: Any) -> int:
    """Of the images that a model was trained on, with these weights or its usual ones."""
    from torchvision import models

    return int((weights or models.get_model_weights(name).DEFAULT).transforms().crop_size[0])


def architecture(name: str, weights: Any, size: int, download: bool) -> nn.Module:
    """A model of torchvision for images of `size` pixels; raises UserError where it cannot take them."""
    from torchvision import models

    has_side_heads = name in ("googlenet", "inception_v3")
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if has_side_heads and not weights else {}
    if weights and not download:
        options = _as_with(name, weights.meta)
    options |= (of_size := _size_options(name, size))
    try:
        return models.get_model(name, weights=weights if download else None, **options)
    except (ValueError, AssertionError) as error:
        if not of_size:
            raise
        model, reason = f"{name} with weights" if weights else name, " ".join(str(error).split())
        usual = usual_size(name, weights)
        raise UserError(f"{model} cannot take images of {size} pixels ({reason}): give data.size={usual}") from error


def _as_with(name: str, meta: dict[str, Any]) -> dict[str, Any]:
    """What torchvision builds a network with where it is given weights that `meta` describes."""
    options: dict[str, Any] = {"num_classes": len(meta["categories"])} if meta["categories"] else {}
    if name.startswith("vit_"):
        options["image_size"] = meta["min_size"][0]
    if name in ("googlenet", "inception_v3"):
        options |= {"transform_input": True, "init_weights": False, "aux_logits": name == "inception_v3"}
    return options


def _size_options(name: str, size: int) -> dict[str, Any]:
    """What tells a model of torchvision the size of its images, where its class wants to know."""
    from torchvision import models

    builder = models.get_model_builder(name)
    wanted = inspect.signature(get_type_hints(builder).get("return", builder)).parameters
    return {key: value for key, value in {"image_size": size, "input_size": (size, size)}.items() if key in wanted}
