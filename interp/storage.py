"""Fields of a result on disk. Tensors in fewer bytes, to the last bit: whole numbers, tables of mostly zeros, images of
8 bits; what else there is as JSON that gives it back as it was.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SPARSE_ENTRIES = (
    2**24
)  # entries of what is kept sparse: a file that lies about its shape takes no more memory than that
PLACES = ".places"  # what the name of the places of a sparse tensor's entries ends with


def pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name as they are stored, and the form of those that are not stored as they are.

    int64 as the smallest whole numbers that hold them ("whole") and, where seven of eight are 0, only the others with
    their places (the shape); float32 that are all whole 255ths, as images of 8 bits are, as bytes ("255ths").
    """
    stored, forms = dict[str, Tensor](), dict[str, Any]()
    for name, tensor in tensors.items():
        stored[name] = tensor
        if tensor.dtype == torch.int64:
            flat = tensor.flatten()
            places = flat.nonzero()[:, 0]
            if 8 * len(places) < len(flat) <= SPARSE_ENTRIES:
                stored |= {name: _narrow(flat[places]), name + PLACES: _narrow(places)}
                forms[name] = list(tensor.shape)
            else:
                stored[name], forms[name] = _narrow(tensor), "whole"
        elif tensor.dtype == torch.float32 and (steps := _in_255ths(tensor)) is not None:
            stored[name], forms[name] = steps, "255ths"
    return stored, forms


def unpack(stored: Mapping[str, Tensor], forms: Mapping[str, Any]) -> dict[str, Tensor]:
    """What `pack` was given. Raises ValueError, KeyError, TypeError or RuntimeError where the forms do not fit."""
    tensors = dict(stored)
    for name, form in forms.items():
        if form in ("whole", "255ths"):
            tensors[name] = tensors[name].long() if form == "whole" else tensors[name].float() / 255
        else:
            tensors[name] = _dense(tensors[name].long(), tensors.pop(name + PLACES).long(), form)
    return tensors


def _narrow(whole: Tensor) -> Tensor:
    """int64 as the smallest type that holds all of them."""
    low, high = (int(whole.min()), int(whole.max())) if whole.numel() else (0, 0)
    for kind in (torch.uint8, torch.int16, torch.int32):
        if torch.iinfo(kind).min <= low and high <= torch.iinfo(kind).max:
            return whole.to(kind)
    return whole


def _in_255ths(values: Tensor) -> Tensor | None:
    """Bytes that give back the same bits as float32 over 255, None where there are none."""
    first = values.flatten()[:256]
    if not torch.equal((first * 255).round() / 255, first):  # most are no images: look no further
        return None
    steps = (values * 255).round().clamp(0, 255).to(torch.uint8)
    return steps if torch.equal((steps.float() / 255).view(torch.int32), values.view(torch.int32)) else None


def _dense(entries: Tensor, places: Tensor, shape: list[int]) -> Tensor:
    if (count := math.prod(shape)) > SPARSE_ENTRIES:
        raise ValueError(f"a sparse tensor of shape {shape} has more than {SPARSE_ENTRIES:,} entries")
    return entries.new_zeros(count).scatter(0, places, entries).view(shape)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors that a file of `Result.save` holds, as they were before they were packed."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        return unpack(stored, json.loads((file.metadata() or {}).get("stored", "{}")))


def digest(tensors: Path, others: dict[str, Any]) -> str:
    """The SHA-256 of the file of the tensors and of the other fields as JSON."""
    with tensors.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256")
    sha256.update(json.dumps(others).encode())
    return sha256.hexdigest()


def packed(value: Any) -> Any:
    """What JSON gives back as it is: a tuple as {"tuple": [...]}, a dictionary with other keys than texts as pairs."""
    if isinstance(value, list | tuple):
        items = [packed(item) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if not isinstance(value, dict):
        return value
    if all(isinstance(key, str) for key in value) and [*value] not in (["tuple"], ["pairs"]):
        return {key: packed(item) for key, item in value.items()}
    return {"pairs": [[packed(key), packed(item)] for key, item in value.items()]}


def unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if [*value] == ["tuple"]:
        return tuple(unpacked(item) for item in value["tuple"])
    if [*value] == ["pairs"]:
        return {unpacked(key): unpacked(item) for key, item in value["pairs"]}
    return {key: unpacked(item) for key, item in value.items()}
