"""How similarity is shown: heat maps of the CKA of layers, within a network and between networks."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.draw.charts import heat_map
from interp.parts import omissions
from interp.similarity import COMPONENTS, SIDE, cka

if TYPE_CHECKING:
    from plugins.similarity.result import SimilarityResult


def pictures(result: "SimilarityResult") -> dict[str, Tensor]:
    """The CKA of any two layers."""
    return {"layers": heat_map({"CKA": result.alike}, result.layers, {"CKA": result.layers})}


def captions(result: "SimilarityResult") -> dict[str, str]:
    """What is compared, how far layers moved since the look before, and which see all images as the same."""
    text = (
        f"How alike two layers see the same {result.count} images (linear CKA of activations: 1 is the same up to "
        f"rotation and scale, 0 unrelated). Grids finer than {SIDE} x {SIDE} are averaged to that, which changes their "
        "values by some hundredths. Neighbours that stay at 1 add nothing to each other. Values of few images are too "
        "high: compare them with each other, not with 1."
    )
    if "drift" in (scalars := result.scalars()):
        text += f" Since the look before, layers moved by {scalars['drift']:.3f} (1 - CKA, mean).{_exactness(result)}"
    if result.constant:
        text += (
            f" The same for all images: {', '.join(result.constant)}; likeness to such a layer is undefined, drawn "
            "as 0 and left out of means and drift."
        )
    return {"layers": text + omissions(result.left_out)}


def _exactness(result: "SimilarityResult") -> str:
    """How exact comparisons with other looks and networks are, where they are not."""
    if not result.error and result.widths != (COMPONENTS,):
        return ""
    text = f" That is of each layer's {COMPONENTS:,} largest principal components"
    if result.error:
        text += f", which changes the CKA of neighbouring layers here by up to {result.error:.1g}"
    return f"{text}."


def compared(results: "dict[str, SimilarityResult]") -> dict[str, tuple[Tensor, str]]:
    """The CKA of layers of the first network (down) with those of each other one that saw as many images."""
    (base, first), *others = results.items()
    fitting = {f"{base} (down) and {name}": other for name, other in others if other.count == first.count}
    if not fitting:
        return {}
    tables = {
        name: torch.tensor([[cka(layer, theirs) for theirs in other.kept] for layer in first.kept])
        for name, other in fitting.items()
    }
    columns = {name: other.layers for name, other in fitting.items()}
    text = f"How alike layers of {base} and of the other networks see the same images (linear CKA).{_exactness(first)}"
    return {"similarity": (heat_map(tables, first.layers, columns), text)}
