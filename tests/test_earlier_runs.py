"""A run of version 0.1 (tests/earlier): it is resumed, analysed and drawn by whatever the names in it have become."""

import json
import tarfile
from pathlib import Path

import pytest

from plugins.report import draw
from tests.typed import typed

KEPT = Path(__file__).parent / "earlier" / "run-0.1.tar.gz"
STUDIES = ["axis_alignment", "caricature", "class_attribution", "confusion", "dissection", "feature_visualization",
           "nmf", "projection", "robustness", "saliency", "similarity"]  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path / "run", filter="data")
    return tmp_path / "run"


def test_all_its_results_are_drawn(run, caplog):
    assert draw(run) == 20 and caplog.text == ""
    for study in STUDIES:
        look = run / "results" / study / "epoch=0002"
        captions = json.loads((look / "result.json").read_text())["captions"]
        assert captions and captions.keys() <= {path.stem for path in look.glob("*.png")}


def test_it_is_resumed_with_its_settings_and_its_looks_go_on(run):
    ended = typed(run.parent, "checkpoint=run", "trainer.max_epochs=3", "logger=report")
    assert ended.code == 0 and "trainer.max_epochs 2 -> 3; OneCycleLR laid anew" in ended.said, ended.said
    assert "cannot be read" not in ended.said and "Warning" not in ended.said, ended.said
    (later,) = (run.parent / "outputs").glob("*/*")
    for study in STUDIES:
        assert (later / "results" / study / "epoch=0002" / "result.safetensors").is_file()
    history = json.loads((later / "results" / "nmf" / "epoch=0003" / "result.json").read_text())["fields"]
    assert history["past_looks"] == {"tuple": [0, 1, 2]}


def test_it_is_analysed(run):
    ended = typed(run.parent, "checkpoint=run", "+plugin=confusion", "logger=report", script="analyze")
    assert ended.code == 0 and "Warning" not in ended.said, ended.said
    assert list(run.parent.glob("outputs/*/*/results/confusion/epoch=*/result.safetensors"))
