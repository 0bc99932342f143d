"""The five panels against twelve lines of torch, checks that tell good maps from bad ones, all kinds of networks."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from interp.attribution.curves import CURVE, Chance, areas, probability
from interp.attribution.methods import METHODS, Task, attribute, completeness_error
from interp.attribution.random_copies import cascade
from interp.attribution.saliency import mean_colour, spearman
from interp.attribution.trust import change_under_noise, map_checks, verdict
from interp.draw import divergent, enlarge, grid, rgb
from interp.errors import UserError
from interp.probe import Probe
from interp.result import FRAMES
from plugins.saliency import SaliencyPlugin, SaliencyResult
from plugins.saliency.view import PANELS


def reference(net: nn.Module, x: torch.Tensor, y: torch.Tensor, blank: torch.Tensor) -> list[torch.Tensor]:
    """The five panels as the document describes them: source, baseline, saliency, delta, overlay."""

    def gradient(images):
        images = images.clone().requires_grad_()
        net(images)[range(len(y)), y].sum().backward()
        net.zero_grad(set_to_none=True)
        return images.grad

    baseline, saliency = gradient(blank.expand_as(x)), gradient(x)
    delta = saliency - baseline
    return [x, baseline, saliency, delta, delta * x]


def test_the_five_panels_equal_the_reference(trained):
    net, probe = trained
    result = SaliencyPlugin(name="s", methods=[], batch_size=4).look(net, probe)
    source, baseline, gradient, delta, overlay = reference(net, probe.images, probe.labels, net.mean)
    torch.testing.assert_close(result.baseline, baseline, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(result.gradient, gradient, atol=1e-6, rtol=1e-5)
    sizes = (
        torch.stack([baseline, gradient, delta, overlay]).abs().flatten(2).quantile(0.99, dim=2, interpolation="higher")
    )
    shared, own = sizes[:3].amax(dim=0)[:, None, None, None], sizes[3][:, None, None, None]
    maps = torch.cat([baseline / shared, gradient / shared, delta / shared, overlay / own], dim=1)
    cells = torch.cat([enlarge(rgb(source), 128)[:, None], divergent(enlarge(maps, 128))], dim=1)
    drawn = result.pictures()["panels"].int()
    assert (drawn - grid(cells, result.labels, PANELS).int()).abs().max() <= 1
    assert set(result.pictures()) == set(result.captions()) == {"panels"} and not result.widgets()


def test_black_and_the_mean_colour_and_every_target(trained):
    net, probe = trained
    black = SaliencyPlugin(name="s", methods=[], blank="black").look(net, probe)
    expected = reference(net, probe.images, probe.labels, torch.zeros(1, 1, 1))[1]
    torch.testing.assert_close(black.baseline, expected, atol=1e-6, rtol=1e-5)
    seven = SaliencyPlugin(name="s", methods=["gradient"], target="7", checks="none").look(net, probe)
    expected = reference(net, probe.images, torch.full_like(probe.labels, 7), net.mean)[2]
    torch.testing.assert_close(seven.maps[:, 0], expected.sum(dim=1), atol=1e-6, rtol=1e-5)
    assert set(seven.labels) == {"7"} and "the class 7" in seven.captions()["panels"]
    predicted = SaliencyPlugin(name="s", methods=[], target="predicted").look(net, probe)
    with torch.no_grad():
        assert predicted.labels == tuple(str(j) for j in net(probe.images).argmax(dim=1).tolist())


def test_columns_are_the_methods_of_the_functions(trained):
    net, probe = trained
    methods = ["occlusion", "grad_cam", "deep_lift"]
    result = SaliencyPlugin(name="s", methods=methods, checks="none", batch_size=3).look(net, probe)
    task = Task(probe.images, probe.labels, net.mean)
    for index, method in enumerate(methods):
        torch.testing.assert_close(result.maps[:, index], attribute(net, method, task).sum(dim=1), atol=1e-6, rtol=1e-5)
    assert "Grad-CAM is at block4." in result.captions()["methods"]
    assert result.methods == tuple(methods) and torch.equal(result.film[0], result.maps[:, 0])
    assert set(result.pictures()) == set(result.captions()) == {"panels", "methods"}


def test_random_weights_and_another_class_expose_guided_backprop_and_clear_the_gradient(trained):
    net, probe = trained
    result = SaliencyPlugin(name="s", methods=["gradient", "guided_backprop"], checks="all").look(net, probe)
    good, bad = result.checks["gradient"], result.checks["guided_backprop"]
    for check in ("class_correlation", "weights_correlation"):
        assert good[check] < 0.35 and bad[check] > 0.5 and bad[check] > good[check] + 0.25
    said = result.captions()["methods"]
    assert re.search(r"guided_backprop \(0\.\d+\): much the same with random weights", said)
    assert "gradient (" not in said.split("with random weights")[0]
    assert result.scalars()["guided_backprop/weights_correlation"] == bad["weights_correlation"]
    assert "weights correlation" in result.widgets()["checks"] and result.tables()["checks"][1][0][0] == "gradient"


def test_the_cascade_goes_from_the_top_to_the_bottom_and_leaves_the_network(trained):
    net, probe = trained
    before = {name: value.clone() for name, value in net.state_dict().items()}
    changed = []
    for other in cascade(net, probe.images, stages=4):
        state = other.state_dict()
        changed.append({name for name in before if not torch.equal(before[name], state[name])})
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert {"body.head.weight", "body.head.bias"} <= changed[0] and "body.block1.conv.weight" not in changed[2]
    assert changed[0] < changed[1] < changed[2] < changed[3] and "body.block1.conv.weight" in changed[3]


def linear(weights: torch.Tensor) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(weights.shape[1], len(weights), bias=False)).eval()
    net[1].weight.data.copy_(weights)
    return net


def test_a_perfect_ranking_gains_and_its_reverse_loses():
    draw = torch.Generator().manual_seed(0)
    weights = torch.stack([torch.randn(64, generator=draw), torch.zeros(64)]) / 2
    images = torch.rand(6, 1, 8, 8, generator=draw)
    task = Task(images, torch.zeros(6, dtype=torch.long), torch.zeros(1, 1, 1))
    perfect = (images.flatten(1) * weights[0]).view(6, 8, 8)
    orders = (torch.rand(6, 8, 8, generator=draw), perfect, -perfect)
    chance, best, worst = (torch.stack(areas(linear(weights), task, order)).mean(dim=1) for order in orders)
    assert best[0] < chance[0] - 0.1 and chance[0] < worst[0] - 0.1  # deletion
    assert best[1] > chance[1] + 0.1 and chance[1] > worst[1] + 0.1  # insertion


def curve_by_curve(net: nn.Module, task: Task, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The areas of deletion and insertion of one image after the other, pixel by pixel."""
    areas_of_images = []
    for image, target, ranks in zip(task.images, task.targets, order.flatten(1), strict=True):
        first = ranks.argsort(descending=True)
        curves = [[], []]
        for count in torch.linspace(0, len(first), CURVE).round().int().tolist():
            for curve, start, end in zip(curves, (image, task.blank), (task.blank, image), strict=True):
                mixed, other = (picture.expand_as(image).reshape(len(image), -1).clone() for picture in (start, end))
                mixed[:, first[:count]] = other[:, first[:count]]
                curve.append(net(mixed.view_as(image)[None]).softmax(dim=1)[0, target])
        areas_of_images.append(torch.stack([torch.stack(curve).mean() for curve in curves]))
    return torch.stack(areas_of_images).T.unbind()


@torch.no_grad()
def test_curves_equal_those_pixel_by_pixel_and_random_orders_serve_both(trained):
    net, probe = trained
    task = Task(probe.images[:3], probe.labels[:3], net.mean, batch_size=7)
    order = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = curve_by_curve(net, task, order)
    torch.testing.assert_close(areas(net, task, order), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(areas(net, task, -order)[1], expected[0], atol=5e-3, rtol=0.02)
    torch.manual_seed(0)
    drawn = [torch.rand(3, 16, 16) for _ in range(8)]
    torch.manual_seed(0)
    chance = Chance.of(net, task)
    torch.testing.assert_close(chance.areas, torch.stack([areas(net, task, order)[0] for order in drawn]))
    torch.testing.assert_close(chance.ends[0], probability(net, task))


def test_random_orders_are_not_better_than_chance_and_their_z_is_normal():
    """Against the null itself: of 200 random orders 5% should exceed 1.645; and what is better is told at once."""
    draw = torch.Generator().manual_seed(0)
    net = linear(torch.stack([torch.randn(64, generator=draw), torch.zeros(64)]))
    task = Task(torch.rand(12, 1, 8, 8, generator=draw), torch.zeros(12, dtype=torch.long), torch.zeros(1, 1, 1))
    torch.manual_seed(0)
    chance = Chance.of(net, task)
    z = []
    for _ in range(200):
        deleted, _ = areas(net, task, torch.rand(12, 8, 8, generator=draw), chance.ends)
        z.append(chance.gain(chance.areas.mean(dim=0) - deleted)[1])
    spread = torch.tensor(z)
    assert 0.75 < spread.std() < 1.3 and abs(spread.mean()) < 0.6 and (spread > 3).sum() == 0
    checks = map_checks(net, "integrated_gradients", task, chance)
    assert checks["deletion_z"] > 3 and checks["insertion_z"] > 3
    nothing = linear(torch.zeros(2, 64))
    assert Chance.of(nothing, task).gain(torch.zeros(12)) == (0.0, 0.0)


def test_a_linear_network_is_complete_stable_and_blind_to_nothing():
    draw = torch.Generator().manual_seed(0)
    net, images = linear(torch.randn(3, 64, generator=draw)), torch.rand(4, 1, 8, 8, generator=draw)
    task = Task(images, torch.tensor([0, 1, 2, 0]), torch.zeros(1, 1, 1), steps=4)
    found = attribute(net, "integrated_gradients", task)
    assert completeness_error(net, task, found) < 1e-4
    assert completeness_error(net, task, 2 * found) == pytest.approx(1.0, abs=1e-3)
    checks = map_checks(net, "gradient", task, Chance.of(net, task), weights=False)
    assert checks["change_under_noise"] == 0 and abs(checks["class_correlation"]) < 0.5
    weight = net[1].weight.detach().view(3, 1, 8, 8)
    other = net(images).scatter(1, task.targets[:, None], -torch.inf).argmax(dim=1)
    expected = spearman(weight[task.targets].abs().flatten(1), weight[other].abs().flatten(1)).mean()
    assert checks["class_correlation"] == pytest.approx(float(expected))


def test_noise_is_measured_against_the_map(trained):
    """Against the definition: the largest |difference| / |map| of three disturbed copies, averaged over images."""
    net, probe = trained
    task = Task(probe.images, probe.labels, net.mean)
    torch.manual_seed(0)
    found = change_under_noise(net, "gradient", task)
    draw, maps, worst = torch.Generator().manual_seed(1), attribute(net, "gradient", task), []
    for _ in range(3):
        noise = (torch.rand(task.images.shape, generator=draw) * 2 - 1) * 0.02
        other = attribute(net, "gradient", replace(task, images=task.images + noise))
        worst.append((other - maps).flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1))
    assert found == pytest.approx(float(torch.stack(worst).amax(dim=0).mean()), rel=0.25)


def test_the_verdict_names_what_failed_and_what_it_means():
    assert verdict({"gradient": {"class_correlation": 0.2, "deletion_gain": 0.3}}) == "All checks are passed."
    said = verdict({"a": {"class_correlation": 0.9}, "b": {"class_correlation": 0.1, "insertion_gain": -0.2}})
    assert said.startswith("Failed checks: a (0.90): much the same for another class")
    assert "b (-0.20): no better than chance" in said
    assert verdict({"a": {"deletion_gain": -0.2, "deletion_z": 2.5}}) == "All checks are passed."
    assert "a (1.50): no better than random orders" in verdict({"a": {"deletion_gain": 0.2, "deletion_z": 1.5}})
    untrained = verdict(
        {method: {"deletion_gain": value} for method, value in zip("abc", (0.0, 0.01, -0.03), strict=True)}
    )
    assert "every method (-0.03 to 0.01): no better than chance" in untrained


def test_the_film_grows_and_keeps_its_first_frame(trained):
    net, probe = trained
    first = SaliencyPlugin(name="s", methods=["gradient"], checks="none").look(net, probe)
    result = first
    for _ in range(FRAMES + 5):
        result = first.following(result)
    assert len(result.film) == len(result.looks) <= FRAMES and result.looks[-1] == FRAMES + 5
    assert {"panels", "methods", "film"} == set(result.pictures()) == set(result.captions())
    other = SaliencyPlugin(name="s", methods=["smoothgrad"], checks="none").look(net, probe)
    assert other.following(first) is other


def convolutional(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 5), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3))


KINDS = {
    "without a grid": (flat, {"grad_cam"}),
    "without batch norm": (lambda: convolutional(nn.ReLU()), set()),
    "with another activation": (lambda: convolutional(nn.SiLU()), {"guided_backprop", "deep_lift"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_all_kinds_run_and_what_is_left_out_is_said(kind):
    torch.manual_seed(0)
    build, left_out = KINDS[kind]
    probe = Probe(torch.rand(3, 1, 16, 16), torch.arange(3), ("a", "b", "c"), torch.arange(3))
    result = SaliencyPlugin(name="s", checks="all").look(build().eval(), probe)
    assert set(result.methods) == METHODS.keys() - left_out == result.checks.keys()
    assert {text.split(" (")[0] for text in result.left_out} == left_out
    assert all(method in result.captions()["methods"] for method in left_out)
    assert all(torch.isfinite(torch.tensor(list(result.scalars().values()))))


def test_a_transformer_and_a_thousand_classes(tmp_path):
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=1000).eval()
    nn.init.normal_(vit.heads.head.weight)
    names = tuple(f"class {j}" for j in range(1000))
    probe = Probe(torch.rand(2, 3, 32, 32), torch.tensor([3, 999]), names, torch.arange(2))
    result = SaliencyPlugin(name="s", checks="all").look(vit, probe)
    assert set(result.methods) == {"gradient", "integrated_gradients", "smoothgrad", "grad_cam", "occlusion"}
    assert result.layer.startswith(
        "encoder.layers.encoder_layer_0 (tokens on their 4 x 4 grid, the class token left out;"
    )
    assert result.maps[:, result.methods.index("grad_cam")].any()
    assert "guided_backprop (no ReLU layer runs)" in result.left_out
    result.save(tmp_path)
    again = SaliencyResult.load(tmp_path)
    assert again.checks == result.checks and again.left_out == result.left_out and again.methods == result.methods


def test_settings_that_do_not_fit_are_named(trained):
    net, probe = trained
    with pytest.raises(UserError, match="plugin.s.methods 'gradcam'; did you mean 'grad_cam'"):
        SaliencyPlugin(name="s", methods=["gradcam"])
    with pytest.raises(UserError, match="plugin.s.checks 'al'; did you mean 'all'"):
        SaliencyPlugin(name="s", checks="al")
    with pytest.raises(UserError, match="plugin.s.steps=0: must be above 0"):
        SaliencyPlugin(name="s", steps=0)
    with pytest.raises(UserError, match="plugin.s.target 'tru'; did you mean 'true'"):
        SaliencyPlugin(name="s", target="tru").look(net, probe)


def test_photographs_without_labels_are_explained_by_what_the_network_sees_in_them(trained):
    net, probe = trained
    unlabelled = replace(probe, labels=torch.full_like(probe.labels, -1))
    found = SaliencyPlugin(name="s", methods=[]).look(net, unlabelled)
    predicted = SaliencyPlugin(name="s", methods=[], target="predicted").look(net, probe)
    assert torch.equal(found.gradient, predicted.gradient) and found.labels == predicted.labels
    assert "the predicted class (some images have no label)" in found.captions()["panels"]
    assert "no label" not in predicted.captions()["panels"]


def test_the_image_without_content_is_called_what_it_is(trained):
    net, probe = trained
    for subject, blank, said in ((net, "mean", "the mean colour"), (net, "black", "black"),
                                 (net.body, "mean", "black, as the network has no mean colour")):  # fmt: skip
        result = SaliencyPlugin(name="s", methods=[], blank=blank).look(subject, probe)
        assert result.about == f"the true class; the baseline's image is {said}"
    assert mean_colour(net, probe.images).shape == (1, 1, 1)
    for mean in (torch.tensor([120.0]), torch.rand(4), 0.5, None):
        other = nn.Identity()
        other.mean = mean
        assert mean_colour(other, probe.images) is None


def test_without_another_class_no_map_can_be_the_same_for_it():
    probe = Probe(torch.rand(2, 1, 16, 16), torch.zeros(2, dtype=torch.long), ("a",), torch.arange(2))
    net = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)).eval()
    result = SaliencyPlugin(name="s", methods=["gradient"]).look(net, probe)
    assert "gradient's class correlation (there is no other class)" in result.left_out
    assert "class_correlation" not in result.checks["gradient"] and "deletion_gain" in result.checks["gradient"]


def test_random_weights_whose_signal_dies_out_are_no_control():
    probe = Probe(torch.rand(3, 1, 16, 16), torch.arange(3), ("a", "b", "c"), torch.arange(3))
    dead = nn.Sequential(nn.Conv2d(1, 4, 5), nn.Threshold(1e9, 0.0), nn.Conv2d(4, 4, 5), nn.ReLU())
    net = nn.Sequential(dead, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    result = SaliencyPlugin(name="s", methods=["gradient"], checks="all").look(net, probe)
    assert "weights_correlation" not in result.checks["gradient"]
    assert any("random weights are no control" in text for text in result.left_out)
