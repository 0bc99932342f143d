"""What a checkpoint may hold where it is read, and of which type: anybody may have written it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import UserError

# [kind]: a list of it; {str: kind}: a dictionary with any names; {"name": kind}: one with at least these entries.
KINDS: dict[str, Any] = {
    "state_dict": {str: Tensor},
    "epoch": int,
    "global_step": int,
    "class_names": [str],
    "epoch_scalars": {"step": int, "scalars": {str: float}},
    "optimizer_states": [{"state": dict, "param_groups": [dict]}],
    "lr_schedulers": [dict],
    "callbacks": {str: dict},
    "plan": {"optimizer": str, "settings": dict, "scheduler": str, "scheduler_settings": dict},
    "loops": {str: dict},
    "pytorch-lightning_version": str,
    "hyper_parameters": dict,
}
WORDS = {str: "a text", int: "a whole number from 0", float: "a number", dict: "a dictionary", Tensor: "a dense tensor"}


def check_content(checkpoint: Any, path: Path) -> None:
    """Raise UserError that names the entry where what was read from `path` is no checkpoint of a training."""
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(
            f"{path} is not a checkpoint of a training: it has no 'state_dict'; weights={path} reads weights of other "
            "forms"
        )
    kinds = {name: kind for name, kind in KINDS.items() if name in checkpoint}
    if fault := next(_faults(checkpoint, kinds), None):
        raise UserError(f"the checkpoint {path} cannot be used: {fault}")
    storages = [tensor.untyped_storage() for tensor in checkpoint["state_dict"].values()]
    if sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()) > path.stat().st_size:
        raise UserError(f"the checkpoint {path} cannot be used: its weights claim more bytes than the file has")


def _faults(value: Any, kind: Any, place: str = "") -> Iterator[str]:
    """Where a value and what is in it are not of their kind."""
    if isinstance(kind, list):
        if not isinstance(value, list | tuple):
            yield _not(value, place, "a list")
            return
        for number, item in enumerate(value):
            yield from _faults(item, kind[0], f"{place}[{number}]")
    elif isinstance(kind, dict):
        yield from _faults(value, dict, place)
        entries = value.items() if isinstance(value, dict) else ()
        for name, item in [(key, entry) for key, entry in entries if str in kind or key in kind]:
            yield from _faults(name, str, f"a name in {place}")
            yield from _faults(item, kind[str] if str in kind else kind[name], f"{place}.{name}".lstrip("."))
        if missing := [name for name in kind if name is not str and isinstance(value, dict) and name not in value]:
            yield f"{place} has no {missing[0]!r}"
    elif not _is(value, kind):
        yield _not(value, place, WORDS[kind])


def _is(value: Any, kind: type) -> bool:
    if kind is int:
        return type(value) is int and 0 <= value < 2**53
    if kind is float:
        return type(value) in (int, float)
    if kind is Tensor and isinstance(value, Tensor):
        return (
            value.layout is torch.strided and value.device.type == "cpu" and not (value.is_quantized or value.is_nested)
        )
    return isinstance(value, kind)


def _not(value: Any, place: str, words: str) -> str:
    plain = value is None or isinstance(value, str | int | float)
    return f"{place} is {f'{value!r:.60}' if plain else f'a {type(value).__name__}'}, not {words}"
