"""Naming, tracing and capturing layers."""

import pytest
import torch
from torch import nn

from interp.errors import UserError
from interp.network.layers import Normalized, capture, choose_layer, find_layer, layers, trace


class Reuses(nn.Module):
    """A ReLU that runs twice and in place, like torchvision's ResNet blocks."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(True)
        self.stem, self.pool = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(True)), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(self.relu(self.conv2(self.relu(self.conv1(x)))))
        return self.head(self.pool(x).flatten(1))


def test_names_are_those_inside_the_wrappers(net):
    assert {"block1", "block1.conv", "head"} <= layers(net).keys()
    assert layers(torch.compile(net, backend="eager")).keys() == layers(net).keys()
    assert layers(nn.DataParallel(net)).keys() == layers(net).keys()


def test_unknown_layer_names_the_nearest(net):
    with pytest.raises(UserError, match="no layer 'blok2' in Sequential; did you mean 'block2'"):
        find_layer(net, "blok2")


def test_capture_equals_the_forward_pass_and_leaves_no_hook(net):
    images = torch.rand(5, 1, 16, 16)
    net.eval()
    got = capture(net, images, ["block1", "block2"], batch_size=2)
    inside = (images - net.mean) / net.std
    with torch.no_grad():
        expected = net.body.block1(inside)
    torch.testing.assert_close(got["block1"], expected)
    torch.testing.assert_close(got["block2"], net.body.block2(expected).detach())
    assert not any(module._forward_hooks for module in net.modules())


def test_capture_stops_at_the_deepest_layer(net):
    ran = []
    net.body.head.register_forward_hook(lambda *_: ran.append(1))
    capture(net, torch.rand(2, 1, 16, 16), ["block3"])
    assert not ran


def test_capture_is_not_rewritten_by_an_in_place_relu():
    net, images = Reuses().eval(), torch.rand(2, 1, 8, 8)
    assert capture(net, images, ["stem.0"])["stem.0"].min() < 0


def test_default_is_the_last_non_negative_layer_with_a_grid(net):
    assert choose_layer(net.eval(), torch.rand(2, 1, 16, 16)).name == "block3"
    assert choose_layer(Reuses().eval(), torch.rand(2, 1, 8, 8)).name == "stem"


@pytest.mark.parametrize(("name", "why"), [("relu", "runs 2 times"), ("pool", None)])
def test_layers_that_cannot_be_used_say_why(name, why):
    if why is None:
        assert choose_layer(Reuses().eval(), torch.rand(2, 1, 8, 8), name).name == name
        return
    with pytest.raises(UserError, match=f"{why}.*Layers with a grid of positions"):
        choose_layer(Reuses().eval(), torch.rand(2, 1, 8, 8), name)


def test_a_vector_layer_is_refused_with_its_shape(net):
    with pytest.raises(UserError, match=r"shape \(2, 10\)"):
        choose_layer(net.eval(), torch.rand(2, 1, 16, 16), "head")


def test_trace_sees_shapes_in_order_of_execution(net):
    outputs = trace(net.eval(), torch.rand(2, 1, 16, 16))
    assert outputs["block1"].shape == (2, 8, 16, 16) and outputs["block3"].shape == (2, 16, 8, 8)
    assert list(outputs).index("block1.relu") < list(outputs).index("block1") < list(outputs).index("block2.conv")


def test_normalized_repeats_one_channel_and_keeps_the_precision():
    seen = []
    body = nn.Identity()
    body.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    Normalized(body, [0.5] * 3, [0.25] * 3).to(torch.bfloat16)(torch.full((2, 1, 4, 4), 0.75))
    assert seen[0].shape == (2, 3, 4, 4) and seen[0].dtype == torch.bfloat16 and float(seen[0].mean()) == 1.0


def test_a_network_without_any_grid_is_told_so_even_where_signed_layers_will_do():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(UserError, match="Layers with a grid of positions: none"):
        choose_layer(net, torch.rand(2, 1, 8, 8), signed=True)
