"""Scores by counting are those of torchmetrics, from any division of the images."""

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from interp.lit.scores import Scores


def batches(classes: int, sizes: list[int], seen: int):
    """Losses, logits and labels of the first `seen` classes."""
    stream = torch.Generator().manual_seed(classes)
    for size in sizes:
        logits = torch.randn(size, classes, generator=stream)
        yield torch.rand((), generator=stream), logits, torch.randint(seen, (size,), generator=stream)


@pytest.mark.parametrize(("classes", "seen"), [(2, 2), (10, 10), (50, 7), (3, 1)])
def test_they_are_torchmetrics_own(classes, seen):
    scores, losses, images = Scores(classes), 0.0, 0
    others = {
        "accuracy": MulticlassAccuracy(classes, average="micro"),
        "f1": MulticlassF1Score(classes, average="macro"),
    }
    for loss, logits, labels in batches(classes, [8, 5, 1], seen):
        scores.update(loss, logits, labels)
        losses, images = losses + float(loss) * len(labels), images + len(labels)
        for metric in others.values():
            metric.update(logits, labels)
    found = scores.compute()
    assert float(found["loss"]) == pytest.approx(losses / images)
    assert {name: float(found[name]) for name in others} == pytest.approx(
        {n: float(m.compute()) for n, m in others.items()}
    )


def test_processes_add_up_to_one():
    whole, parts = Scores(9), [Scores(9), Scores(9)]
    for index, batch in enumerate(batches(9, [6, 6, 4, 2], 9)):
        whole.update(*batch)
        parts[index % 2].update(*batch)
    for name in ("counts", "loss"):  # as torchmetrics does over processes
        assert parts[0]._reductions[name] is not None
        setattr(parts[0], name, sum(getattr(part, name) for part in parts))
    assert {n: float(v) for n, v in parts[0].compute().items()} == pytest.approx(
        {n: float(v) for n, v in whole.compute().items()}
    )


def test_a_loss_that_is_nan_stays_nan():
    scores = Scores(3)
    scores.update(torch.tensor(float("nan")), torch.rand(2, 3), torch.tensor([0, 1]))
    scores.update(torch.tensor(1.0), torch.rand(2, 3), torch.tensor([0, 1]))
    assert scores.compute()["loss"].isnan()
    scores.reset()
    scores.update(torch.tensor(1.0), torch.rand(2, 3), torch.tensor([0, 1]))
    assert float(scores.compute()["loss"]) == 1
