"""Which looks are kept of many, and what is never removed."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from interp.looks import evenly, thin
from tests.studies import Confidence


def kept_while_training(epochs: list[int], most: int) -> list[int]:
    """What `evenly` leaves as the epochs come one by one, the last two always being spared."""
    there: list[int] = []
    for epoch in epochs:
        there = sorted({*there[-1:], epoch, *evenly([*there, epoch], most)})
        assert len(there) <= most + 1
    return evenly(there, most)


@given(count=some.integers(1, 150), every=some.sampled_from([1, 2, 5]), most=some.integers(2, 20))
def test_first_and_last_are_kept_and_others_evenly_between(count, every, most):
    epochs = [every * number for number in range(count)]
    kept = kept_while_training(epochs, most)
    assert kept[0] == 0 and kept[-1] == epochs[-1] and len(kept) == len({*kept}) <= most
    assert kept == epochs if count <= most else len(kept) > most / 2
    strides = {later - earlier for earlier, later in pairwise(kept[:-1])}
    assert len(strides) <= 1 and all(kept[-1] - kept[-2] <= stride for stride in strides)


def test_looks_that_failed_and_an_odd_last_one_cost_nothing():
    epochs = [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert kept_while_training(epochs, 100) == epochs
    assert kept_while_training([0, 5, 10, 15, 20, 22], 6) == [0, 5, 10, 15, 20, 22]
    assert kept_while_training([0, 5, 10, 15, 20, 22], 4) == [0, 10, 20, 22]
    assert kept_while_training([3], 2) == [3] and evenly([], 2) == []


def look(folder: Path, epoch: int, *files: str, plugin: str = "study", number: int | None = None) -> Path:
    path = folder / f"epoch={epoch:04d}"
    result = Confidence(torch.rand(3))
    result.save(path, plugin=plugin, epoch=epoch if number is None else number)
    for name in ("bars.png", *files):
        (path / name).write_text("")
    return path


def strange(folder: Path) -> None:
    """Folders that are no looks of this study, or hold more than that."""
    look(folder, 1).rename(folder / "epoch=0001_keep")
    look(folder, 2, "notes.txt")
    look(folder, 3, "mine.png")
    look(folder, 4, plugin="other")
    look(folder, 5, number=6)
    (look(folder, 6) / "more").mkdir()
    (look(folder, 7) / "result.json").write_text("{")
    (look(folder, 8) / "result.json").unlink()
    (folder / "epoch=0009").write_text("a file")
    look(folder.parent, 10).rename(folder.parent / "elsewhere")
    (folder / "epoch=0010").symlink_to(folder.parent / "elsewhere", target_is_directory=True)
    look(folder, 11).rename(folder / "epoch=11")


def test_nothing_is_removed_but_looks_of_this_study(tmp_path):
    folder = tmp_path / "results" / "study"
    strange(folder)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    own = {epoch: look(folder, epoch, ".bars.png.7.part") for epoch in range(20, 31)}
    own[31] = look(folder, 31)  # of another run that went further in this folder
    (leftover := folder / ".epoch=0017.removed").mkdir()
    for training, spared in ((True, {29}), (False, set())):
        thin(folder, "study", 4, 30, {"bars.png"}, training=training)
        kept = {epoch for epoch, path in own.items() if path.exists()}
        assert kept == {*evenly([2, 3, 6, *range(20, 31)], 4), *spared, 31} - {2} and 30 in kept and len(kept) < 6
    now = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert now - {file for epoch in kept for file in own[epoch].iterdir()} == before and not leftover.exists()


@pytest.mark.parametrize(("drawn", "left"), [((), 3), ({"bars.png"}, 2)])
def test_pictures_that_it_has_not_drawn_are_not_its_own(tmp_path, drawn, left):
    for epoch in range(3):
        look(tmp_path, epoch)
    thin(tmp_path, "study", 2, 2, drawn)
    assert len(list(tmp_path.iterdir())) == left
