"""Neuron groups keep their identity: colour, index and row mean the same thing in every epoch."""

import json
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
import torch

from interp.draw import dim, enlarge, hues, overlay, rgb
from interp.draw.groups_widget import intensities
from interp.errors import UserError
from plugins.nmf import NMFPlugin, NMFResult


def test_a_permuted_epoch_is_put_back_in_order(net, digits):
    result = NMFPlugin(name="nmf").look(net, digits.probe)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    permuted = replace(result, spatial=result.spatial[:, order], channel=result.channel[order])
    again = permuted.following(result)
    assert torch.equal(again.channel, result.channel) and torch.equal(again.spatial, result.spatial)
    assert again.scalars()["stability"] > 0.999 and "stability" not in result.scalars()


def test_other_counts_and_layers_are_not_matched(net, digits):
    result = NMFPlugin(name="nmf").look(net, digits.probe)
    for other in (NMFPlugin(name="nmf", groups=3), NMFPlugin(name="nmf", layer="block2")):
        assert result.following(other.look(net, digits.probe)) is result


def test_each_epoch_of_a_run_follows_the_one_before_it(train, tmp_path):
    train(tmp_path, "+plugin=nmf", "trainer.max_epochs=3")
    folders = sorted((tmp_path / "results" / "nmf").iterdir())
    results = [NMFResult.load(folder) for folder in folders]
    for before, after in pairwise(results):
        cosine = before.channel @ after.channel.T
        torch.testing.assert_close(after.kinship, cosine.diagonal())
        best = max(float(cosine[range(6), list(order)].sum()) for order in permutations(range(6)))
        assert float(cosine.trace()) > best - 1e-5
    assert "stability" in json.loads((folders[-1] / "result.json").read_text())["scalars"]


def test_a_damaged_result_is_passed_over(net, digits, tmp_path, caplog):
    plugin = NMFPlugin(name="nmf")
    result = plugin.look(net, digits.probe)
    result.save(tmp_path / "epoch=0000")
    (tmp_path / "epoch=0001").mkdir()
    (tmp_path / "epoch=0001" / "result.json").write_text("{")
    assert len(plugin.continued(result, tmp_path, epoch=2).kinship) == 6
    assert "epoch=0001 cannot be read" in caplog.text


def test_a_map_that_is_nearly_all_zero_is_not_all_of_one_brightness(net, digits):
    """The picture has the scale of the widget: 99% of all values, or where that is 0 the largest."""
    result = NMFPlugin(name="nmf", icon_steps=0, restarts=0, groups=2).look(net, digits.probe)
    spatial = torch.zeros_like(result.spatial)
    spatial[0, 0, 0, :3] = torch.tensor([0.01, 0.5, 1.0])
    drawn = replace(result, spatial=spatial).pictures()["groups"]
    assert intensities(spatial)[0, 0, 0, :3].tolist() == [3, 128, 255]
    maps = enlarge(intensities(spatial)[:1, [0]].float() / 255, 96)
    cell = (overlay(dim(enlarge(rgb(result.images[:1]), 96)), maps, hues(2)[[0]])[0] * 255).round().byte()
    row = drawn[:, 26 + 2 * 100 : 26 + 2 * 100 + 96]  # under the names and two rows of crops
    assert any(torch.equal(row[:, :, at : at + 96], cell) for at in range(drawn.shape[2] - 96))


@pytest.mark.parametrize(
    "setting", [{"sweeps": 0}, {"restarts": -1}, {"icon_steps": -1}, {"crops": 0}, {"tolerance": -0.1}]
)
def test_counts_that_do_not_fit_are_named(setting):
    (key, value), *_ = setting.items()
    with pytest.raises(UserError, match=f"plugin.nmf.{key}={value}: must be at least"):
        NMFPlugin(name="nmf", **setting)


def test_effects_that_agree_by_construction_are_no_check(net, digits):
    """After the last block there are only a mean and a linear layer; after the one before it another block."""
    options = {"name": "nmf", "restarts": 0, "icon_steps": 0}
    last, before = (NMFPlugin(layer=layer, **options).look(net, digits.probe) for layer in ("block3", "block2"))
    assert last.linear_tail and "effect_agreement" not in last.scalars()
    residual = last.scalars()["effect_residual"]
    said = "exact by construction, as the network after the layer is linear in the groups; what the groups leave out "
    assert f"{said}moves the logits by {residual:.0%}" in last.captions()["groups"]
    assert not before.linear_tail and 0 < before.scalars()["effect_agreement"] < 1
    assert "Linear and exact effects correlate" in before.captions()["groups"]
    without = replace(last, exact_effects=torch.zeros(0))
    assert not without.linear_tail and "by construction" not in without.captions()["groups"]
    small = replace(last, **{name: 1e-17 * getattr(last, name) for name in ("effects", "residual_effects")})
    assert small.scalars()["effect_residual"] == pytest.approx(residual, rel=1e-4)
