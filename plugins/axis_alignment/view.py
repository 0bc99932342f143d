"""How axis alignment is shown: detectors over the share of a rotation, and what each unit carries of concepts."""

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from interp.draw.charts import chart, label, palette
from interp.parts import drawn, omissions
from interp.result import Cell

if TYPE_CHECKING:
    from plugins.axis_alignment.result import AxisAlignmentResult


def pictures(result: "AxisAlignmentResult") -> dict[str, Tensor]:
    """Detectors over the share of a rotation, and the squared loadings of each concept."""
    makers = {"rotation": partial(chart, _draw_rotation, result, columns=2, height=2.8)}
    if result.concepts:
        shape: dict[str, Any] = {"rows": -(-len(result.concepts) // 2), "columns": 2, "height": 1.3}
        makers["loadings"] = partial(chart, _draw_loadings, result, sharex=True, **shape)
    return drawn("picture", makers)


def _draw_rotation(axes: Any, result: "AxisAlignmentResult") -> None:
    mean, deviation = result.alignment.mean(), result.alignment.deviation()
    for column, (axis, name) in enumerate(zip(axes[0], ("detectors", "unique detectors"), strict=True)):
        line = [float(result.original[column]), *mean[:, column].tolist()]
        spread = [0.0, *deviation[:, column].tolist()]
        axis.errorbar([0, *result.alphas.tolist()], line, spread, fmt="o-", capsize=3, markersize=4)
        axis.axhline(float(result.permuted[column]), linestyle=":", color="gray", label="units permuted")
        axis.set_title(f"{label(result.layer, 250)}: {name}")
        axis.set_xlabel("share of a random rotation")
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)


def _draw_loadings(axes: Any, result: "AxisAlignmentResult") -> None:
    for axis in axes.flat[len(result.concepts) :]:
        axis.axis("off")
    for m, (axis, name) in enumerate(zip(axes.flat, result.concepts, strict=False)):
        carried = result.loadings[m].square()
        unit, largest = int(carried.argmax()), float(carried.max())
        colour = palette(2)[result.verdicts[m] == "one unit"]
        axis.bar(range(len(carried)), carried.tolist(), color=colour, width=1.0)
        axis.axhline(float(result.chance[m]), linestyle=":", color="gray")
        axis.set_title(f"{label(name)}: unit {unit} carries {largest:.0%}, {result.verdicts[m]}")
        axis.set_ylim(0, max(result.share, largest) * 1.1)
    for axis in axes[-1]:
        axis.set_xlabel("unit")
    axes[0, 0].set_ylabel("squared loading")


def tables(result: "AxisAlignmentResult") -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """What the unit with the largest loading carries of each concept, where there are any."""
    if not result.concepts:
        return {}
    carried, unit = result.loadings.square().max(dim=1)
    numbers = zip(unit.tolist(), carried.tolist(), result.chance.tolist(), result.energy.tolist(), strict=True)
    rows: list[list[Cell]] = [
        [name, *values, verdict]
        for name, values, verdict in zip(result.concepts, numbers, result.verdicts, strict=True)
    ]
    return {"loadings": (["concept", "unit", "carries", "by chance", "energy", "verdict"], rows)}


def captions(result: "AxisAlignmentResult") -> dict[str, str]:
    """What the rotations and the loadings show, and when they show nothing."""
    captions_of = {
        "rotation": (
            f"Detectors at {result.layer} over {result.count} images when its units are mixed by a random rotation, "
            "from 0, not at all, to 1, wholly; thresholds anew in each basis. Mean and standard deviation of "
            f"{result.rotated.shape[1]} rotations; dotted: the units in another order, which must change nothing. If "
            "fewer concepts are found in rotated bases, the axes of the layer are special; where the deviation "
            f"reaches across, nothing is shown.{omissions(result.left_out)}"
        )
    }
    if result.concepts:
        captions_of["loadings"] = (
            "The leading direction of the standardised activations at the positions of each concept (singular value "
            "decomposition): how much of it each unit carries. One unit: one carries more than "
            f"{result.share:.0%} and more than the dotted line, which 95% of random rows stay below; else a "
            "combination."
        )
    return captions_of
