"""Attributions of all classes against autograd, the float64 oracle and networks whose answer is known."""

import runpy

import pytest
import torch
from torch import nn

from interp.attribution import (
    Tail,
    ablation_effects,
    all_classes,
    channel_attribution,
    choose_classes,
    group_effects,
)
from interp.attribution.tail import smooth_max_pool
from interp.errors import UserError
from interp.factorization import neuron_groups
from interp.network.layers import Layer, choose_layer, layers
from interp.network.positions import Layout, layout
from tests import oracle
from tests.conftest import SHARED
from tests.networks import make, probe


class Pooled(nn.Module):
    """A convolution, max pooling, in-place operations and a skip connection."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, classes)

    def forward(self, images):
        x = self.pool(self.stem(images))
        y = self.conv(x)
        y += x
        return self.head(self.relu(y).mean(dim=(2, 3)).square())


class Tokens(nn.Module):
    """A transformer of two blocks with a class token, which alone is read."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        make = lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")  # noqa: E731
        self.blocks = nn.Sequential(make(), make())
        self.head = nn.Linear(16, classes)

    def forward(self, images):
        x = self.patch(images).flatten(2).mT
        return self.head(self.blocks(torch.cat([self.token.expand(len(x), -1, -1), x], dim=1))[:, 0])


def tail_of(make=Pooled, name="stem", classes=5, images=3, size=8):
    torch.manual_seed(0)
    net = make(classes).eval()
    batch = torch.rand(images, 3, size, size)
    layer = choose_layer(net, batch, name, signed=True)
    with torch.no_grad():
        return Tail(net, batch, layer)


def gradients(tail: Tail) -> torch.Tensor:
    """(J, B, C, h, w) by one backward pass a class."""
    leaf = tail.activations.clone().requires_grad_()
    logits = tail(leaf)
    return torch.stack([torch.autograd.grad(z.sum(), leaf, retain_graph=True)[0] for z in logits.unbind(1)])


@pytest.mark.parametrize("classes", [5, 100])  # fewer and more than the 64 positions: backward and forward products
@pytest.mark.parametrize(
    ("make", "name"), [(Pooled, "stem"), (Pooled, "pool"), (Tokens, "blocks.0"), (Tokens, "patch")]
)
def test_every_class_and_position_equals_autograd(make, name, classes):
    tail = tail_of(make, name, classes)
    expected = (gradients(tail) * tail.activations).sum(dim=2).transpose(0, 1)
    torch.testing.assert_close(all_classes(tail, chunk=20).detach(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(all_classes(tail, chunk=1).detach(), expected, rtol=1e-4, atol=1e-6)


def test_channels_groups_and_the_rest_are_those_of_the_definition():
    tail = tail_of()
    groups = neuron_groups(tail.activations, 4)
    effects, residual = group_effects(tail, groups.spatial, groups.channel)
    channels = channel_attribution(tail, torch.arange(5))
    for image in range(3):
        activations, spatial = (
            x[image].permute(1, 2, 0).flatten(0, 1).double().numpy() for x in (tail.activations, groups.spatial)
        )
        slopes = gradients(tail)[:, image].permute(0, 2, 3, 1).flatten(1, 2).double().numpy()
        expected = oracle.group_effects(activations, spatial, groups.channel.double().numpy(), slopes)
        ours = (effects[image].T, residual[image], channels[:, image])
        for result, reference in zip(ours, expected, strict=True):
            torch.testing.assert_close(result.detach().double(), torch.from_numpy(reference), rtol=1e-4, atol=1e-6)


def test_channels_and_groups_agree_with_the_shared_oracle():
    path = SHARED / "data" / "attribution_oracle.py"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    shared = runpy.run_path(str(path))
    tail = tail_of()
    found = neuron_groups(tail.activations, 4)
    effects, residual = group_effects(tail, found.spatial, found.channel)
    channels = channel_attribution(tail, torch.arange(5))
    for image in range(3):
        last = lambda x: x[image].permute(1, 2, 0).double().numpy()  # noqa: E731, B023
        slopes = gradients(tail)[:, image].permute(0, 2, 3, 1).flatten(1, 2).double().numpy()
        spatial, channel = last(found.spatial).reshape(-1, 4), found.channel.double().numpy()
        mine = effects[image].T.detach().numpy()
        rest = residual[image].detach().numpy()
        shared["check_groups"](last(tail.activations), spatial, channel, slopes, mine, residual=rest)
        expected = torch.from_numpy(shared["channel_attr"](last(tail.activations), slopes)).float()
        torch.testing.assert_close(channels[:, image].detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("make", "name"), [(Pooled, "stem"), (Tokens, "blocks.0")])
def test_groups_and_residual_make_up_gradient_times_activation(make, name):
    tail = tail_of(make, name)
    found = neuron_groups(tail.activations, 3, negative="split")
    effects, residual = group_effects(tail, found.spatial, found.channel)
    total = (gradients(tail) * tail.activations).sum(dim=(2, 3, 4)).T
    torch.testing.assert_close(effects.sum(dim=1) + residual, total, rtol=1e-4, atol=1e-4 * float(total.abs().max()))


def test_linear_effects_are_exact_where_the_rest_is_linear():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        tail = Tail(net, images, choose_layer(net, images, "1"))
        found = neuron_groups(tail.activations, 3)
        linear, _ = group_effects(tail, found.spatial, found.channel)
        torch.testing.assert_close(linear, ablation_effects(tail, found.spatial, found.channel), rtol=1e-4, atol=1e-6)


def test_a_planted_cause_is_found():
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(3 * 36, 200, bias=False)).eval()
    nn.init.zeros_(net[2].weight)
    net[2].weight.data.view(200, 3, 6, 6)[150, 1, 2, 4] = 2.0
    images = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        found = all_classes(Tail(net, images, Layer("0", Layout("channels_first", 6, 6), True)))
    assert found.count_nonzero() == 1
    assert float(found[0, 150, 2, 4]) == pytest.approx(2 * float(images[0, 1, 2, 4]), rel=1e-5)


def test_the_tail_leaves_no_hook_and_no_gradient():
    tail = tail_of()
    all_classes(tail)
    group_effects(tail, torch.rand(3, 2, 8, 8), torch.rand(2, 6))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in tail.net.modules())
    assert all(p.grad is None for p in tail.net.parameters())
    assert torch.backends.mha.get_fastpath_enabled()


def test_smooth_pooling_keeps_the_value_and_has_the_smooth_gradient():
    x = torch.randn(2, 3, 6, 6, dtype=torch.double).requires_grad_()
    pooled = smooth_max_pool(nn.functional.max_pool2d(x, 2), x, 2)
    torch.testing.assert_close(pooled, nn.functional.max_pool2d(x, 2))
    average = nn.functional.avg_pool2d
    soft = average(x.square(), 2) / (0.01 + average(x.abs(), 2))
    weights = torch.randn_like(soft)
    slopes = [torch.autograd.grad((part * weights).sum(), x)[0] for part in (pooled, soft)]
    torch.testing.assert_close(*slopes)
    tail = tail_of()
    plain, smooth = (all_classes(tail, smooth=flag).detach() for flag in (False, True))
    assert not torch.allclose(plain, smooth)
    forward = tail_of(classes=100)
    backward = (forward.pull(torch.arange(100), smooth=True) * forward.activations).sum(dim=2).transpose(0, 1)
    torch.testing.assert_close(all_classes(forward, smooth=True).detach(), backward, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "kind", "prefix"),
    [((2, 8, 5, 5), "channels_first", 0), ((2, 7, 7, 96), "channels_last", 0), ((2, 50, 16), "tokens", 1),
     ((2, 49, 16), "tokens", 0), ((2, 54, 16), "tokens", 5)],
)  # fmt: skip
def test_layouts_are_recognised_and_undone(shape, kind, prefix):
    found = layout(shape, nn.Identity())
    assert (found.kind, found.prefix) == (kind, prefix)
    output = torch.randn(shape)
    grid = found.grid(output)
    other = torch.randn_like(grid)
    torch.testing.assert_close(found.grid(found.output(other)), other)
    torch.testing.assert_close((found.output(other) * output).sum(), (grid * other).sum())


def test_what_has_no_grid_has_no_layout():
    assert layout((2, 10), nn.Identity()) is None and layout((2, 35, 16), nn.Identity()) is None


def test_a_transformer_is_studied_where_its_positions_bear_on_the_answer():
    torch.manual_seed(0)
    net, images = Tokens().eval(), torch.rand(2, 3, 32, 32)
    assert choose_layer(net, images, signed=True).name == "blocks.0"
    with pytest.raises(UserError, match="non-negative"):
        choose_layer(net, images)
    assert "blocks.1" in layers(net)


def test_chosen_classes_are_none_twice():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    names = ("ant", "bee", "cat", "dog")
    labels = torch.tensor([0, -1])
    assert choose_classes(logits, labels, ["true", "predicted"], names).tolist() == [[0, 2], [3, 2]]
    assert choose_classes(logits, labels, ["bee", "top"], names, top=2).tolist() == [[1, 0, 2], [1, 3, 2]]
    assert choose_classes(logits, labels, ["top"], names).tolist() == [[0, 2, 1, 3], [3, 2, 1, 0]]
    with pytest.raises(UserError, match="no class 'cat1'; did you mean 'cat'"):
        choose_classes(logits, labels, ["cat1"], names)


class Root(torch.autograd.Function):
    """A function of one's own, with or without a forward derivative."""

    forward_derivative = True

    @staticmethod
    def forward(inputs):
        return inputs.abs().sqrt()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx, gradient):
        inputs, output = ctx.saved_tensors
        return gradient * inputs.sign() / (2 * output)

    @staticmethod
    def jvp(ctx, tangent):
        if not Root.forward_derivative:
            raise NotImplementedError("no jvp")
        return Root.backward(ctx, tangent)

    @staticmethod
    def vmap(info, dims, inputs):
        return Root.apply(inputs), dims[0]


def test_backward_products_stand_in_where_there_is_no_forward_derivative(monkeypatch):
    torch.manual_seed(0)
    rest = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 20)]
    net, images = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *rest).eval(), torch.rand(3, 3, 8, 8)
    net[4].register_forward_hook(lambda module, inputs, output: Root.apply(output))
    with torch.no_grad():
        tail = Tail(net, images, choose_layer(net, images, "1"))
        tangents = torch.rand(7, *tail.activations.shape)
        forward = tail.push(tangents)
        monkeypatch.setattr(Root, "forward_derivative", False)
        torch.testing.assert_close(tail.push(tangents), forward, rtol=1e-4, atol=1e-5)
        monkeypatch.delattr(Root, "vmap")  # nor a rule for batches of gradients
        torch.testing.assert_close(tail.push(tangents), forward, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "own function", "remembering", "bfloat16", "float16", "batch norm"])
def test_effects_of_awkward_networks_are_those_of_autograd(kind):
    net, images = make(kind), probe().images
    with torch.no_grad():
        tail = Tail(net, images, choose_layer(net, images, "first" if hasattr(net.body, "first") else "0"))
        found = neuron_groups(tail.activations, 2)
        effects, residual = group_effects(tail, found.spatial, found.channel)
    assert effects.dtype == tail(tail.activations).dtype == torch.float32
    total = (gradients(tail) * tail.activations).sum(dim=(2, 3, 4)).T
    torch.testing.assert_close(effects.sum(dim=1) + residual, total, rtol=1e-4, atol=1e-5)
    exact = ablation_effects(tail, tail.activations[:, :1] * 0, found.channel[:1])
    assert not exact.any()
    torch.testing.assert_close(tail(tail.activations), net(images).float(), rtol=0.02, atol=0.01)


def test_a_layer_that_no_gradient_reaches_is_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    net[2].register_forward_hook(lambda module, inputs, output: output.detach())
    tail = Tail(net, torch.rand(2, 3, 8, 8), Layer("1", Layout("channels_first", 6, 6), True))
    with pytest.raises(ValueError, match="no gradient of the logits reaches layer '1'"):
        all_classes(tail)
