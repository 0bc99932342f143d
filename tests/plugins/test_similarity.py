"""Layers of a network that learns."""

import pytest
import torch

from interp.errors import UserError
from interp.lit.data import ImageData
from interp.lit.data.digits import digits
from interp.lit.models import small_cnn
from plugins.similarity import SimilarityPlugin


@pytest.fixture(scope="module")
def networks():
    data = ImageData(digits, size=16)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(small_cnn(data, widths=(8, 12, 16)).eval())
    return found, data.probe


def test_unchanged_layers_do_not_drift_and_changed_ones_do(networks):
    (net, _), probe = networks
    plugin = SimilarityPlugin(name="similarity", images=60)
    first = plugin.look(net, probe)
    assert first.layers == ("block1", "block2", "block3") and first.grams.shape == (3, 60, 60)
    assert "drift" not in first.scalars()
    still = plugin.look(net, probe).following(first)
    assert still.scalars()["drift"] == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        net.get_submodule("body.block3.conv").weight.normal_(generator=torch.Generator().manual_seed(3))
    drift = plugin.look(net, probe).following(first).scalars()
    assert drift["drift/block1"] == pytest.approx(0, abs=1e-9) and drift["drift/block3"] > 0.01


def test_networks_are_compared_layer_by_layer(networks):
    (first, second), probe = networks
    plugin = SimilarityPlugin(name="similarity", images=40)
    results = {"a": plugin.look(first, probe), "b": plugin.look(second, probe)}
    picture, caption = type(results["a"]).compared(results)["similarity"]
    assert picture.dtype == torch.uint8 and picture.ndim == 3 and "layers of a" in caption
    fewer = {"a": results["a"], "b": SimilarityPlugin(name="similarity", images=20).look(second, probe)}
    assert type(results["a"]).compared(fewer) == {}


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="images=2: at least 3"):
        SimilarityPlugin(name="similarity", images=2)
