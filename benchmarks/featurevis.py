"""What a step of `render` costs against bare passes through the network, and against Lucent where it is installed.

    python benchmarks/featurevis.py            # --quick, under a minute on 2 cores
    pip install --target PEER ipython tqdm future  # the peer, outside of this environment, for PYTHONPATH=PEER
    pip install --target PEER --no-deps torch-lucent==0.1.8 kornia==0.4.1 decorator

CPU seconds, because other processes share the machine. ResNet-18 with random weights, six channels of `layer3`,
canvases of 128 pixels, the standard transforms. The floor is forward and backward to the layer with frozen weights on
a tensor of the same size. The peer, which enlarges its canvas to 224 pixels, is timed until its last step, we until our
pictures, enlarged in the same way, have its objective value; the ratio is that of the quickest feed that got there.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from math import inf

import torch
from torch import Tensor, nn

from interp.featurevis import Fft, evaluate, render
from interp.featurevis.gradients import frozen
from interp.featurevis.objectives import channel
from interp.featurevis.transforms import NONE, STANDARD, Transforms
from interp.layers import Normalized, find_layer, forward_to

LAYER, CHANNELS, SIDE, PEER_FEED = "layer3", [3, 30, 77, 100, 150, 200], 128, 224
SHAPE = (len(CHANNELS), 3, SIDE, SIDE)


def network() -> nn.Module:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return Normalized(resnet18(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).eval()


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


def value(net: nn.Module, images: Tensor) -> float:
    """The objective of pictures as the peer feeds them."""
    fed = torch.nn.functional.interpolate(images, (PEER_FEED, PEER_FEED), mode="bilinear", align_corners=True)
    return float(evaluate(net, fed, channel(LAYER, CHANNELS)).mean())


def peer(net: nn.Module, steps: int) -> tuple[float, float]:
    """CPU seconds of Lucent's `render_vis` and the objective value of its pictures."""
    from lucent.optvis import objectives, param
    from lucent.optvis.render import render_vis

    name = f"body_{LAYER}"
    parts = [objectives.channel(name, number, batch=index) for index, number in enumerate(CHANNELS)]
    options = {"preprocess": False, "progress": False, "show_image": False, "thresholds": (steps,)}
    pictures: list = []
    torch.manual_seed(0)
    draw = lambda: param.image(SIDE, batch=len(CHANNELS))  # noqa: E731
    seconds = cpu_seconds(
        lambda: pictures.extend(render_vis(net, objectives.Objective.sum(parts), draw, **options)),
    )
    return seconds, value(net, torch.from_numpy(pictures[-1]).permute(0, 3, 1, 2))


def until(net: nn.Module, target: float, most: int, feed: int) -> tuple[float, int, float]:
    """CPU seconds and steps until the pictures have the value `target`, and that value; infinite if they never do."""
    marks = {0: time.process_time()}
    found = render(
        *(net, Fft.noise(SHAPE), channel(LAYER, CHANNELS)), steps=most, transforms=replace(STANDARD, feed=(feed, feed)),
        thresholds=range(1, most + 1), progress=lambda step: marks.setdefault(step, time.process_time()),
    )  # fmt: skip
    values = [value(net, frame) for frame in found.film]
    reached = next((step for step, number in enumerate(values, 1) if number >= target), None)
    return (marks[reached] - marks[0], reached, values[reached - 1]) if reached else (inf, most, values[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action=argparse.BooleanOptionalAction, default=True)
    quick = parser.parse_args().quick
    rounds, steps = (2, 16) if quick else (6, 64)
    net = network()
    floor, costs = inf, {"none": inf, "standard": inf}
    for _ in range(rounds):  # in turn, so that other processes disturb all alike
        with frozen(net):
            floor = min(floor, *(cpu_seconds(lambda: floor_step(net)) for _ in range(3)))
        for name, transforms in (("none", NONE), ("standard", STANDARD)):
            costs[name] = min(costs[name], *our_steps(net, 4, transforms))
    print(f"floor, bare passes           {floor * 1000:8.0f} ms a step")
    for name, cost in costs.items():
        print(f"render, transforms {name:9} {cost * 1000:8.0f} ms a step  {cost / floor:5.2f} x floor")
    record = {"ratio_to_peer": None, "ratio_to_floor": round(costs["standard"] / floor, 3)}
    print(json.dumps(record | (against_peer(net, steps) if find_spec("lucent") else {"reason": "no module lucent"})))


def against_peer(net: nn.Module, steps: int) -> dict[str, float | None]:
    seconds, target = peer(net, steps)
    net.zero_grad()
    print(f"Lucent, {steps} steps                    {seconds:8.2f} s  objective {target:.4f}")
    quickest = inf
    for feed in (SIDE, 160, 192):
        ours, reached, number = until(net, target, steps * 3 // 2, feed)
        print(f"render fed {feed} pixels, {reached} steps   {ours:8.2f} s  objective {number:.4f}")
        quickest = min(quickest, ours)
    return {"ratio_to_peer": round(seconds / quickest, 2) if quickest < inf else None, "peer_steps": steps}


if __name__ == "__main__":
    main()
