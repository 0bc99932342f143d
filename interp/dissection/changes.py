"""What became of detectors: under a disturbance, or from one epoch to the next. Units are matched by their index."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.dissection.result import Dissection
from interp.errors import UserError
from interp.vectors import spearman


@dataclass(frozen=True)
class Change:
    """Detectors before and after: a unit that detects another concept has lost one and gained one."""

    kept: Tensor  # (U,) bool, detects the same concept
    lost: Tensor  # (U,) bool, does not detect its concept any more
    gained: Tensor  # (U,) bool, detects a concept that it did not
    iou_kept: Tensor  # (U,) float64, IoU with the concept from before over what it was, 0 where it was none
    concepts_lost: tuple[str, ...]  # those without a detector now
    concepts_gained: tuple[str, ...]


def change(before: Dissection, after: Dissection) -> Change:
    """Compare two dissections of one layer against the same concepts; raises UserError where they do not match."""
    if before.concepts != after.concepts or len(before.thresholds) != len(after.thresholds):
        raise UserError(f"dissections of {before.layer} and {after.layer} have different concepts or units")
    kept = before.detectors & after.detectors & (before.best == after.best)
    now = after.iou.gather(1, before.best[:, None])[:, 0]
    had, has = ({d.concepts[c] for c in d.unique.tolist()} for d in (before, after))
    return Change(
        kept,
        before.detectors & ~kept,
        after.detectors & ~kept,
        torch.where(before.best_iou > 0, now / before.best_iou.clamp_min(1e-12), 0.0),
        tuple(sorted(had - has)),
        tuple(sorted(has - had)),
    )


def rank_correlation(before: Tensor, after: Tensor) -> Tensor:
    """Spearman's correlation (U,) float64 of each unit over the images, of pooled activations (B, U).

    Equal values share their mean rank; 0 for a unit that is constant in either.
    """
    return spearman(before.T, after.T).cpu()
