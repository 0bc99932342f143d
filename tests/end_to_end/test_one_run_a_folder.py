"""Two runs never mix: commands as they are typed."""

import re
from pathlib import Path

import pytest
import torch

from conf.check import run_stamp
from interp.lit.lock import Lock
from interp.looks import looks
from tests.typed import TINY, typed

STUDY = ("+plugin=similarity", "plugin.similarity.images=20")


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def epochs(run: Path) -> list[int]:
    return [epoch for epoch, _ in looks(run / "results" / "similarity")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder in which `run` is a finished training of two epochs with settings of its own."""
    folder = tmp_path_factory.mktemp("place")
    asked = ["scheduler=cosine", "optimizer.lr=0.002", "trainer.max_epochs=2", *STUDY, "seed=7"]
    done = typed(folder, *TINY, *asked, "output=run")
    assert done.code == 0, done.said
    return folder


@pytest.fixture
def untouched(place):
    """The run must be left as it was, and nothing beside it."""
    files = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    yield
    now = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert files.keys() == now.keys()
    assert [path for path in files if files[path] != now[path] and path.name != "train.log"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["output=run"], "output=run holds another run: to go on with it give checkpoint=run as well, else choose"),
        (["hydra.run.dir=run"], "output=run holds another run"),
        (["-m", "seed=1,2", "output=run"], "output=run holds another run: choose another output=FOLDER"),
        (["checkpoint=run", "output=run", "model.widths=[2,2]", "data.size=8"], "is of another network"),
        ([*TINY, "+plugin=saliency", "plugin.saliency.target=sevn", "logger=[report,csv]"], "target 'sevn'"),
    ],
)
def test_what_is_refused_leaves_nothing_behind_and_nothing_changed(place, untouched, arguments, said):
    ended = typed(place, *arguments)
    assert ended.code == 1 and ended.said.startswith("error: ") and ended.said.count("\n") == 1, ended.said
    assert re.search(said, ended.said), ended.said


def test_an_analysis_does_not_go_into_the_folder_of_a_training(place, untouched):
    ended = typed(place, "checkpoint=run", "+plugin=confusion", "output=run", script="analyze")
    assert (ended.code, ended.said) == (1, "error: output=run holds another run: choose another output=FOLDER\n")


def test_a_folder_in_use_is_refused_for_two_resumptions_too(place, untouched):
    other = Lock(place / "run" / ".run.json")
    try:
        ended = typed(place, "checkpoint=run", "output=run", "trainer.max_epochs=4")
    finally:
        other.release()
    assert ended.code == 1 and "error: run is in use by train.py (process " in ended.said


def test_runs_of_one_moment_have_folders_of_their_own():
    assert len({run_stamp() for _ in range(100)}) == 100
