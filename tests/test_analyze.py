"""What studies do wrong in an analysis."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

import analyze
from interp.lit.run_folder import failures
from interp.network.quiet import Disturbed
from tests.studies import ConfidencePlugin, NotANumber


def test_an_analysis_ends_where_a_network_is_not_what_it_was(monkeypatch):
    def disturb(*_):
        raise Disturbed("not restored")

    monkeypatch.setattr(analyze, "look", disturb)
    network = SimpleNamespace(plugins=[ConfidencePlugin(name="first"), ConfidencePlugin(name="second")])
    with pytest.raises(Disturbed):
        analyze.study(OmegaConf.create(), [network], [])


def test_an_analysis_logs_no_scalars_that_are_not_finite(net, digits, tmp_path, caplog):
    plugin, rows = NotANumber(name="study"), []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: rows.append(metrics))
    analyze.keep(plugin, plugin.look(net, digits.probe), tmp_path / "study", [logger], epoch=3, step=9)
    assert rows == [{"study/failed": 1.0, "epoch": 3}]
    assert "plugin study at epoch 3: mean is nan, ratio is nan, peak is inf: not logged" in caplog.text


def test_a_network_that_cannot_be_studied_costs_no_other(net, digits, tmp_path, caplog):
    """Its study counts as failed, and is named as such beside the results of the others."""
    broken = deepcopy(net)
    broken.body.head.forward = lambda images: 1 / 0
    subjects = {"a": net, "b": broken, "c": net}
    networks = [
        SimpleNamespace(name=name, net=subject, probe=digits.probe, run=None, epoch=2, step=5,
                        plugins=[ConfidencePlugin(name="study")])
        for name, subject in subjects.items()
    ]  # fmt: skip
    cfg = OmegaConf.create({"output": str(tmp_path)})
    assert analyze.study(cfg, networks, []) == ["plugin.study: ZeroDivisionError: division by zero"]
    drawn = {path.parent.parent.name for path in tmp_path.glob("results/*/epoch=0002/bars.png")}
    assert drawn == {"study", "study.a", "study.c"} and "plugin study failed" in caplog.text
    assert failures.read(tmp_path, [])["study.b"] == {2: "ZeroDivisionError: division by zero"}
