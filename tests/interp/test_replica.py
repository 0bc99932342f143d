"""Copies of networks that hold tensors with a graph, and networks in half precision for numbers in float32."""

import pytest
import torch
from torch import nn

from interp.attribution.trust import cascade
from interp.network.replica import precise, replica
from tests.networks import Remembering, make, probe


@pytest.mark.parametrize("kind", ["old weight norm", "old spectral norm", "weight norm", "remembering", "lstm"])
def test_a_copy_computes_the_same_and_shares_nothing(kind):
    net, images = make(kind), probe().images
    expected = net(images).detach()  # leaves tensors with a graph behind
    copy = replica(net)
    torch.testing.assert_close(copy(images), expected)
    places = {tensor.data_ptr() for tensor in (*net.parameters(), *net.buffers())}
    assert not places & {tensor.data_ptr() for tensor in (*copy.parameters(), *copy.buffers())}
    assert [p.requires_grad for p in copy.parameters()] == [p.requires_grad for p in net.parameters()]
    with torch.no_grad():
        [parameter.add_(1) for parameter in copy.parameters()]
    torch.testing.assert_close(net(images).detach(), expected)


def test_tensors_that_are_one_stay_one():
    net = Remembering().eval()
    net(probe().images)
    net.again = net.kept["bias"]
    copy = replica(net)
    assert copy.again is copy.kept["bias"] is not net.again and not copy.again.requires_grad


@pytest.mark.parametrize("kind", ["old weight norm", "weight norm", "old spectral norm"])
def test_random_weights_are_random_under_weight_norm(kind):
    """Resetting a layer's `weight` does nothing where it is computed from others at every pass."""
    net, images = make(kind), probe().images
    other = next(cascade(net, images, stages=1))
    for name in ("body.0.0", "body.1.0"):
        before, after = (each.get_submodule(name).weight for each in (net, other) if each(images) is not None)
        assert not torch.allclose(before, after, atol=1e-3)


def test_half_precision_runs_in_float32_where_it_can():
    net, image = make("bfloat16"), probe().images[:1]
    copy, said = precise(net, image)
    assert (
        copy is not net and copy(image).dtype == torch.float32 and said == " (network in bfloat16, effects in float32)"
    )
    assert net(image).dtype == torch.bfloat16 and precise(make("batch norm"), image)[1] == ""

    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, dtype=torch.bfloat16)

        def forward(self, images):
            return self.conv(images.bfloat16()).mean(dim=(2, 3))

    stubborn = Stubborn()
    same, said = precise(stubborn, image)
    assert same is stubborn and said.startswith(
        " (effects in the network's bfloat16, coarse: it does not run in float32"
    )
