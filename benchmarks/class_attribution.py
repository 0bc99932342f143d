"""Attributions of 1,000 classes at once against a loop of backward passes: python benchmarks/class_attribution.py

ResNet-18 at layer3 (14 x 14), one image, one thread, CPU seconds. The peer runs one backward pass a class through the
tail alone, which is already 4 times faster than Lucid's way. The floor is what forward-mode products over all
positions must cost: the tail's forward pass on as many inputs as there are positions.
"""

import argparse

import torch
from measure import report, seconds
from torch import Tensor, nn
from torchvision.models import resnet18

from interp.attribution import Tail, all_classes, group_effects
from interp.network.layers import choose_layer


@torch.enable_grad()
def loop(tail: Tail, classes: int) -> Tensor:
    """Spatial attributions (classes, B, h, w) of the first `classes`, one backward pass each."""
    leaf = tail.activations.detach().clone().requires_grad_()
    logits = tail(leaf)
    found = [torch.autograd.grad(logits[:, j].sum(), leaf, retain_graph=True)[0] for j in range(classes)]
    return torch.stack([(gradient * leaf).sum(dim=1).detach() for gradient in found])


@torch.no_grad()
def bare(net: nn.Module, activations: Tensor) -> Tensor:
    return net.fc(net.avgpool(net.layer4(activations)).flatten(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the default: 100 of the peer's 1,000 classes, times 10")
    parser.add_argument("--full", action="store_true", help="all of the peer's backward passes")
    share = 1000 if parser.parse_args().full else 100
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = resnet18().eval().requires_grad_(False)
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        tail = Tail(net, images, choose_layer(net, images, "layer3"))
        mine = all_classes(tail)
        agreement = float((mine[0, :20] - loop(tail, 20)[:, 0]).abs().max() / mine[0, :20].abs().max())
        ours = seconds(lambda: all_classes(tail), repeats=2)
    theirs = seconds(lambda: loop(tail, share), repeats=1) * 1000 / share
    batch = tail.activations.expand(49, -1, -1, -1).contiguous()
    floor = seconds(lambda: bare(net, batch)) * 196 / 49
    spatial, channel = torch.rand(1, 6, 14, 14), torch.rand(6, 256)
    with torch.no_grad():
        groups = seconds(lambda: group_effects(tail, spatial, channel))
    rows = [("loop of backward passes", theirs, theirs / ours), ("ours, all classes", ours, 1.0),
            ("floor: the tail on 196 inputs", floor, floor / ours),
            ("ours, six groups on all classes", groups, groups / ours)]  # fmt: skip
    report("1,000 classes at resnet18 layer3", ("what", "CPU s", "times ours"), rows,
           ratio_to_peer=theirs / ours, ratio_to_floor=ours / floor, largest_relative_difference=agreement)  # fmt: skip


if __name__ == "__main__":
    main()
