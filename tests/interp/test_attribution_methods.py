"""Each method by name against captum's own result, and what is said of networks that a method does not fit."""

import threading

import pytest
import torch
from captum import attr
from torch import nn

from interp.attribution.activations import hookable
from interp.attribution.methods import (
    METHODS,
    Task,
    attribute,
    completeness_error,
    falls_short,
    occlusion_window,
    why_not,
)
from interp.errors import UserError
from tests.networks import make, probe


@pytest.fixture
def task(net, digits):
    net.eval()
    return Task(digits.probe.images[:5], digits.probe.labels[:5], net.mean, batch_size=2, samples=4)


def captums(net, task: Task, method: str) -> torch.Tensor:
    """The whole batch at once, as its documentation shows."""
    images, target = task.images.clone().requires_grad_(), task.targets
    blanks = net.mean.expand_as(images)
    window, stride = occlusion_window(16, 16)
    cam = attr.LayerGradCam(net, net.body.block3)
    by_name = {
        "gradient": lambda: attr.Saliency(net).attribute(images, target, abs=False),
        "integrated_gradients": lambda: attr.IntegratedGradients(net).attribute(images, blanks, target, n_steps=32),
        "grad_cam": lambda: attr.LayerAttribution.interpolate(
            cam.attribute(images, target, relu_attributions=True), (16, 16), "bilinear"
        ),
        "guided_backprop": lambda: attr.GuidedBackprop(net).attribute(images, target),
        "deep_lift": lambda: attr.DeepLift(net).attribute(images, blanks, target),
        "occlusion": lambda: attr.Occlusion(net).attribute(
            images, (1, *window), (1, *stride), baselines=blanks, target=target
        ),
    }
    return by_name[method]()


@pytest.mark.filterwarnings("ignore:Setting .*hooks")
@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"smoothgrad"}))
def test_in_batches_each_method_equals_captums_own_result(net, task, method):
    expected = captums(net, task, method)
    found = attribute(net, method, task)
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=1e-5)
    assert found.abs().sum() > 0 and not found.requires_grad


def test_smoothgrad_equals_captums_with_the_same_noise(net, task):
    torch.manual_seed(3)
    found = attribute(net, "smoothgrad", task)
    torch.manual_seed(3)
    tunnel = attr.NoiseTunnel(attr.Saliency(net))
    noise = {"nt_samples": 4, "nt_samples_batch_size": 1, "stdevs": 0.15}
    parts = [
        tunnel.attribute(images.clone().requires_grad_(), target=targets, abs=False, **noise)
        for images, targets in zip(task.images.split(2), task.targets.split(2), strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(parts).detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_keeps_no_hook_no_gradient_and_no_attribute(net, task, method):
    before = {name: set(vars(module)) for name, module in net.named_modules()}
    attribute(net, method, task)
    assert before == {name: set(vars(module)) for name, module in net.named_modules()}
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


class Calls(nn.Module):
    """Two convolutions, each with an activation and a max pooling that are called as `act` and `pool` say."""

    def __init__(self, act, pool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 3)
        self.act, self.pool = act, pool

    def forward(self, images):
        for layer in (self.first, self.second):
            images = self.pool(self.act(layer(images)))
        return self.head(images.mean(dim=(2, 3)))


def separate(net: Calls, act: type[nn.Module]) -> nn.Module:
    """The same with layers of its own for each call."""
    parts = [part for layer in (net.first, net.second) for part in (layer, act(), nn.MaxPool2d(2))]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.head).eval()


functional = nn.functional
CALLS = {
    "layers used twice": (nn.ReLU(), nn.MaxPool2d(2)),
    "layers that write in place": (nn.ReLU(inplace=True), nn.MaxPool2d(2)),
    "functions": (functional.relu, lambda x: functional.max_pool2d(x, 2)),
    "torch's functions": (torch.relu, lambda x: torch.max_pool2d(x, (2, 2))),
    "functions that write in place": (lambda x: functional.relu(x, True), nn.MaxPool2d(2)),
    "methods": (lambda x: x.relu(), nn.MaxPool2d(2)),
    "methods that write in place": (lambda x: x.relu_(), nn.MaxPool2d(2)),
}


@pytest.mark.filterwarnings("ignore:Setting .*hooks")
@pytest.mark.parametrize("called", CALLS)
def test_however_activations_are_called_they_are_explained_like_layers_of_their_own(called):
    torch.manual_seed(0)
    net = Calls(*CALLS[called]).eval()
    alike = separate(net, nn.ReLU)
    task = Task(torch.rand(3, 1, 16, 16), torch.tensor([0, 2, 1]), torch.zeros(1, 1, 1), batch_size=2)
    blanks = task.blanks
    expected = {
        "guided_backprop": attr.GuidedBackprop(alike).attribute(task.images.clone().requires_grad_(), task.targets),
        "deep_lift": attr.DeepLift(alike).attribute(task.images.clone().requires_grad_(), blanks, task.targets),
    }
    for method, maps in expected.items():
        assert why_not(net, method, task.images) == ""
        torch.testing.assert_close(attribute(net, method, task), maps.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("act", [nn.ReLU6(), functional.relu6, nn.Hardtanh(0.0, 6.0)])
def test_relu6_passes_what_lies_between_its_limits(act):
    torch.manual_seed(0)
    net = Calls(act, nn.Identity()).eval()
    for layer in (net.first, net.second):
        layer.weight.data *= 20
    task = Task(torch.rand(2, 1, 12, 12), torch.tensor([0, 2]), torch.zeros(1, 1, 1))
    assert why_not(net, "guided_backprop", task.images) == why_not(net, "deep_lift", task.images) == ""
    whole = (net(task.images) - net(task.blanks)).gather(1, task.targets[:, None])[:, 0]
    torch.testing.assert_close(attribute(net, "deep_lift", task).sum(dim=(1, 2, 3)), whole, atol=1e-4, rtol=1e-4)

    def guided(gradient, before):  # what rises, where the activation rises
        return gradient.clamp_min(0) * (before > 0) * (before < 6)

    first = net.first(task.images).detach()
    second = net.second(first.clamp(0, 6)).detach()
    gradient = net.head.weight[task.targets][..., None, None].expand_as(second) / second[0, 0].numel()
    for layer, before in ((net.second, second), (net.first, first)):
        gradient = functional.conv_transpose2d(guided(gradient, before), layer.weight)
    torch.testing.assert_close(attribute(net, "guided_backprop", task), gradient.detach(), atol=1e-4, rtol=1e-4)


class Unsteady(Calls):
    """Calls an activation only for bright images."""

    def forward(self, images):
        return super().forward(images.relu() if images.mean() > 0.4 else images)


def test_a_network_that_calls_other_activations_for_other_images_is_refused():
    net = Unsteady(nn.ReLU(), nn.MaxPool2d(2)).eval()
    images = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    assert "other activations for other images" in why_not(net, "deep_lift", images)
    with pytest.raises(ValueError, match="other activations for other images"):
        attribute(net, "guided_backprop", Task(images, torch.tensor([0, 1]), torch.zeros(1, 1, 1), batch_size=1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize(
    ("build", "method", "reason"),
    [
        (mlp, "grad_cam", "no layer has a grid"),
        (
            lambda: Calls(lambda x: functional.gelu(x.relu()), nn.Identity()),
            "deep_lift",
            r"2 of its activations \(2 x relu, 2 x gelu\) are not layers",
        ),
        (lambda: nn.Sequential(nn.Conv2d(1, 3, 16), nn.GELU(), nn.Flatten()), "guided_backprop", "no ReLU layer runs"),
        (lambda: nn.Sequential(nn.Conv2d(1, 3, 16), nn.GELU(), nn.Flatten()), "deep_lift", "no ReLU layer runs"),
    ],
)
def test_what_does_not_fit_is_said(build, method, reason):
    import re

    net = build().eval()
    assert re.search(reason, why_not(net, method, torch.rand(2, 1, 16, 16)))
    for other in ("gradient", "integrated_gradients", "smoothgrad", "occlusion"):
        assert why_not(net, other, torch.rand(2, 1, 16, 16)) == ""


def test_a_resnet_fits_every_method_and_tokens_have_a_grad_cam():
    from torchvision.models import VisionTransformer, resnet18

    images, blank = torch.rand(2, 3, 32, 32), torch.zeros(1, 1, 1)
    net = resnet18(num_classes=3).eval()
    assert not any(why_not(net, method, images) for method in ("deep_lift", "guided_backprop"))
    found = attribute(net, "deep_lift", Task(images, torch.tensor([0, 1]), blank)).sum(dim=(1, 2, 3))
    whole = (net(images) - net(0 * images)).gather(1, torch.tensor([[0], [1]]))[:, 0]
    torch.testing.assert_close(found, whole.detach(), atol=1e-3, rtol=1e-2)
    vit = VisionTransformer(32, 4, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3).eval()
    nn.init.normal_(vit.heads.head.weight)
    assert "no ReLU" in why_not(vit, "guided_backprop", images) and not why_not(vit, "grad_cam", images)
    wide = Task(images, torch.tensor([0, 1]), blank)
    maps = attribute(vit, "grad_cam", wide)
    assert maps.shape == (2, 1, 32, 32) and maps.any()


def test_guided_backprop_treats_a_shared_relu_like_separate_ones():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18(num_classes=5).eval()
    separate = hookable(net)
    for block in [block for layer in (separate.layer1, separate.layer2) for block in layer]:
        block.relu2 = nn.ReLU()

        def forward(x, block=block):
            out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
            return block.relu2(out + (x if block.downsample is None else block.downsample(x)))

        block.forward = forward
    task = Task(torch.rand(2, 3, 32, 32), torch.tensor([0, 4]), torch.zeros(1, 1, 1))
    with torch.no_grad():
        torch.testing.assert_close(net(task.images), separate(task.images))
    expected = attr.GuidedBackprop(separate)
    with pytest.warns(UserWarning, match="backward hooks"):
        found = expected.attribute(task.images.clone().requires_grad_(), task.targets)
    torch.testing.assert_close(attribute(net, "guided_backprop", task), found, atol=1e-6, rtol=1e-5)


def test_an_unknown_method_or_layer_is_named(net, task):
    with pytest.raises(UserError, match="no attribution method 'gradcam'; did you mean 'grad_cam'"):
        attribute(net, "gradcam", task)
    with pytest.raises(UserError, match="no layer 'block9'"):
        why_not(net, "grad_cam", task.images, "block9")


@pytest.mark.parametrize(
    ("kind", "off"),
    [("batch norm", ""), ("weight norm", ""), ("group norm", r"by \d\d%"), ("instance norm", r"by \d+%"),
     ("layer norm", r"by \d+%"), ("arithmetic", r"by \d\d%"), ("own function", r"by \d+%")],
)  # fmt: skip
def test_deep_lift_fits_where_its_maps_add_up(kind, off):
    import re

    net, images = make(kind), probe(6).images
    said = why_not(net, "deep_lift", images)
    assert (
        re.search(f"^its maps miss the difference of the logits that they should add up to {off}$", said)
        if off
        else not said
    )
    task = Task(images, torch.zeros(6, dtype=torch.long), net.mean)
    error = completeness_error(net, task, attribute(net, "deep_lift", task))
    assert (error > 0.1) == bool(off)


def test_integrated_gradients_of_a_network_that_jumps_never_add_up():
    images = probe(4).images
    for kind, method in (("own function", "integrated_gradients"), ("instance norm", "integrated_gradients")):
        net = make(kind)
        task = Task(images, torch.zeros(4, dtype=torch.long), net.mean)
        said = falls_short(net, method, task, attribute(net, method, task))
        assert "they should add up to by" in said and said.endswith("in 32 steps")
        assert not falls_short(net, "occlusion", task, images)  # promises nothing


def test_a_network_that_cannot_be_copied_is_told_of():
    net = mlp()
    net.lock = threading.Lock()
    assert "TypeError: cannot pickle '_thread.lock' object" in why_not(net, "deep_lift", torch.rand(2, 1, 16, 16))
