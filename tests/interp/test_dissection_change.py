"""Detectors before and after, and the correlation of activations."""

import pytest
import torch

from interp.dissection import Concepts, Dissection
from interp.dissection.changes import change, rank_correlation
from interp.dissection.tally import Counts
from interp.errors import UserError


def table(ious):
    """A dissection with the given IoU (U, L), in percent."""
    ious = torch.tensor(ious)
    counts = Counts(ious, torch.zeros(len(ious), 1, dtype=torch.int64), torch.full(ious.shape[1:], 100))
    names = Concepts(tuple("abcdefgh"[: ious.shape[1]]), ("k",), (0,) * ious.shape[1])
    return Dissection.of("layer", names, torch.zeros(len(ious)), counts)


def test_detectors_kept_lost_and_gained():
    before = table([[50, 0, 0], [50, 0, 0], [0, 50, 0], [0, 0, 0], [3, 0, 0]])
    after = table([[25, 0, 0], [2, 0, 0], [0, 6, 25], [0, 0, 9], [3, 0, 0]])
    found = change(before, after)
    assert found.kept.tolist() == [True] + [False] * 4 and found.lost.tolist() == [False, True, True, False, False]
    assert found.gained.tolist() == [False, False, True, True, False]
    assert found.concepts_lost == ("b",) and found.concepts_gained == ("c",)
    ious = [25 / 75, 2 / 98, 6 / 94, 0, 3 / 97]
    before_ious = [1, 1, 1, 1, 3 / 97]
    torch.testing.assert_close(found.iou_kept, torch.tensor(ious).double() / torch.tensor(before_ious).double())
    assert not change(before, before).lost.any() and change(before, before).kept.sum() == 3
    with pytest.raises(UserError, match="different concepts or units"):
        change(before, table([[1, 2, 3]]))


def test_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    first, second = (torch.randn(30, 4, generator=torch.Generator().manual_seed(s)).clamp_min(0) for s in (0, 1))
    second[:, 2], second[:, 3] = first[:, 2].exp(), 7.0
    expected = [spearmanr(first[:, k].numpy(), second[:, k].numpy())[0] for k in range(3)]
    assert rank_correlation(first, second).tolist() == pytest.approx([*expected, 0])
