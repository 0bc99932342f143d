"""Two runs never mix, and a run that is prolonged or changed does what it is asked for: commands as they are typed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from conf.check import run_stamp
from interp.lit.run_folder.lock import Lock
from interp.looks import looks
from tests.conftest import identical
from tests.typed import TINY, typed

STUDY = ("+plugin=similarity", "plugin.similarity.images=20")
SGD = "holds the state of AdamW, which SGD cannot go on from: keep .* start anew from its weights alone, with weights="


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def rate(run: Path) -> float:
    return last(run)["optimizer_states"][0]["param_groups"][0]["lr"]


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
def run(place, tmp_path) -> Path:
    """A copy of that run."""
    shutil.copytree(place / "run", tmp_path / "run")
    return tmp_path / "run"


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
        (["checkpoint=run", "optimizer=sgd"], SGD),
        (["checkpoint=run", "output=run", "trainer.max_epochs=4", "model.widths=[2,2]"], "is of another network"),
        ([*TINY, "+plugin=saliency", "plugin.saliency.target=sevn", "logger=[report,csv]"], "target 'sevn'"),
        (["weights=run", "model.widths=[9,9]"], "the checkpoint is of another network"),
    ],
)
def test_what_is_refused_leaves_nothing_behind_and_nothing_changed(place, untouched, arguments, said):
    ended = typed(place, *arguments)
    assert ended.code == 1 and ended.said.startswith("error: ") and ended.said.count("\n") == 1, ended.said
    assert re.search(said, ended.said), ended.said


def test_an_analysis_does_not_go_into_the_folder_of_a_training(place, untouched):
    ended = typed(place, "checkpoint=run", "+plugin=confusion", "output=run", script="analyze")
    assert (ended.code, ended.said) == (1, "error: output=run holds another run: choose another output=FOLDER\n")


@pytest.mark.parametrize("arguments", [["checkpoint=run"], ["checkpoint=run", "output=run", "trainer.max_epochs=1"]])
def test_a_finished_run_says_so(place, untouched, arguments):
    ended, most = typed(place, *arguments), 1 if len(arguments) > 1 else 2
    said = f"{place}/run is finished: 2 of {most} epochs are trained. To train on give trainer.max_epochs=MORE; "
    assert ended.code == 0 and ended.said.startswith(said + "to study it: python analyze.py checkpoint="), ended.said


def test_a_finished_run_says_what_is_not_used(place, untouched):
    ended = typed(place, "checkpoint=run", "optimizer.lr=0.1")
    assert (
        ended.code == 0
        and ": 2 of 2 epochs are trained (so this is not used: optimizer.lr 0.002 -> 0.1). To " in ended.said
    )


def test_a_folder_in_use_is_refused_for_two_resumptions_too(place, untouched):
    other = Lock(place / "run" / ".run.json")
    try:
        ended = typed(place, "checkpoint=run", "output=run", "trainer.max_epochs=4")
    finally:
        other.release()
    assert ended.code == 1 and "error: run is in use by train.py (process " in ended.said


def test_what_is_not_given_stays_and_the_rest_is_said(place, untouched, tmp_path):
    longer, asked = tmp_path / "longer", ["trainer=auto", "trainer.max_epochs=4", "logger=none"]
    ended = typed(place, "checkpoint=run", *asked, f"output={longer}")
    said = f"resuming {place}/run after epoch 2: trainer.max_epochs 2 -> 4; CosineAnnealingLR laid anew over 8 steps, "
    assert ended.code == 0 and ended.said.startswith(said + "now at step 4: lr 0.001\n"), ended.said
    assert epochs(longer) == [0, 1, 2, 3, 4] and rate(longer) == pytest.approx(0, abs=1e-12)
    config = OmegaConf.load(longer / ".hydra" / "config.yaml")
    assert (config.seed, config.data.size, config.trainer.max_epochs, config.test) == (7, 8, 4, False)
    asked = ["trainer.max_epochs=5", "logger=none", "plugin=[]"]
    again = typed(place, f"checkpoint={longer}", *asked, f"output={tmp_path}/b")
    assert again.said.startswith(f"resuming {longer} after epoch 4: trainer.max_epochs 4 -> 5, plugin.similarity Simil")
    assert epochs(tmp_path / "b") == [0, 1, 2, 3, 4]


def test_in_place_a_changed_setting_holds_and_what_is_somebodys_own_stays(run):
    for name in ("epoch=0009", "epoch=0001_keep", "epoch=0009_keep"):
        (run / "results" / "similarity" / name).mkdir()
    asked = ["optimizer.lr=0.1", "scheduler=none", "trainer.max_epochs=3", "logger=none"]
    ended = typed(run.parent, "checkpoint=run", "output=run", *asked)
    said = "optimizer.lr 0.002 -> 0.1, scheduler CosineAnnealingLR -> none, trainer.max_epochs 2 -> 3; lr 0.1 without a"
    assert ended.code == 0 and ended.said.startswith(f"resuming {run} after epoch 2: {said} schedule\n"), ended.said
    assert rate(run) == 0.1 and last(run)["lr_schedulers"] == [] and epochs(run) == [0, 1, 2, 3]
    kept = {path.name for path in (run / "results" / "similarity").glob("*_keep")}
    assert kept == {"epoch=0001_keep", "epoch=0009_keep"}


def test_a_run_that_was_killed_at_its_end_is_brought_to_it(run):
    about = json.loads((run / ".run.json").read_text())
    (run / ".run.json").write_text(json.dumps(about | {"ended": ""}))
    ended = typed(run.parent, "checkpoint=run", "output=next", "logger=none", "test=true")
    assert ended.code == 0 and "after epoch 2: test False -> True" in ended.said and "test/accuracy" in ended.said
    assert identical(last(run.parent / "next")["state_dict"], last(run)["state_dict"])


@pytest.mark.slow  # tests/lit/test_claim.py holds it in short
def test_what_a_killed_run_left_before_its_first_checkpoint_is_no_hindrance(run):
    shutil.rmtree(run / "checkpoints")
    (run / ".run.json").write_text('{"command": "train.py", "ended": ""}')
    resumed = typed(run.parent, "checkpoint=run")
    assert "that run has finished no epoch, begin it anew with output=run instead" in resumed.said
    ended = typed(run.parent, *TINY, "trainer.max_epochs=1", *STUDY, "output=run")
    assert ended.code == 0 and f"what an earlier run has left in {run} now lies in {run}/earlier/1" in ended.said
    assert epochs(run) == [0, 1] and epochs(run / "earlier" / "1") == [0, 1, 2]


def test_weights_alone_start_a_training_anew(place, tmp_path):
    asked = ["optimizer=sgd", "optimizer.lr=1e-30", "scheduler=none", "trainer.max_epochs=1"]
    ended = typed(tmp_path, *TINY, f"weights={place}/run", *asked, "output=run")
    assert ended.code == 0, ended.said
    new, old = last(tmp_path / "run"), torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert new["epoch"] == 0
    for name in ("weight", "bias"):
        assert identical(*(content["state_dict"][f"net.body.head.{name}"] for content in (new, old)))


@pytest.mark.slow  # tests/lit/test_schedule.py holds it in short
def test_a_run_of_the_first_version_is_resumed_by_what_lies_beside_its_checkpoint(run):
    content = last(run)
    del content["plan"], content["callbacks"]["Continuity"]
    torch.save(content, run / "checkpoints" / "last.ckpt")
    (run / ".run.json").unlink()
    ended = typed(
        run.parent, "checkpoint=run", "trainer.max_epochs=3", "optimizer.lr=0.1", "logger=none", "output=next"
    )
    said = (
        "optimizer.lr 0.002 -> 0.1, trainer.max_epochs 2 -> 3; CosineAnnealingLR laid anew over 6 steps, now at step 4"
    )
    assert ended.said.startswith(f"resuming {run} after epoch 2: {said}: lr 0.025\n"), ended.said
    assert typed(run.parent, "checkpoint=run").said.startswith(f"{run} is finished: 2 of 2 epochs")


def with_settings(run: Path, **changed) -> None:
    """Change what a run's last checkpoint says of its settings, as a stranger could."""
    content = last(run)
    settings = OmegaConf.create(content["callbacks"]["Continuity"]["settings"])
    for key, value in changed.items():
        OmegaConf.update(settings, key, value, merge=False, force_add=True)
    content["callbacks"]["Continuity"]["settings"] = OmegaConf.to_container(settings)
    torch.save(content, run / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("plugin.evil", {"_target_": "os.system", "command": "touch x"}, "plugin.evil._target_=os.system .* refused"),
        ("trainer.plugins", [{"_target_": "os.system"}], r"trainer.plugins\[0\]._target_=os.system in .* refused"),
        ("optimizer.lr", "${oc.env:HOME}", "optimizer.lr=.* is not followed, since it could read your environment"),
    ],
)
def test_a_strangers_checkpoint_brings_no_settings_that_could_do_harm(run, key, value, said):
    with_settings(run, **{key: value})
    ended = typed(run.parent, "checkpoint=run", "output=next", "trainer.max_epochs=3", "logger=none")
    assert ended.code == 1 and re.search(said, ended.said), ended.said
    assert {path.name for path in run.parent.iterdir()} == {"run"}


def test_runs_of_one_moment_have_folders_of_their_own():
    assert len({run_stamp() for _ in range(100)}) == 100
