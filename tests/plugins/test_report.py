"""`python -m plugins.report`: missing pictures are drawn again, those that are there are kept, the page is written."""

import json
import re

import pytest
import torch

from interp.comparison import SideBySide
from plugins import results
from plugins.base.sinks import show
from plugins.report import main
from tests.studies import Confidence, Explorable


@pytest.fixture
def run(tmp_path):
    """Two epochs of a study as a run leaves them, and how the page is called."""
    for epoch in (0, 1):
        folder = tmp_path / "results" / "sure" / f"epoch={epoch:04d}"
        result = Explorable(torch.linspace(0, 1, 9 + epoch))
        result.save(folder, plugin="sure", epoch=epoch, step=epoch)
        show(result, folder, "sure", [], epoch=0, step=0)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("name: a run\nlogger: {report: {title: '${name}'}}\n")
    return tmp_path


def kept(run, suffix) -> dict:
    return {path.relative_to(run): path.read_bytes() for path in run.glob(f"results/*/*/*{suffix}")}


def test_missing_pictures_and_widgets_are_drawn_again_byte_for_byte(run, capsys):
    earlier = kept(run, ".png") | kept(run, ".html")
    assert len(earlier) == 4
    for path in earlier:
        (run / path).unlink()
    main([str(run)])
    assert kept(run, ".png") | kept(run, ".html") == earlier
    assert capsys.readouterr().out.startswith("2 results drawn; ")
    page = (run / "report.html").read_text()
    assert "<title>a run</title>" in page and 'id="shot-0-1"' in page


def test_what_is_drawn_is_kept_unless_asked_for(run, capsys):
    bars = run / "results" / "sure" / "epoch=0001" / "bars.png"
    whole = bars.read_bytes()
    bars.write_bytes(b"somebody's own")
    main([str(run)])
    assert bars.read_bytes() == b"somebody's own" and capsys.readouterr().out.startswith("0 results")
    main([str(run), "--redraw"])
    assert bars.read_bytes() == whole


def test_a_picture_that_a_caption_speaks_of_is_missed(run, capsys):
    path = run / "results" / "sure" / "epoch=0000" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"captions": {"lost": "a picture"}}))
    main([str(run)])
    assert capsys.readouterr().out.startswith("1 results")


@pytest.mark.parametrize("about", ["[]", '{"captions": null}', '{"captions": [[]]}', "[" * 100_000])
def test_a_damaged_result_costs_its_own_pictures_alone(run, capsys, about):
    (run / "results" / "sure" / "epoch=0000" / "result.json").write_text(about)
    bars = run / "results" / "sure" / "epoch=0001" / "bars.png"
    for path in bars.parent.glob("*.[ph]*[gl]"):
        path.unlink()
    main([str(run)])
    assert capsys.readouterr().out.startswith("1 results") and bars.is_file()


def test_networks_side_by_side_are_read_from_each_ones_results(tmp_path):
    both = {"a": Confidence(torch.tensor([0.2, 0.4])), "b": Confidence(torch.tensor([0.9, 0.5]))}
    for name, epoch in {"a": 3, "b": 7}.items():
        both[name].save(tmp_path / "results" / f"sure.{name}" / f"epoch={epoch:04d}")
    folder = tmp_path / "results" / "sure" / "epoch=0007"
    SideBySide(both).save(folder)
    main([str(tmp_path)])
    again = results.load(folder)
    assert torch.equal(again.pictures()["bars"], SideBySide(both).pictures()["bars"]) and again.results.keys() == {
        *"ab"
    }
    assert [path.parts[1] for path in sorted(kept(tmp_path, "bars.png"))] == ["sure", "sure.a", "sure.b"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "names no class"),
        ("pathlib.Path", "pathlib.Path is no interp.result.Result"),
        ("nowhere.Study", "nowhere.Study, which is not ours: if you know it, give --trust nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_named_and_the_page_is_written(run, caplog, name, said):
    path = run / "results" / "sure" / "epoch=0001" / "result.json"
    about = json.loads(path.read_text()) | {"class": name}
    path.write_text(json.dumps(about if name else {key: about[key] for key in about if key != "class"}))
    (path.parent / "bars.png").unlink()
    (path.parent / "explorer.html").unlink()
    main([str(run)])
    assert re.search(f"sure/epoch=0001 is not drawn: .*{said}", caplog.text)
    page = (run / "report.html").read_text()
    assert 'id="shot-0-0"' in page and 'id="shot-0-1"' not in page


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "no results/ in" in capsys.readouterr().err
