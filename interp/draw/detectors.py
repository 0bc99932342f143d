"""Pictures of detectors: where units fire, how many detect what, and the table of IoU."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interp.draw.charts import NAME, WIDTH, chart, label, lines, longest, palette, some_ticks
from interp.draw.colour import rgb
from interp.draw.grid import enlarge

MOST = 40  # concepts in a chart


def masked(images: Tensor, masks: Tensor, side: int = 96) -> Tensor:
    """Images uint8 (R, Q, C, H, W) darkened where the `masks` (R, Q, H, W) are not: float32 (R, Q, 3, side, side)."""
    shape = images.shape[:2]
    enlarged = enlarge(rgb(images.flatten(0, 1).float() / 255), side)
    lit = enlarge(masks.flatten(0, 1)[:, None].float(), side)
    return (enlarged * (0.22 + 0.78 * lit)).unflatten(0, shape)


def histogram(counts: Mapping[str, Tensor], concepts: Sequence[str], category: Tensor, names: Sequence[str]) -> Tensor:
    """Bars: `counts` (L,) of detectors by layer, a chart a layer, for the concepts that have most, by category.

    `category` (L,) int64 indexes the `names` of categories.
    """
    kept = _kept(torch.stack(list(counts.values())).sum(dim=0), category)
    labels = [concepts[c] for c in kept]
    upright = longest(labels) > 0.8 * WIDTH / len(labels)
    height = 2.2 + upright * longest(labels) / len(counts)
    return chart(_bars, counts, kept, labels, upright, category, names, rows=len(counts), height=height, sharex=True)


def iou_matrix(iou: Mapping[str, Tensor], concepts: Sequence[str], category: Tensor, minimum: float) -> Tensor:
    """IoU (U, L) by layer as an image, units across, the concepts with the largest IoU down; dots on detectors."""
    kept = _kept(torch.cat(list(iou.values())).amax(dim=0), category)
    height = 1.2 + 0.17 * len(kept)
    # a layer of few units would leave no room for its name
    widths = [max(len(table), 40) for table in iou.values()]
    options: dict[str, Any] = {"sharey": True, "width_ratios": widths}
    named = [concepts[c] for c in kept]
    return chart(_matrix, iou, kept, named, minimum, widths, columns=len(iou), height=height, **options)


def emergence(history: Tensor, since: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Detectors over the looks, a column a layer: `history` (E, Y, K) of each category, and since when today's stand.

    `since` (E, K) by layer counts today's detectors by the look since which they have detected their concept.
    """
    return chart(_emergence, history, since, names, rows=2, columns=len(since), sharey="row")


def _kept(score: Tensor, category: Tensor) -> list[int]:
    """The concepts with the largest scores (L,), at most `MOST`, ordered by category."""
    best = score.argsort(descending=True, stable=True)[:MOST].sort().values
    return best[category[best].argsort(stable=True)].tolist()


def _bars(
    axes: Any,
    counts: Mapping[str, Tensor],
    kept: list[int],
    labels: list[str],
    upright: bool,
    category: Tensor,
    names: Sequence[str],
) -> None:
    colours = palette(len(names))
    for row, (layer, count) in zip(axes[:, 0], counts.items(), strict=True):
        values = count[kept].tolist()
        row.bar(range(len(kept)), values, color=[colours[category[c]] for c in kept], width=0.75)
        row.set_title(
            f"{label(layer, 3 * NAME)}: detectors {int(count.sum())}, concepts {int((count > 0).sum())}", loc="left"
        )
        row.set_ylim(0, max(1, *values) * 1.1)
        row.yaxis.get_major_locator().set_params(integer=True)
    axes[-1, 0].set_xticks(range(len(kept)), map(label, labels), rotation=90 if upright else 0)
    named = [label(name, 70) for name in names]
    key = [axes[0, 0].bar(0, 0, color=colour, label=name) for colour, name in zip(colours, named, strict=True)]
    axes[0, 0].legend(handles=key, ncols=min(6, len(names)), frameon=False, loc="lower right", bbox_to_anchor=(1, 1))


def _matrix(
    axes: Any, iou: Mapping[str, Tensor], kept: list[int], labels: list[str], minimum: float, widths: list[int]
) -> None:
    largest = max(minimum, *(float(table.max()) for table in iou.values()))
    for column, (layer, table), share in zip(axes[0], iou.items(), widths, strict=True):
        values = table[:, kept].T.numpy()
        heat_map = column.imshow(values, aspect="auto", cmap="magma", vmin=0, vmax=largest, interpolation="none")
        best = table.argmax(dim=1)
        units = ((table.amax(dim=1) > minimum) & torch.isin(best, torch.tensor(kept))).nonzero()[:, 0]
        column.scatter(units, [kept.index(c) for c in best[units].tolist()], s=4, color="white", linewidths=0)
        column.set_title(label(layer, int(56 * WIDTH * share / sum(widths))))
        column.set_xlabel("unit")
        column.tick_params(length=2)
    axes[0, 0].set_yticks(range(len(kept)), map(label, labels))
    axes[0, 0].figure.colorbar(heat_map, ax=axes[0, -1], label="IoU", fraction=0.08)


def _emergence(axes: Any, history: Tensor, since: Mapping[str, Tensor], names: Sequence[str]) -> None:
    ticks, colours = [str(look) for look in range(len(history))], palette(len(names))
    for at, (layer, standing) in enumerate(since.items()):
        lines(axes[0, at], dict(zip(names, history[:, at].T.tolist(), strict=True)), ticks, colours)
        axes[0, at].set_title(label(layer, int(70 * WIDTH / len(since))))
        bottoms = standing.cumsum(dim=1) - standing
        for k, colour in enumerate(colours):
            axes[1, at].bar(range(len(ticks)), standing[:, k], bottom=bottoms[:, k], color=colour)
        some_ticks(axes[1, at], ticks)
        axes[1, at].set_xlabel("look")
    axes[0, 0].set_ylabel("detectors")
    axes[1, 0].set_ylabel("today's detectors\nby the look they\nhave stood since")
    axes[0, 0].legend(frameon=False)
