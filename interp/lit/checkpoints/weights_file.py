"""Weights of anybody's file, read without pickle into a network, and what is said of those that do not fit."""

import argparse
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import UserError
from interp.lit.checkpoints.checkpoint import read_content
from interp.lit.checkpoints.find import others
from interp.lit.checkpoints.foreign_weights import Fit, best_fit, dictionaries
from interp.network.layers import Normalized

PLAIN_CLASSES: list[Any] = [
    argparse.Namespace
]  # holds attributes and runs nothing; torchvision's and timm's scripts save one
log = logging.getLogger(__name__)


def read_weights(path: Path) -> dict[str, Any]:
    """What a file of weights holds, on the CPU; no pickle code is ever run.

    Raises UserError where the file is missing, damaged, holds more than tensors and plain values, or no dictionary.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    with torch.serialization.safe_globals(PLAIN_CLASSES):
        content = read_content(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, no dictionary of weights: save net.state_dict()")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"no weights {path}{others(path.parent)}")
    try:
        return {str(name): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot read the weights {path}: {' '.join(str(error).split())}") from error


def load_foreign(net: nn.Module, classes: int, content: dict[str, Any], path: Path, head: str | None) -> None:
    """Give `net` the weights in `content`, of the file at `path`, whoever has saved it; log in one line what fits.

    With `head` "new" its last layer stays as it was built. Raises UserError where anything else is missing, of another
    shape, or of a layer that the network has not; `net` is then as before.
    """
    last = _last_layer(net)
    state = {name: t for name, t in net.state_dict().items() if head is None or not _in(name, last)}
    if (fit := best_fit(state, content)) is None:
        raise UserError(f"{path} holds no tensors by name, but {_some(map(str, content))}: save net.state_dict()")
    if not fit.whole:
        raise UserError(f"weights={path}: {_misfit(fit, state, content, last, classes)}")
    net.load_state_dict(fit.matched, strict=False)
    log.info("%s", _told(fit, net, path, last if head else ""))


def _last_layer(net: nn.Module) -> str:
    """The name of the layer that gives the logits: the last linear one or convolution."""
    names = [name for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return names[-1] if names else ""


def _in(name: str, layer: str) -> bool:
    return bool(layer) and name.startswith(f"{layer}.")


def _told(fit: Fit, net: nn.Module, path: Path, new: str) -> str:
    total = len(fit.matched)
    pieces = [f"weights={path}: {total} tensors fit" + (f" (under {fit.place})" if fit.place else "")]
    pieces += [f"the last layer {_short(new)} is new, and random until it is trained"] if new else []
    pieces += [f"{len(fit.left_over)} left over ({_some(fit.left_over)})"] if fit.left_over else []
    pieces += [f"{_some(fit.alike)} would fit as well"] if fit.alike else []
    if isinstance(net, Normalized):
        mean, std = ([round(float(v), 3) for v in values.flatten()] for values in (net.mean, net.std))
        pieces.append(f"images are normalised with mean {mean} and std {std}: they should be those of these weights")
    return "; ".join(pieces)


def _misfit(fit: Fit, state: Mapping[str, Tensor], content: Any, last: str, classes: int) -> str:
    """Why the weights do not fit, and what to do."""
    if not fit.matched:
        first = max(dictionaries(content).values(), key=len)
        return (
            f"none of its {len(first)} tensors fits the network. It has {_shapes(first)}; the network has "
            f"{_shapes({_short(name): t for name, t in state.items()})}. {_ADVICE}"
        )
    at_fault = [*fit.wrong, *fit.missing]
    if at_fault and all(_in(name, last) for name in at_fault) and not fit.blocks_left:
        had = next((shape[0] for shape, _ in fit.wrong.values() if len(shape)), None)
        size = f"answers for {had} classes" if had else "is missing in the file"
        return (
            f"its last layer {_short(last)} {size}, the data has {classes}: weights_head=new reads all other weights "
            "and keeps a new, random last layer; or give the data with its classes"
        )
    return f"{'; '.join(_differences(fit, len(state)))}. {_ADVICE}"


_ADVICE = (
    "Give the model that they were saved from, such as model=torchvision model.name=NAME or 'model={_target_: my.Net}'"
)


def _differences(fit: Fit, total: int) -> Iterable[str]:
    yield f"they are of another network: {len(fit.matched)} of the network's {total} tensors fit"
    if fit.wrong:
        name, (theirs, ours) = next(iter(fit.wrong.items()))
        yield f"of another shape: {len(fit.wrong)} ({_short(name)} {_size(theirs)}, in the network {_size(ours)})"
    if fit.missing:
        yield f"missing: {len(fit.missing)} ({_some(map(_short, fit.missing))})"
    if fit.blocks_left:
        yield f"without a place in it: {len(fit.blocks_left)} ({_some(fit.blocks_left)})"


def _short(name: str) -> str:
    return name.removeprefix("body.")


def _size(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return _some(f"{name} ({_size(tensor.shape)})" for name, tensor in tensors.items())


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
