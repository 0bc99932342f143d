"""The same on many processes: what each shipped plugin finds, and a training with studies that fail on one of them."""

import pytest
import torch

from interp.result import Result
from tests.conftest import identical
from tests.processes import on_processes
from tests.test_every_plugin import NAMES, coloured, make

SMALL = {
    "saliency": {"checks": "none"},
    "nmf": {"restarts": 1, "icon_steps": 8},
    "projection": {"iterations": 250},
    "caricature": {"steps": 8},
    "feature_visualization": {"steps": 8},
    "axis_alignment": {"rotations": 2, "alphas": [0.5, 1.0]},
    "robustness": {"disturbances": ["noise", "fgsm"]},
}


def studied(rank: int = 0) -> dict[str, tuple[dict, dict] | None]:
    """What each plugin found of one network, whose batch-norm statistics differ between the processes."""
    found: dict[str, tuple[dict, dict] | None] = {}
    for name in NAMES:
        net, data = coloured(3)
        for buffer in net.buffers():
            buffer.add_(rank)
        plugin = make(name)
        for key, value in ({"batch_size": 5} | SMALL.get(name, {})).items():
            setattr(plugin, key, value)
        before = [buffer.clone() for buffer in net.buffers()]
        result = plugin.look(net, data.probe)
        assert all(map(torch.equal, before, net.buffers()))
        found[name] = (vars(result), result.scalars()) if isinstance(result, Result) else None
    return found


@pytest.fixture(scope="module")
def alone():
    return studied()


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def on_many(request, tmp_path_factory):
    return on_processes(request.param, studied, tmp_path_factory.mktemp("many"), seconds=300)


@pytest.mark.parametrize("name", NAMES)
def test_every_plugin_finds_the_same_on_many_processes(name, alone, on_many):
    """Integers, texts and shapes exactly; floats to 1e-5."""
    (fields, scalars), (expected, expected_scalars) = on_many[0][name], alone[name]
    assert fields.keys() == expected.keys()
    for key, value in expected.items():
        if torch.is_tensor(value) and value.is_floating_point():
            torch.testing.assert_close(fields[key], value, rtol=1e-5, atol=1e-5)
        elif isinstance(value, float | dict):
            assert fields[key] == pytest.approx(value, rel=1e-5, abs=1e-5)
        else:
            assert identical(fields[key], value), key
    assert scalars == pytest.approx(expected_scalars, rel=1e-5, abs=1e-5)
    assert all(other[name] is None for other in on_many[1:])  # only the first draws and writes
