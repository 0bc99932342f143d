"""Where to look: the deepest layer that the answer passes through, and layers spread up to it."""

import pytest
import torch
import torch.distributed
from torch import nn

from interp.errors import UserError
from interp.network.bypass import Exchange, read_by_head
from interp.network.choice import LIMIT, spread
from interp.network.layer_table import COLUMNS, layer_table
from interp.network.layers import Layer, capture, choose_layer, spread_layers
from interp.network.survey import survey
from interp.network.tracing import Output
from tests.interp import odd_networks as odd
from tests.interp.small_net import everything, small_net


def built(build, images=None) -> nn.Module:
    torch.manual_seed(0)
    net = build().eval()
    with torch.no_grad():
        net(images if images is not None else torch.rand(1, 3, 16, 16))  # makes lazy layers
    return net


# By network: the layer where one is wanted, those where four are, and the bypass if it is not near 0.
WHERE = {
    odd.plain: ("1", ["0", "1"]),
    odd.Recurrent: ("block@3", ["stem", "block@1", "block@2", "block@3"]),
    odd.Tuples: ("second:2", ["stem", "first:2", "second:2"]),
    odd.Dense: ("join", ["stem", "join"]),
    odd.HiddenSkip: ("stem", ["stem"]),
    odd.AddedByHand: ("stem", ["stem"]),
    odd.Ignored: ("last", ["stem", "last"]),
    odd.Checkpointed: ("block", ["stem", "block"]),
    odd.NoGradient: ("stem", ["stem"]),
    odd.MapOfLogits: ("block", ["stem", "block"]),
    odd.one_channel: ("2", ["1", "2"]),
    odd.UpsampledPool: ("block", ["stem", "block"]),
    odd.mean_read: ("blocks", ["patch", "blocks.0", "blocks.1", "blocks"]),
    odd.sequence_first: ("blocks", ["patch", "blocks.0", "blocks.1", "blocks"]),
}


@pytest.mark.parametrize("size", [(16, 16), (32, 16)])
@pytest.mark.parametrize("build", WHERE, ids=lambda build: build.__name__)
def test_the_answer_passes_through_where_we_look(build, size):
    net, images = built(build), torch.rand(2, 3, *size)
    layer, layers = choose_layer(net, images, signed=True), spread_layers(net, images)
    assert (layer.name, [one.name for one in layers]) == WHERE[build]
    assert all(one.bypass == pytest.approx(0, abs=1e-3) for one in (layer, *layers))
    assert layer.about == layer.layout.about and layer.layout.height * size[1] == layer.layout.width * size[0]
    named = choose_layer(net, images, layer.name, signed=True)
    assert named == layer and named.activations(net, images).shape[2:] == (layer.layout.height, layer.layout.width)


def test_where_a_class_token_is_read_the_last_positions_that_bear_on_it_are_looked_at():
    net, images = built(odd.ClassToken), torch.rand(2, 3, 16, 16)
    layer, layers = choose_layer(net, images, signed=True), spread_layers(net, images)
    assert layer.name == layers[-1].name == "blocks.1" and layer.layout.prefix == 1
    assert layer.bypass > LIMIT and "of a change of the answer goes past its positions" in layer.about
    exchange = Exchange(net, images)
    assert exchange.bears("blocks.1", layer.layout) and not exchange.bears("blocks.2", layer.layout)
    assert exchange.bypass("blocks.2", layer.layout) == pytest.approx(1)


def test_where_no_layer_carries_it_all_the_share_that_goes_past_is_said():
    net, images = built(odd.TwoStreams), torch.rand(2, 3, 16, 16)
    layer = choose_layer(net, images)
    assert layer.name in ("left", "right") and 0.2 < layer.bypass < 1.2
    assert f"{min(layer.bypass, 1):.0%} of a change of the answer" in layer.about
    assert {"left", "right"} & {one.name for one in spread_layers(net, images)}


class Last(nn.Module):
    def forward(self, output):
        return output[0][:, -1]


def test_vectors_are_spread_where_nothing_has_a_grid_and_refused_where_positions_are_wanted():
    net, images = built(odd.perceptron), torch.rand(4, 3, 16, 16)
    assert [(one.name, one.layout.kind) for one in spread_layers(net, images)] == [("2", "vector"), ("4", "vector")]
    assert Layer.named(net, images, "2").activations(net, images).shape == (4, 20, 1, 1)
    with pytest.raises(
        UserError, match=r"4 x 4 or more. Layers with a grid of positions: none \(.*4: vectors; 5: it holds"
    ):
        choose_layer(net, images, signed=True)
    with pytest.raises(UserError, match=r"layer '2' cannot be used: its output has shape \(2, 20\)"):
        choose_layer(net, images, "2")
    sequence = nn.Sequential(nn.Flatten(2), nn.LSTM(256, 6, batch_first=True), Last(), nn.ReLU(), nn.Linear(6, 5))
    with pytest.raises(UserError, match=r"layer '1' cannot be used: .* \(2, 3, 6\).*; these put out vectors: 2, 3$"):
        Layer.named(sequence, images, "1")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    with pytest.raises(UserError, match="no layer between the image and the answer.*1: it holds the logits"):
        spread_layers(linear, images)


def test_smaller_grids_do_where_there_are_no_larger_ones():
    net = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    assert [one.name for one in spread_layers(net, torch.rand(2, 3, 8, 8))] == ["1"]
    with pytest.raises(UserError, match="non-negative outputs on a grid of 4 x 4 or more. .*positions: 1$"):
        choose_layer(nn.Sequential(*net[:1], nn.Softplus(), *net[2:]), torch.rand(2, 3, 8, 8))
    only_signed = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    with pytest.raises(UserError, match="no layer has non-negative outputs .*positions: none"):
        choose_layer(only_signed, torch.rand(2, 3, 8, 8))
    assert choose_layer(only_signed, torch.rand(2, 3, 8, 8), signed=True).name == "1"


def half() -> nn.Module:
    return odd.plain().bfloat16()


def frozen() -> nn.Module:
    return odd.plain().requires_grad_(False)


def compiled() -> nn.Module:
    return torch.compile(odd.plain(), backend="eager")


def of_inference() -> nn.Module:
    with torch.inference_mode():
        return odd.plain()


def distributed() -> nn.Module:
    return nn.parallel.DistributedDataParallel(odd.plain())


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("build", [half, frozen, compiled, of_inference, distributed])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_it_is_the_same_in_every_wrapper_precision_and_mode(build, mode, process_group):
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16, dtype=torch.bfloat16 if build is half else torch.float32)
    net = build()
    with mode():
        layer = choose_layer(net, images)
        names = [one.name for one in spread_layers(net, images)]
    assert (layer.name, names) == ("1", ["0", "1"]) and layer.bypass == pytest.approx(0, abs=1e-3)


def test_the_network_is_left_as_it_was():
    net, images = small_net().train(), torch.rand(4, 3, 16, 16)
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = everything(net)
    choose_layer(net, images), spread_layers(net, images), choose_layer(net, images, "2"), layer_table(net, images)
    after = everything(net)
    assert before[1:4] == after[1:4] and torch.equal(before[4], after[4])
    assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))


def test_constant_logits_are_told_by_what_the_head_reads_and_dead_networks_not_at_all():
    net, images = built(odd.plain), torch.rand(2, 3, 16, 16)
    nn.init.zeros_(net[4].weight)
    assert choose_layer(net, images).bypass == 0
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    layer = choose_layer(net, images)
    assert layer.name == "1" and layer.bypass != layer.bypass and layer.about == ""
    assert layer_table(net, images)[0][4] == "not to be told"


def test_one_image_or_the_same_twice_will_do():
    net, images = built(odd.plain), torch.rand(1, 3, 16, 16)
    assert choose_layer(net, images) == choose_layer(net, images.repeat(2, 1, 1, 1))


def test_runs_and_tensors_of_a_layer_are_named_and_captured():
    net, images = built(odd.Recurrent), torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        stem = net.stem(images)
        expected = net.block(net.block(stem))
    found = capture(net, images, ["stem", "block@2"])
    torch.testing.assert_close(found["block@2"], expected)
    torch.testing.assert_close(found["stem"], stem)
    with pytest.raises(UserError, match="runs 3 times in a forward pass: name one of them, block@1 to block@3"):
        choose_layer(net, images, "block")
    with pytest.raises(UserError, match="runs 3 times"):
        choose_layer(net, images, "block@4")
    with pytest.raises(UserError, match="no layer 'blok@2'"):
        choose_layer(net, images, "blok@2")
    net = built(odd.Tuples)
    with torch.no_grad():
        torch.testing.assert_close(capture(net, images, ["first"])["first"], net.stem(images).mean(dim=(2, 3)))
    with pytest.raises(UserError, match="layer 'first:3' puts out no such tensor"):
        capture(net, images, ["first:3"])


def test_batches_that_cannot_be_joined_are_not():
    net, images = built(odd.sequence_first), torch.rand(4, 3, 16, 16)
    assert capture(net, images, ["blocks"])["blocks"].shape == (16, 4, 16)
    with pytest.raises(UserError, match="not one row an image: give all images in one batch"):
        capture(net, images, ["blocks"], batch_size=2)


def candidate(name: str, work: int, minimum: float = -1.0):
    from interp.network.positions import Layout
    from interp.network.survey import Candidate

    return Candidate(name, Output((2, 4, 8, 8), minimum, 1), work, work / 100, True, Layout("channels_first", 8, 8))


def test_layers_are_spread_over_the_work_the_outer_ones_first():
    found = [candidate(name, work) for name, work in (("stem", 1), ("a.0", 12), ("a.1", 24), ("a", 24), ("b.0", 40),
             ("b.1", 55), ("b", 72), ("c.0", 85), ("c", 99))]  # fmt: skip
    assert [one.name for one in spread(found, 4)] == ["a", "b.1", "b", "c"]
    assert [one.name for one in spread(found, 2)] == ["b.1", "c"]
    assert [one.name for one in spread(found, 99)] == ["stem", "a.0", "a", "b.0", "b.1", "b", "c.0", "c"]
    assert spread([], 4) == []


def test_what_the_head_reads_is_the_input_of_the_layer_that_runs_last():
    images = torch.rand(2, 3, 16, 16)
    net = built(odd.MapOfLogits)
    with torch.no_grad():
        logits, read = read_by_head(net, images)
        torch.testing.assert_close(read, net.block(net.stem(images)).mean(dim=(2, 3)))
        torch.testing.assert_close(logits, net(images))
    assert read_by_head(nn.Sequential(nn.Conv2d(3, 5, 16), nn.Flatten()), images)[1] is None
    tokens = built(odd.mean_read)
    assert read_by_head(tokens, images)[1].shape == (2, 16)


def test_the_table_says_where_and_why_not():
    net, images = built(odd.Dense), torch.rand(4, 3, 16, 16)
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in layer_table(net, images)}
    assert list(rows) == ["stem", "grow", "gate", "join", "head"]
    assert rows["join"]["remarks"] == "chosen where 1, 3, 4, 8 are wanted" and rows["join"]["positions"] == "8 x 8"
    assert rows["grow"]["remarks"] == "part of the answer goes past it" and float(rows["grow"]["bypass"]) > LIMIT
    assert rows["head"]["remarks"].startswith("it holds the logits") and rows["head"]["positions"] == "vector"
    assert [float(row["depth"]) for row in rows.values()] == sorted(float(row["depth"]) for row in rows.values())
    assert [row[5] for row in layer_table(built(odd.perceptron), images)][1] == "chosen where 3, 4, 8 are wanted"


def test_attention_weights_and_gates_are_no_candidates():
    net, images = built(odd.Dense), torch.rand(2, 3, 16, 16)
    why = {one.name: one.why for one in survey(net, images)}
    assert why["gate"] == why["grow"] == "part of the answer goes past it" and why["stem"] == why["join"] == ""
