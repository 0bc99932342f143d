"""What network dissection costs: against decoding and a bare forward pass, and against a loop over images and units.

`python benchmarks/dissection.py` takes under a minute on 2 cores (`--full`: four times the images, and the peak memory
of a stream of 1,000 and of 10,000 images). The network is torchvision's resnet18 with random weights, its `layer4` has
512 units; 100 concepts; images of 224 x 224 with label maps of 112 x 112, written to a temporary folder in the Broden
format. One thread, best of the repeats. The peer's analysis is NetDissect-Lite's: all activations in memory, for each
image and unit one resize, one comparison, one bincount; thresholds by NumPy's percentile. The ratio to the peer leaves
out the decoding of the label maps, which costs both the same; the ratio to the floor leaves nothing out.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from broden_folder import write_broden

from interp.dissection import Broden, Concepts, dissect
from interp.dissection.concepts.data import TensorConcepts
from interp.network.layers import capture

UNITS, CONCEPTS, LAYER, BATCH = 512, 100, "layer4", 16


class Recorded(nn.Module):
    """Puts out the activations of the images in turn, so that only the analysis costs."""

    def __init__(self, activations: Tensor) -> None:
        super().__init__()
        self.activations, self.place = activations, 0
        setattr(self, LAYER, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        self.place += len(images)
        return getattr(self, LAYER)(self.activations[self.place - len(images) : self.place])


class LabelsOnly:
    """The labels of concept data, decoded beforehand or not, with pictures that cost nothing."""

    def __init__(self, data: Broden, decoded: bool) -> None:
        self.concepts, self.length, self.blank = data.concepts, len(data), torch.zeros(1, 1, 1)
        kept = [data.labels(index) for index in range(len(data))] if decoded else []
        self.labels = kept.__getitem__ if decoded else data.labels

    def __len__(self) -> int:
        return self.length

    def image(self, index: int) -> Tensor:
        return self.blank


def loop(activations: np.ndarray, data: LabelsOnly) -> np.ndarray:
    """The IoU table (U, L) in the manner of NetDissect-Lite, with our thresholds' convention and category rule."""
    features = activations.astype(np.float64)  # it keeps them so
    thresholds = np.percentile(features, 99.5, axis=(0, 2, 3), method="higher")
    both = np.zeros((len(thresholds), CONCEPTS + 1))
    area, support = np.zeros((len(thresholds), len(data.concepts.categories))), np.zeros(CONCEPTS + 1)
    for index in range(len(data)):
        labels = data.labels(index)
        maps, labelled = labels.maps.numpy() + 1, labels.labelled.numpy()
        support += np.bincount(maps.ravel(), minlength=CONCEPTS + 1)
        for unit, threshold in enumerate(thresholds):
            feature = features[index, unit]
            if feature.max() > threshold:
                picture = Image.fromarray(feature.astype(np.float32))
                mask = np.array(picture.resize(maps.shape[:0:-1], Image.Resampling.BILINEAR))
                places = np.argwhere(mask > threshold)
                area[unit] += len(places) * labelled
                both[unit] += np.bincount(maps[:, places[:, 0], places[:, 1]].ravel(), minlength=CONCEPTS + 1)
    both, support = both[:, 1:], support[1:]
    return both / np.maximum(area[:, list(data.concepts.category)] + support - both, 1)


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Seconds of processor time of the quickest run: of one thread, so that neighbours on the machine count less."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@torch.no_grad()
def measure(images: int, repeats: int) -> dict[str, float]:
    """Milliseconds an image of each part."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18().eval()
    with TemporaryDirectory() as folder:
        data = write_broden(Path(folder), images, CONCEPTS)
        batches = torch.arange(images).split(BATCH)
        recorded = torch.cat([capture(net, torch.stack([data.image(i) for i in b]), [LAYER])[LAYER] for b in batches])
        files, ready = LabelsOnly(data, decoded=False), LabelsOnly(data, decoded=True)
        difference = np.abs(analyse(recorded, ready) - loop(recorded.numpy(), ready)).max()
        assert difference < 1e-3, f"both must count the same but for float32 rounding, not {difference}"
        parts: dict[str, Callable[[], object]] = {
            "floor: decoding the images and a bare forward": lambda: floor(net, data),
            "dissection": lambda: dissect(net, data, [LAYER], batch_size=BATCH),
            "its analysis alone, labels decoded beforehand": lambda: analyse(recorded, ready),
            "the peer's analysis, labels decoded beforehand": lambda: loop(recorded.numpy(), ready),
            "its analysis, with the labels' decoding": lambda: analyse(recorded, files),
            "the peer's analysis, with the labels' decoding": lambda: loop(recorded.numpy(), files),
        }
        return {name: 1000 * best_of(repeats, work) / images for name, work in parts.items()}


def floor(net: nn.Module, data: Broden) -> None:
    """What any study of these images costs."""
    for start in range(0, len(data), BATCH):
        net(torch.stack([data.image(i) for i in range(start, min(start + BATCH, len(data)))]))


def analyse(activations: Tensor, labels: LabelsOnly) -> np.ndarray:
    """The IoU table (U, L) by `dissect`, from activations at hand."""
    return dissect(Recorded(activations), labels, [LAYER], batch_size=BATCH)[LAYER].iou.numpy()


def peak_memory(images: int) -> float:
    """Peak MiB of a process that dissects `images` images of noise, 64 units."""
    command = [sys.executable, __file__, "--stream", str(images)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


class Noise(TensorConcepts):
    """As many images as wanted, each made when asked for."""

    def __len__(self) -> int:
        return int(self.images)

    def image(self, index: int) -> Tensor:
        return torch.rand(64, 14, 14, generator=torch.Generator().manual_seed(index))

    def labels(self, index: int):
        return super().labels(0)


def stream(images: int) -> None:
    """Dissect noise and print this process's peak memory in MiB."""
    maps = torch.arange(56 * 56).view(1, 1, 56, 56) % 20
    concepts = Concepts(tuple(map(str, range(20))), ("noise",), (0,) * 20)
    data = Noise(torch.tensor(images), maps, torch.ones(1, 1, dtype=torch.bool), concepts)
    dissect(nn.Sequential(nn.Identity()), data, ["0"])
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the default")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.stream:
        return stream(given.stream)
    images, repeats = (192, 5) if given.full else (48, 3)
    cost = measure(images, repeats)
    print(f"{UNITS} units, {CONCEPTS} concepts, {images} images, one thread, best of {repeats}")
    for name, value in cost.items():
        print(f"{value:10.2f} ms an image  {name}")
    floor, ours, alone, peer, alone_decoding, peer_decoding = cost.values()
    result = {"ratio_to_peer": peer / alone, "ratio_to_floor": ours / floor}
    result |= {"ratio_to_peer_with_decoding": peer_decoding / alone_decoding, "ms_an_image": alone}
    if given.full:
        for count in (1000, 10_000):
            result[f"peak_mib_{count}"] = peak_memory(count)
            print(f"{result[f'peak_mib_{count}']:10.0f} MiB at its peak with {count:,} images of noise")
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))
    return None


if __name__ == "__main__":
    main()
