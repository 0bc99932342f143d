"""Copies with random weights keep the signal's scale, whatever the network, and leave it as it was."""

import pytest
import torch
from torch import Tensor, nn

from interp.attribution.random_copies import cascade, some, tells_apart
from interp.network.tracing import forward_to
from tests.networks import KINDS, block, head, make, probe


def random_copy(net: nn.Module, images: Tensor, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return next(cascade(net, images, stages=1))


def between_images(values: Tensor) -> float:
    return float(values.float().std(dim=0).mean())


def plain(depth: int) -> nn.Sequential:
    return nn.Sequential(block(3, 8, stride=2), *(block(8, 8) for _ in range(depth)), head())


@torch.no_grad()
def test_the_signal_of_deep_networks_does_not_die_out():
    from torchvision.models import mobilenet_v2

    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for net in (mobilenet_v2(num_classes=10, width_mult=0.25).eval(), plain(20).eval()):
        assert between_images(net(images)) < 1e-4
        copy = random_copy(net, images)
        assert 0.5 < between_images(copy(images)) < 2 and tells_apart(copy(images))


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "vgg11", "googlenet", "vit_b_16", "convnext_tiny"])
def test_random_weights_of_known_networks_are_a_control(name):
    from torchvision.models import get_model

    options = {"googlenet": {"init_weights": False, "aux_logits": False}, "vit_b_16": {"image_size": 96}}
    net = get_model(name, num_classes=10, **options.get(name, {})).eval()
    images = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    copy = random_copy(net, images)
    assert 0.5 < between_images(copy(images)) < 2
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@torch.no_grad()
def test_each_layer_reads_what_those_before_it_now_give():
    net, images = make("batch norm"), probe(8).images
    copy = random_copy(net, images)
    for name in ("0", "1"):
        convolution, norm = copy.body[int(name)][:2]
        read = forward_to(copy, images, {f"{name}.0": convolution})[f"{name}.0"]
        torch.testing.assert_close(norm.running_mean, read.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(norm.running_var, read.var(dim=(0, 2, 3), correction=0))
    logits = copy(images)
    torch.testing.assert_close(logits.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    assert logits.var(dim=0, correction=0).mean() == pytest.approx(1, abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "reentrant" not in kind])
def test_awkward_networks_are_copied_scaled_and_left_alone(kind):
    net, images = make(kind), probe(8).images
    expected, before = net(images), {key: value.clone() for key, value in net.state_dict().items()}
    copies = [random_copy(net, images, seed) for seed in (0, 0, 1)]
    first, again, other = (copy(images) for copy in copies)
    assert torch.equal(first, again) and not torch.equal(first, other) and first.dtype == expected.dtype
    assert tells_apart(first) and (0.2 < between_images(first) < 3 or kind == "old spectral norm")
    changed = {key for key, value in net.state_dict().items() if not torch.equal(before[key], value)}
    assert changed <= {"body.passes"} and torch.equal(net(images), expected)  # it counts its passes


@torch.no_grad()
def test_shared_layers_tied_weights_and_layers_that_do_not_run():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.tied, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 8, 3), head()
            self.tied.weight, self.unused = self.shared[0].weight, nn.Conv2d(3, 3, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.tied(self.shared(self.shared(self.first(images)))))

    copy = random_copy(Net().eval(), probe().images)
    assert copy.tied.weight is copy.shared[0].weight and tells_apart(copy(probe().images))
    shared = forward_to(copy, probe().images, {"shared": copy.shared[0]})["shared"]
    assert shared.var(dim=(0, 2, 3), correction=0).mean() == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_fused_transformers_are_scaled_too():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.Identity(), encoder, nn.Flatten(), nn.Linear(128, 3))
    net[2].forward = lambda maps: maps.mT
    copy = random_copy(net.eval(), probe(8).images)
    assert torch.backends.mha.get_fastpath_enabled()
    seen = []
    copy[3].linear1.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    assert 0.5 < between_images(copy(probe(8).images)) < 2
    assert seen[0].var(dim=(0, 1), correction=0).mean() == pytest.approx(1, abs=1e-3)


def test_what_does_not_tell_images_apart_is_left_as_it_is():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Threshold(1e9, 0.0), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(576, 3))
    copy = random_copy(net.eval(), probe().images)
    with torch.no_grad():
        logits = copy(probe().images)
    assert logits.isfinite().all() and not tells_apart(logits)


def test_one_image_is_enough_and_of_many_some_are_taken_of_all_classes():
    image = probe(1).images
    assert torch.equal(some(image), torch.cat([image, 1 - image]))
    assert torch.equal(some(torch.arange(311))[[0, -1]], torch.tensor([0, 310])) and len(some(torch.arange(311))) == 32
    with torch.no_grad():
        assert random_copy(make("batch norm"), image)(image).isfinite().all()
