"""Confusion matrices against scikit-learn, on planted mistakes, and with very few and very many classes."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support
from torch import nn

from interp.confusion import Counts, Predictions, blocks, confused_pairs, examples, lumped, per_class
from interp.draw.table import thumbnails
from interp.errors import UserError
from interp.probe import Probe
from interp.result import FRAMES
from plugins.confusion import ConfusionPlugin, ConfusionResult
from tests.conftest import identical


class Oracle(nn.Module):
    """Predicts for each image the class that its first pixel holds, in 255ths, with the second as its confidence."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        said = (images[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(said, self.classes).float() * (1 + images[:, 0, 0, 1:2])


def planted(true: torch.Tensor, said: torch.Tensor, classes: int, names: str = "class") -> tuple[Oracle, Probe]:
    images = torch.rand(len(true), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = said / 255
    class_names = tuple(f"{names} {j}" for j in range(classes))
    return Oracle(classes), Probe(images, true, class_names, torch.arange(len(true)))


def random(count: int, classes: int, right: float = 0.6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(classes)
    true, other = (torch.randint(classes, (count,), generator=draw) for _ in range(2))
    return true, torch.where(torch.rand(count, generator=draw) < right, true, other)


@pytest.mark.parametrize(("count", "classes"), [(500, 10), (60, 2), (300, 40)])
def test_matrix_and_measures_equal_scikit_learns(count, classes):
    true, said = random(count, classes)
    result = ConfusionPlugin(name="c", batch_size=64).look(*planted(true, said, classes))
    assert result.counts.tolist() == confusion_matrix(true, said, labels=range(classes)).tolist()
    each = per_class(result.counts)
    expected = precision_recall_fscore_support(true, said, labels=range(classes), zero_division=math.nan)
    for ours, theirs in zip((each.precision, each.recall, each.f1, each.support), expected, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs).double(), equal_nan=True, rtol=0, atol=1e-12)
    scalars = result.scalars()
    assert scalars["accuracy"] == pytest.approx(accuracy_score(true, said))
    assert scalars["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))
    assert scalars["pairs_share_of_errors"] <= 1 and result.film.shape[0] == 1


def test_the_planted_mistake_comes_first_with_its_most_confident_images():
    true, said = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2]), torch.tensor([0, 0, 0, 1, 0, 1, 1, 1, 2])
    net, probe = planted(true, said, 3)
    result = ConfusionPlugin(name="c", pairs=2, examples=2).look(net, probe)
    assert result.pairs.tolist() == [[2, 1], [1, 0]] and result.examples_found.tolist() == [2, 1]
    by_confidence = 5 + probe.images[5:8, 0, 0, 1].argsort(descending=True)
    assert torch.equal(result.examples[0], probe.images[by_confidence[:2]])
    assert torch.equal(result.examples[1, 0], probe.images[4]) and not result.examples[1, 1].any()
    assert result.scalars()["most_confused_share"] == 0.75
    *row, example = result.tables()["pairs"][1][0]
    assert row == ["class 2", "class 1", 3, 0.75]
    assert torch.equal(example, thumbnails(probe.images[by_confidence[:1]])[0])


def test_a_class_without_images_and_images_without_a_class():
    true, said = torch.tensor([0, 0, 2, -1]), torch.tensor([0, 1, 2, 0])
    result = ConfusionPlugin(name="c").look(*planted(true, said, 4))
    scalars = result.scalars()
    assert result.unknown == 1 and int(result.counts.sum()) == 3
    assert scalars["without_images"] == 2 and all(map(math.isfinite, scalars.values()))
    assert scalars["macro_recall"] == pytest.approx(0.75)
    rows = {row[0]: row[1:] for row in result.tables()["classes"][1]}
    assert str(rows["class 1"]) == "[0.0, nan, 0.0, 0]" and str(rows["class 3"]) == "[nan, nan, nan, 0]"
    assert "1 images without a class" in result.captions()["rows"]


def test_a_thousand_classes_remain_readable(monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)  # as in training
    true, said = random(5000, 200, right=0.9)
    said[true == 77] = 78
    result = ConfusionPlugin(name="c", shown=10).look(*planted(true, said, 1000))
    assert result.counts.tolist() == confusion_matrix(true, said, labels=range(1000)).tolist()
    counts, kept = lumped(result.counts, 10)
    assert counts.shape == (10, 10) and counts.sum() == 5000 and {77, 78} <= set(kept.tolist())
    assert torch.equal(counts[:9, :9], result.counts[kept][:, kept])
    pictures = result.pictures()
    assert {"rows", "counts", "whole", "pairs"} == set(pictures) == set(result.captions())
    assert max(pictures["rows"].shape) < 800 and pictures["whole"].shape == (3, 720, 720)
    assert "Of 1000 classes the 9 with the most errors" in result.captions()["rows"]
    assert result.film.shape == (1, 63, 63) and "blocks of 16" in result.following(result).captions()["film"]
    assert not result.to_wandb()


def test_ten_thousand_classes_are_counted_drawn_and_kept_without_a_matrix_of_them(monkeypatch, tmp_path):
    true, said = random(3000, 200, right=0.9)
    net, probe = planted(true, said, 10_000)
    monkeypatch.setattr(ConfusionResult, "counts", property(lambda _: pytest.fail("800 MB")))
    result = ConfusionPlugin(name="c").look(net, probe)
    result = result.following(result)
    result.save(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert len(result.cells) < 3000 and size < 400_000 + result.examples.numel() * 4
    assert {"rows", "counts", "whole", "pairs", "film"} == set(result.pictures()) == set(result.captions())
    few = ConfusionPlugin(name="c").look(*planted(true, said, 200))
    assert torch.equal(few.cells, result.cells)
    left_out = ("without_images", "macro_precision")
    assert {k: v for k, v in few.scalars().items() if k not in left_out} == {
        k: v for k, v in result.scalars().items() if k not in left_out
    }
    picture, text = ConfusionResult.compared({"a": result, "b": result})["difference"]
    assert picture.float().std() > 1 and text.endswith("better; blocks of 42 neighbouring classes are summed.")


@pytest.mark.parametrize("most", [3, 7, 64])
def test_sparse_counts_give_what_the_matrix_gives(most):
    matrix = torch.randint(5, (60, 60), generator=torch.Generator().manual_seed(0)).clamp_min(3) - 3
    counts = Counts.of(matrix)
    assert torch.equal(counts.matrix(), matrix) and Counts.of(counts) is counts and len(counts.images) < 1800
    of_class, as_class, hits = counts.totals()
    assert torch.equal(of_class, matrix.sum(dim=1)) and torch.equal(as_class, matrix.sum(dim=0))
    assert torch.equal(hits, matrix.diagonal())
    pairs = confused_pairs(counts, most)
    values = (matrix - torch.diag(matrix.diagonal())).flatten().sort(descending=True, stable=True)
    assert torch.equal(pairs[:, 0] * 60 + pairs[:, 1], values.indices[:most])
    assert torch.equal(counts.at(pairs), matrix[tuple(pairs.T)])
    place = torch.arange(60) // -(-60 // most)
    assert torch.equal(blocks(counts, most), torch.stack([
        torch.stack([matrix[place == i][:, place == j].sum() for j in place.unique()]) for i in place.unique()
    ]))  # fmt: skip


def test_results_of_an_earlier_version_are_read_and_followed(tmp_path):
    result = ConfusionPlugin(name="c").look(*planted(*random(300, 40), 40))
    tensors = {name: value for name, value in vars(result).items() if torch.is_tensor(value) and name != "cells"}
    save_file(tensors | {"counts": result.counts}, tmp_path / "result.safetensors")
    fields = {name: value for name, value in vars(result).items() if not torch.is_tensor(value)}
    (tmp_path / "result.json").write_text(json.dumps({"fields": fields}))
    old = ConfusionResult.load(tmp_path)
    assert identical(vars(old), vars(result)) and old.scalars() == result.scalars()
    assert result.following(old).looks == (0, 1)


def test_blocks_and_lumps_lose_no_image():
    counts = torch.randint(9, (70, 70), generator=torch.Generator().manual_seed(0))
    assert blocks(counts, 64).shape == (35, 35) and blocks(counts, 64).sum() == counts.sum()
    assert blocks(counts, 64)[1, 2] == counts[2:4, 4:6].sum()
    assert torch.equal(blocks(counts, 70), counts) and torch.equal(lumped(counts, 70)[0], counts)


def test_fewer_images_than_examples():
    found = Predictions(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]))
    pairs = confused_pairs(torch.tensor([[0, 1], [0, 0]]), 3)
    assert pairs.tolist() == [[0, 1]] and examples(found, pairs, 3).tolist() == [[0, -1, -1]]


def test_a_perfect_network_shows_no_pairs_and_the_film_grows():
    true = torch.arange(6) % 3
    first = ConfusionPlugin(name="c").look(*planted(true, true, 3))
    assert set(first.pictures()) == set(first.captions()) == {"rows", "counts"}
    result = first
    for _ in range(FRAMES + 5):
        result = first.following(result)
    assert len(result.film) == len(result.looks) <= FRAMES
    assert result.looks[0] == 0 and result.looks[-1] == FRAMES + 5 and "film" in result.pictures()


def test_what_it_cannot_show_is_said(tmp_path):
    with pytest.raises(UserError, match="needs labels, and none"):
        ConfusionPlugin(name="c").look(*planted(torch.tensor([-1, -1]), torch.tensor([0, 1]), 2))
    with pytest.raises(UserError, match="at least 2 classes, the data has 1"):
        ConfusionPlugin(name="c").look(*planted(torch.tensor([0, 0]), torch.tensor([0, 0]), 1))
    net, probe = planted(torch.tensor([0, 1]), torch.tensor([5, 1]), 6)
    short = Probe(probe.images, probe.labels, probe.class_names[:2], probe.indices)
    with pytest.raises(UserError, match="class 5 is labelled or predicted, but the data names 2"):
        ConfusionPlugin(name="c").look(net, short)
    with pytest.raises(UserError, match="plugin.c.shown=1: must be at least 2"):
        ConfusionPlugin(name="c", shown=1)


def test_wandbs_own_matrix_holds_the_same_counts():
    true, said = random(200, 4)
    result = ConfusionPlugin(name="c").look(*planted(true, said, 4))
    table = result.to_wandb()["matrix"].table
    sent = {tuple(row[:2]): row[2] for row in table.data}
    assert all(sent[f"class {i}", f"class {j}"] == result.counts[i, j] for i in range(4) for j in range(4))


def test_the_whole_validation_set_is_read(train, tmp_path):
    run = train(tmp_path, "+plugin=confusion", "data.probe_images=4")
    result = ConfusionResult.load(run.folder / "results" / "confusion" / "epoch=0002")
    assert int(result.counts.sum()) > 100 and result.looks == (0, 1, 2)
    assert (run.folder / "results" / "confusion" / "epoch=0002" / "classes.html").is_file()
