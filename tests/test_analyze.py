"""What studies do wrong in an analysis."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

import analyze
from interp.quiet import Disturbed
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
    analyze.keep(plugin, plugin.look(net, digits.probe), tmp_path, [logger], epoch=3, step=9)
    assert rows == [{"study/failed": 1.0, "epoch": 3}]
    assert "plugin study at epoch 3: mean is nan, ratio is nan, peak is inf: not logged" in caplog.text
