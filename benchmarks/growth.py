"""What studies cost as images and classes grow, and what a look leaves on disk: python benchmarks/growth.py

CPU seconds of one thread and peak memory beyond the imported libraries and the data, each in a process of its own:
projection's layout and measures (50 components), similarity of four layers as large as small_cnn's on images of 64
pixels, confusion of 5,000 images. Then the bytes that the first look of every study leaves at 1,000 classes and
64-pixel images (small_cnn with random weights, default settings but for the steps of optimisations, which change no
size). `--full` adds 20,000 images, which take minutes.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import report

WIDTHS = (2048, 4096, 8192, 8192)  # features of small_cnn's blocks on 64-pixel images, averaged to 8 x 8 positions
SIZES = {"projection": [1_000, 5_000], "similarity": [300, 2_000, 5_000], "confusion": [10, 1_000, 3_000, 10_000]}
LARGE = {"projection": [20_000], "similarity": [20_000], "confusion": []}
BRIEF = {
    "saliency": {"steps": 2, "samples": 1, "checks": "none"},
    "nmf": {"restarts": 0, "icon_steps": 2},
    "projection": {"iterations": 250},
    "caricature": {"steps": 2},
    "feature_visualization": {"steps": 2},
    "axis_alignment": {"rotations": 1, "alphas": [1.0]},
}


class Clock:
    """CPU seconds and peak memory of pieces of work."""

    def __init__(self) -> None:
        self.base, self.found = resident("VmRSS"), dict[str, float]()

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        self.found[f"{name}, s"] = time.process_time() - began
        return result

    def result(self, **more: float) -> dict[str, float]:
        return {**self.found, "peak MB": resident("VmHWM") - self.base, **more}


def resident(key: str) -> float:
    """MB of this process; not getrusage, whose peak is inherited from the process that started this one."""
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


def projection(images: int) -> dict[str, float]:
    from interp.projection import measures, movement, project, reduce

    labels, draw = torch.arange(images) % 10, torch.Generator().manual_seed(0)
    vectors = 3 * torch.randn(10, 128, generator=draw)[labels] + torch.randn(images, 128, generator=draw)
    measures(vectors[:50], labels[:50], project(reduce(vectors[:50])[0], iterations=250))  # imports
    clock = Clock()
    components = clock("components", lambda: reduce(vectors)[0])
    layout = clock("layout", lambda: project(components))
    clock("measures", lambda: measures(components, labels, layout))
    clock("movement", lambda: movement(layout, components[:, :2]))
    return clock.result()


def similarity(images: int) -> dict[str, float]:
    from interp import similarity as module

    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(images, 500, generator=draw) * torch.arange(1, 501) ** -0.8  # a spectrum as of real layers
    features = [(hidden @ torch.randn(500, width, generator=draw)).relu_() for width in WIDTHS]
    module._components(torch.rand(1030, 1030))  # imports
    clock = Clock()
    found = clock("look", lambda: (module.of_few if images <= 2 * module.COMPONENTS else module.of_many)(features))
    kept = found.grams.unbind() if len(found.grams) else found.components.split(found.widths, dim=1)
    clock("drift", lambda: [module.cka(part, part) for part in kept])
    size = sum(part.numel() * part.element_size() for part in (found.grams, found.components))
    return clock.result(**{"MB of a look": size / 1e6, "error": found.error})


def confusion(classes: int) -> dict[str, float]:
    from interp.confusion import Predictions
    from interp.probe import Probe
    from plugins.confusion import plugin as module

    draw = torch.Generator().manual_seed(0)
    true, other = torch.randint(classes, (2, 5_000), generator=draw)
    said = torch.where(torch.rand(5_000, generator=draw) < 0.7, true, other)
    found = Predictions(true, said, torch.rand(5_000, generator=draw))
    probe = Probe(torch.rand(5_000, 3, 8, 8), true, tuple(map(str, range(classes))), torch.arange(5_000))
    module.predictions = lambda *_: found  # without the forward pass
    clock = Clock()
    result = clock("look", lambda: module.ConfusionPlugin(name="c").analyze(torch.nn.Identity(), probe))
    clock("scalars", result.scalars)
    clock("pictures, tables", lambda: (result.pictures(), result.tables(), result.widgets()))
    with tempfile.TemporaryDirectory() as folder:
        clock("writing", lambda: result.save(Path(folder)))
        size = (Path(folder) / "result.safetensors").stat().st_size
    return clock.result(**{"MB of a look": size / 1e6})


def of_a_look() -> Iterator[tuple[str, float, float]]:
    """Study, MB of its tensors and MB of all that its first look leaves."""
    from hydra import compose, initialize_config_dir

    from conf.check import CONF
    from interp.lit import build
    from interp.lit.data import ImageData, Splits, TensorImages
    from interp.lit.hydra_versions import BASE
    from interp.lit.models import small_cnn
    from interp.looks import look_folder

    pixels = torch.rand(5_000, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(pixels, size=(64, 64), mode="bicubic").clamp(0, 1)
    part = TensorImages((pixels * 255).byte(), torch.arange(5_000) % 1_000)
    data = ImageData(lambda: Splits(part, part, part, tuple(f"class {j}" for j in range(1_000))))
    torch.manual_seed(0)
    net = small_cnn(data).eval()
    for name in sorted(path.stem for path in (CONF / "plugin").glob("*.yaml")):
        with initialize_config_dir(str(CONF), **BASE):
            plugin = build.plugins(compose("train", [f"+plugin={name}", "output=nowhere"]))[0]
        for key, value in BRIEF.get(name, {}).items():
            setattr(plugin, key, value)
        with tempfile.TemporaryDirectory() as folder:
            plugin.keep(plugin.look(net, data.probe), Path(folder) / name, [], epoch=0, step=0)
            plugin.finish_drawing()
            sizes = {path.name: path.stat().st_size / 1e6 for path in look_folder(Path(folder) / name, 0).iterdir()}
        yield name, sizes["result.safetensors"], sum(sizes.values())


def apart(study: str, size: int) -> dict[str, float]:
    """What a process of its own measures."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", study, str(size)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the default")
    parser.add_argument("--full", action="store_true", help="also 20,000 images")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.one:
        print(json.dumps(globals()[given.one[0]](int(given.one[1]))))
        return
    figures: dict[str, Any] = {}
    for study, sizes in SIZES.items():
        rows = {size: apart(study, size) for size in sizes + LARGE[study] * given.full}
        columns = ("classes" if study == "confusion" else "images", *next(iter(rows.values())))
        report(study, columns, [(size, *found.values()) for size, found in rows.items()])
        figures[study] = rows
    looks = list(of_a_look())
    figures["look"] = {name: total for name, _, total in looks}
    rows = [*looks, ("all", sum(row[1] for row in looks), sum(row[2] for row in looks))]
    report("a look at 1,000 classes", ("study", "MB of tensors", "MB with pictures and widgets"), rows, **figures)


if __name__ == "__main__":
    main()
