"""Layers of a network that learns."""

import json

import pytest
import torch
from safetensors.torch import save_file

from interp import similarity
from interp.errors import UserError
from interp.lit.data import ImageData
from interp.lit.data.digits import digits
from interp.lit.models import small_cnn
from plugins.similarity import SimilarityPlugin, SimilarityResult


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
    assert first.layers == ("block1", "block2", "block3") and first.count == 60 and first.grams.shape == (3, 1830)
    assert "drift" not in first.scalars()
    still = plugin.look(net, probe).following(first)
    assert still.scalars()["drift"] == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        net.get_submodule("body.block3.conv").weight.normal_(generator=torch.Generator().manual_seed(3))
    drift = plugin.look(net, probe).following(first).scalars()
    assert drift["drift/block1"] == pytest.approx(0, abs=1e-9) and drift["drift/block3"] > 0.01


def test_many_images_are_kept_as_components_and_give_the_same_numbers(networks, monkeypatch):
    (net, other), probe = networks
    plugin = SimilarityPlugin(name="similarity", images=60)
    few, few_later = plugin.look(net, probe), plugin.look(other, probe)
    monkeypatch.setattr(similarity, "COMPONENTS", 29)
    many, later = plugin.look(net, probe), plugin.look(other, probe)
    assert many.grams.numel() == 0 and many.components.shape == (60, 87) and 0 < many.error < 0.1
    torch.testing.assert_close(many.alike, few.alike, rtol=1e-6, atol=0)
    assert many.scalars() == pytest.approx(few.scalars(), rel=1e-6)
    exact = few_later.following(few).scalars()["drift"]
    assert later.following(many).scalars()["drift"] == pytest.approx(exact, abs=0.01)
    assert "largest principal components, which changes" in later.following(many).captions()["layers"]
    assert set(type(many).compared({"a": many, "b": later})) == {"similarity"}


def test_a_constant_layer_is_named_and_left_out(networks):
    (_, net), probe = networks
    plugin = SimilarityPlugin(name="similarity", images=40)
    before = plugin.look(net, probe)
    with torch.no_grad():
        net.get_submodule("body.block3.norm").weight.zero_()
    after = plugin.look(net, probe).following(before)
    assert before.constant == [] and after.constant == ["block3"] and after.scalars()["constant_layers"] == 1
    assert {"drift", "drift/block1", "drift/block2"} < set(after.scalars()) and "drift/block3" not in after.scalars()
    assert after.scalars()["drift"] == pytest.approx(0, abs=1e-9)
    assert after.scalars()["neighbours"] == pytest.approx(float(before.alike[0, 1]))
    assert "The same for all images: block3; likeness" in after.captions()["layers"]
    assert "drift/block3" not in plugin.look(net, probe).following(after).scalars()


def test_results_of_an_earlier_version_are_read_and_followed(networks, tmp_path):
    (net, _), probe = networks
    result = SimilarityPlugin(name="similarity", images=40).look(net, probe)
    grams = torch.zeros(3, 40, 40, dtype=torch.float64)
    grams[:, *torch.triu_indices(40, 40)] = result.grams.double() / 2**0.5
    grams = grams + grams.mT
    grams.diagonal(dim1=1, dim2=2).mul_(2**-0.5)
    grams[2] = 0  # a constant layer
    save_file({"grams": grams, "kinship": torch.tensor([0.9, 0.8, 0.0]).double()}, tmp_path / "result.safetensors")
    (tmp_path / "result.json").write_text(json.dumps({"fields": {"layers": list(result.layers)}}))
    old = SimilarityResult.load(tmp_path)
    torch.testing.assert_close(old.alike[:2, :2], result.alike[:2, :2], rtol=1e-6, atol=0)
    assert old.scalars()["drift"] == pytest.approx(0.15) and old.constant == ["block3"] and old.pictures()
    drift = result.following(old).scalars()
    assert drift["drift/block1"] == pytest.approx(0, abs=1e-9) and "drift/block3" not in drift
    old.save(tmp_path / "again")
    assert torch.equal(SimilarityResult.load(tmp_path / "again").grams, old.grams)


def test_networks_are_compared_layer_by_layer(networks):
    (first, second), probe = networks
    plugin = SimilarityPlugin(name="similarity", images=40)
    results = {"a": plugin.look(first, probe), "b": plugin.look(second, probe)}
    picture, caption = type(results["a"]).compared(results)["similarity"]
    assert picture.dtype == torch.uint8 and picture.ndim == 3 and "layers of a" in caption
    fewer = {"a": results["a"], "b": SimilarityPlugin(name="similarity", images=20).look(second, probe)}
    assert type(results["a"]).compared(fewer) == {}


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="images=2: must be at least 3, or every pair"):
        SimilarityPlugin(name="similarity", images=2)
