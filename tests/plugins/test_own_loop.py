"""Studies without Lightning: in any loop, on any data set, and shown by a notebook."""

from pathlib import Path
from re import DOTALL, findall

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import plugins
from interp.errors import UserError
from interp.lit.run_folder.files import read_figures
from interp.probe import Probe
from plugins import NMF, Confusion, results
from plugins.report import report
from tests.conftest import identical
from tests.studies import ConfidencePlugin, Vandal

ROOT = Path(__file__).parents[2]
IMAGES, LABELS = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(48) % 3
DATA = TensorDataset(IMAGES, LABELS)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
                         nn.Linear(144, 3))  # fmt: skip


def trained(each_epoch=lambda net, epoch: None) -> dict[str, torch.Tensor]:
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    for epoch in range(3):
        for images, labels in DataLoader(DATA, 16, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
        each_epoch(net, epoch)
    return {**net.state_dict(), "random": torch.get_rng_state()}


@pytest.mark.parametrize("normalisation", [{}, {"mean": [0.2], "std": [0.5]}])
def test_a_plain_loop_gets_results_and_a_page_and_trains_as_without(tmp_path, normalisation):
    def look(net, epoch):
        probe = Probe.of(DATA, count=6, **normalisation)
        for study in (Confusion(), NMF(layer="0", groups=2, icon_steps=0, restarts=0)):
            study(net, probe).save(tmp_path, epoch=epoch)

    assert identical(trained(look), trained())
    page = report(tmp_path)
    assert page == tmp_path / "report.html" and "confusion" in page.read_text()
    figures = read_figures(tmp_path, notes := [], {})
    assert {figure.plugin for figure in figures} == {"confusion", "nmf"} and not notes
    assert all([shot.epoch for shot in figure.shots] in ([0, 1, 2], [1, 2]) for figure in figures)
    last = results.load(tmp_path / "results" / "confusion" / "epoch=0002")
    assert type(last) is plugins.confusion.ConfusionResult and last.looks == (0, 1, 2)  # it follows those before


def test_the_loop_of_the_page_works_as_it_is_written_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop, notebook = findall(r"```python\n(.*?)```", (ROOT / "docs" / "own_loop.md").read_text(), DOTALL)[:2]
    net = network()
    given = {"net": net, "optimizer": torch.optim.SGD(net.parameters(), 0.1), "val_set": DATA,
             "train_loader": DataLoader(DATA, 16)}  # fmt: skip
    exec(loop, given)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    assert len([line for line in loop.splitlines() if line]) <= 10
    assert len([*(tmp_path / "runs" / "first" / "results").glob("*/epoch=000[12]/*.png")]) > 6
    exec(notebook, given)
    assert type(given["result"]) is plugins.confusion.ConfusionResult


def test_a_look_without_an_epoch_is_the_next_one_and_a_repeated_one_is_drawn_anew(tmp_path):
    study, probe = ConfidencePlugin(), Probe.of(DATA)
    folders = [study(network(), probe).save(str(tmp_path)) for _ in range(2)]
    assert folders == [tmp_path / "results" / "confidence" / f"epoch={epoch:04d}" for epoch in (0, 1)]
    report(tmp_path)
    before = (folders[0] / "bars.png").read_bytes()
    study(nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)), probe).save(tmp_path, epoch=0)
    report(tmp_path)
    assert (folders[0] / "bars.png").read_bytes() != before
    with pytest.raises(UserError, match=r"no results/ in .*nowhere: save some there"):
        report(tmp_path / "nowhere")


def test_a_call_is_a_look_that_leaves_nothing_behind():
    net, study = network(), Vandal()
    study.trainer = type("Nobody", (), {"train_dataloader": None, "val_dataloaders": None})
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.warns(UserWarning, match="plugin vandal left changes behind, undone"):
        result = study(net, Probe.of(DATA))
    assert identical(before, dict(net.state_dict())) and net.training and result.highest.shape == (10,)


def test_a_call_that_only_helped_the_first_process_says_so():
    study = ConfidencePlugin()
    study.look = lambda net, probe: None
    with pytest.raises(UserError, match="the first process alone gets the result of confidence"):
        study(network(), Probe.of(DATA))


def test_studies_have_short_names_and_come_one_at_a_time(monkeypatch):
    assert NMF(layer="block1").name == "nmf" and NMF(name="early").name == "early"
    for short, name in plugins.STUDIES.items():
        assert getattr(plugins, short)().name == name and short in dir(plugins)
    assert {*plugins.STUDIES.values()} == {path.stem for path in (ROOT / "conf" / "plugin").glob("*.yaml")}
    with pytest.raises(AttributeError, match="no attribute 'Nmf'; studies are AxisAlignment, "):
        plugins.Nmf  # noqa: B018
    imported = []
    monkeypatch.setattr(plugins, "import_module", lambda name: imported.append(name) or plugins.confusion)
    assert plugins.Confusion is Confusion and imported == ["plugins.confusion"]
