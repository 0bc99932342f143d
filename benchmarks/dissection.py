"""What network dissection costs: against decoding and a bare forward pass, and against a loop over images and units.

`python benchmarks/dissection.py` takes under a minute on 2 cores (`--full`: four times the images, and the peak memory
of a stream of 1,000 and of 10,000 images). The network is torchvision's resnet18 with random weights, its `layer4` has
512 units; 100 concepts; images of 224 x 224 with label maps of 112 x 112, written to a temporary folder in the Broden
format. One thread, best of the repeats. The peer's analysis is NetDissect-Lite's: all activations in memory, for each
image and unit one resize, one comparison, one bincount; thresholds by NumPy's percentile. Both decode the label maps.
"""

import argparse
import json
import resource
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
from interp.dissection import Broden, Concepts, dissect
from interp.dissection.concepts import TensorConcepts

UNITS, CONCEPTS, LAYER = 512, 100, "layer4"
Table = dict[str, list[tuple[int, str, float]]]


def write_broden(root: Path, images: int) -> Broden:
    """Shapes with their five categories, and patches of one of 81 further labels."""
    from interp.lit.data.shapes import CONCEPT_NAMES, generate

    made = generate(images, 0, size=224)
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    rows, first = [], 1
    numbered: dict[str, np.ndarray] = {}
    table: Table = {}
    for category, names in CONCEPT_NAMES.items():
        maps = made.concepts[category][:, 1::2, 1::2].numpy().astype(int)
        numbered[category] = np.where(maps > 0, maps + first - 1, 0)
        table[category] = [(first + place, name, 1.0) for place, name in enumerate(names[1:])]
        first += len(names) - 1
    numbered["patch"] = rng.integers(first, CONCEPTS + 1, (images, 4, 4)).repeat(28, 1).repeat(28, 2)
    table["patch"] = [(number, f"patch {number}", 1.0) for number in range(first, CONCEPTS + 1)]
    for place, image in enumerate(made.images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / "images" / f"{place}.jpg", quality=92)
        files = [_write_map(root / "images", f"{place}_{name}.png", maps[place]) for name, maps in numbered.items()]
        rows.append(f"{place}.jpg,val,224,224,112,112,{','.join(files)}")
    (root / "index.csv").write_text(f"image,split,ih,iw,sh,sw,{','.join(table)}\n" + "\n".join(rows) + "\n")
    _write_tables(root, table)
    return Broden(root)


def _write_map(folder: Path, name: str, numbers: np.ndarray) -> str:
    Image.fromarray(np.stack([numbers % 256, numbers // 256, 0 * numbers], 2).astype(np.uint8)).save(folder / name)
    return name


def _write_tables(root: Path, table: Table) -> None:
    (root / "category.csv").write_text("name\n" + "\n".join(table) + "\n")
    lines = [f"{number},{name}" for labels in table.values() for number, name, _ in labels]
    (root / "label.csv").write_text("number,name\n" + "\n".join(lines) + "\n")
    for category, labels in table.items():
        lines = [f"{number},{coverage}" for number, _, coverage in labels]
        (root / f"c_{category}.csv").write_text("number,coverage\n" + "\n".join(lines) + "\n")


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
    """The labels of concept data, with pictures that cost nothing."""

    def __init__(self, data: Broden) -> None:
        self.labels, self.concepts, self.length = data.labels, data.concepts, len(data)
        self.blank = torch.zeros(1, 1, 1)

    def __len__(self) -> int:
        return self.length

    def image(self, index: int) -> Tensor:
        return self.blank


def loop(activations: np.ndarray, data: Broden) -> np.ndarray:
    """The IoU table (U, L) in the manner of NetDissect-Lite, with our thresholds' convention and category rule."""
    features = activations.astype(np.float64)  # it keeps them so
    thresholds = np.percentile(features, 99.5, axis=(0, 2, 3), method="higher")
    both = np.zeros((len(thresholds), CONCEPTS + 1))
    area, support = np.zeros((len(thresholds), len(data.categories))), np.zeros(CONCEPTS + 1)
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
    """Seconds of the quickest run."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


@torch.no_grad()
def measure(images: int, repeats: int) -> dict[str, float]:
    """Milliseconds an image of each part."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18().eval()
    with TemporaryDirectory() as folder:
        data = write_broden(Path(folder), images)
        assert len(data.concepts) == CONCEPTS
        batches = [range(start, min(start + 16, images)) for start in range(0, images, 16)]

        def floor() -> Tensor:
            return torch.cat([net(torch.stack([data.image(i) for i in batch])) for batch in batches])

        kept: list[Tensor] = []
        hook = net.layer4.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        floor()
        hook.remove()
        recorded, only = torch.cat(kept), LabelsOnly(data)
        array = recorded.numpy()
        seconds = {
            "floor: decode and bare forward": best_of(repeats, floor),
            "dissection": best_of(repeats, lambda: dissect(net, data, [LAYER], batch_size=16)),
            "its analysis alone": best_of(repeats, lambda: dissect(Recorded(recorded), only, [LAYER], batch_size=16)),
            "the peer's analysis": best_of(repeats, lambda: loop(array, data)),
        }
        ours = dissect(Recorded(recorded), only, [LAYER], batch_size=16)[LAYER].iou.numpy()
        assert np.abs(ours - loop(array, data)).max() < 1e-3, "both must count the same but for float32 rounding"
    return {name: 1000 * value / images for name, value in seconds.items()}


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
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the default")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.stream:
        return stream(given.stream)
    images, repeats = (256, 5) if given.full else (64, 3)
    cost = measure(images, repeats)
    print(f"{UNITS} units, {CONCEPTS} concepts, {images} images, one thread, best of {repeats}")
    for name, value in cost.items():
        print(f"{value:10.2f} ms an image  {name}")
    floor, ours, alone, peer = cost.values()
    result = {"ratio_to_peer": peer / alone, "ratio_to_floor": ours / floor, "ms_an_image": alone}
    if given.full:
        for count in (1000, 10_000):
            result[f"peak_mib_{count}"] = peak_memory(count)
            print(f"{result[f'peak_mib_{count}']:10.0f} MiB at its peak with {count:,} images of noise")
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))
    return None


if __name__ == "__main__":
    main()
