"""Networks without a grid: what needs none works on their vectors, what needs one says so."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from interp.errors import UserError
from interp.lit.data import TensorImages
from interp.probe import choose_probe
from interp.projection import embed
from plugins.axis_alignment import AxisAlignmentPlugin
from plugins.class_attribution import ClassAttributionPlugin
from plugins.dissection import DissectionPlugin
from plugins.feature_visualization import FeatureVisualizationPlugin
from plugins.nmf import NMFPlugin
from plugins.projection import ProjectionPlugin
from plugins.robustness import RobustnessPlugin
from plugins.saliency import SaliencyPlugin
from plugins.similarity import SimilarityPlugin

CLASSES, EACH = 5, 8


@pytest.fixture(scope="module")
def planted():
    """A perceptron whose units 0 to 4 are bright where the class is, 5 to 9 the same in another order, then noise.

    Class c has a bright row c in its images of 8 x 8.
    """
    draw = torch.Generator().manual_seed(0)
    targets = torch.arange(CLASSES * EACH) % CLASSES
    images = torch.randint(0, 90, (len(targets), 1, 8, 8), generator=draw)
    images[torch.arange(len(targets)), 0, targets] += 120
    rows = torch.eye(8).repeat_interleave(8, dim=1)[:CLASSES] / 8
    noise = torch.randn(2, 64, generator=draw) / 8
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    with torch.no_grad():
        net[1].weight.copy_(torch.cat([rows, rows.roll(1, 0), noise]))
        net[1].bias.zero_()
    dataset = TensorImages(images.byte(), targets)
    return net.eval(), choose_probe(dataset, tuple("abcde"), 10)


def test_units_are_dissected_by_class_with_iou_over_images(planted):
    net, probe = planted
    result = DissectionPlugin(name="d", layers=["2"]).look(net, probe)
    assert result.quantile == 1 / CLASSES and result.count == CLASSES * EACH
    assert result.units.best[:10].tolist() == [0, 1, 2, 3, 4, 4, 0, 1, 2, 3]
    assert (result.units.best_iou[:10] == 1).all() and (result.units.best_iou[10:] < 0.5).all()
    with torch.no_grad():
        values = net[:3](torch.stack([probe.dataset[n][0] for n in range(result.count)]))
    fires = values > values.sort(dim=0, descending=True).values[EACH]
    shows = probe.dataset.targets[:, None] == torch.arange(CLASSES)
    both, either = fires[:, :, None] & shows[:, None], fires[:, :, None] | shows[:, None]
    torch.testing.assert_close(result.units.iou, both.sum(dim=0) / either.sum(dim=0).double())
    assert result.masks.flatten(2).all(dim=2).logical_or(~result.masks.flatten(2).any(dim=2)).all()  # whole images
    assert "value that 20.0% of its positions exceed" in result.captions()["detectors"]
    asked = DissectionPlugin(name="d", layers=["2"], quantile=0.05).look(net, probe)
    assert asked.quantile == 0.05 and asked.units.area.max() == 2 * 64


def test_layers_are_chosen_among_vectors_by_what_dissects(planted):
    net, probe = planted
    assert DissectionPlugin(name="d").look(net, probe).layers == ("2", "4")
    aligned = AxisAlignmentPlugin(name="a", layer="2", rotations=2, alphas=[1.0]).look(net, probe)
    assert aligned.original.tolist() == aligned.permuted.tolist() and aligned.original[1] == CLASSES
    robust = RobustnessPlugin(name="r", layers=["2"], disturbances=["noise"]).look(net, probe)
    assert robust.scalars()["detectors_kept/noise"] > 0 and robust.pictures()


def test_similarity_and_projection_read_vectors(planted):
    net, probe = planted
    similar = SimilarityPlugin(name="s", images=40).look(net, probe)
    assert similar.layers == ("2", "4") and similar.pictures()
    projected = ProjectionPlugin(name="p", layer="2", method="pca", images=40).look(net, probe)
    assert projected.scalars()["knn_accuracy"] == 1 and projected.pictures()
    read = embed(net, [(probe.images, probe.labels)])
    torch.testing.assert_close(read.vectors, net[:5](probe.images))


def test_units_of_vectors_are_drawn(planted):
    net, probe = planted
    result = FeatureVisualizationPlugin(name="f", layers=["2"], channels=[3], steps=24).look(net, probe)
    picture = result.pictures()["channels"]
    assert result.scalars()["beats_images"] == 1 and picture.float().std() > 1


def test_what_needs_a_grid_says_that_there_is_none(planted):
    net, probe = planted
    why = r"no layer has (non-negative )?outputs on a grid of 4 x 4 or more\. Layers with a grid of positions: none \("
    why += r"3: vectors; 4: vectors; 5: it holds the logits"
    for plugin in (NMFPlugin(name="n"), ClassAttributionPlugin(name="c")):
        with pytest.raises(UserError, match=why):
            plugin.look(net, replace(probe, dataset=None))
        named = {"layer": "2"} if isinstance(plugin, NMFPlugin) else {"layers": ["2"]}
        with pytest.raises(UserError, match=r"layer '2' cannot be used: its output has shape \(2, 12\)"):
            replace(plugin, **named).look(net, probe)
    shown = SaliencyPlugin(name="s", methods=["gradient", "grad_cam"], checks="none").look(net, probe)
    assert shown.methods == ("gradient",) and shown.left_out == ("grad_cam (no layer has a grid of positions)",)
