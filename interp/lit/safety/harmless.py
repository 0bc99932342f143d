"""What a configuration from elsewhere may call, and with which arguments: what is known to do no harm with them.

One list for all: what the YAML files on the search path name, with the keys that stand there; classes of torch.nn
and torch.optim, transforms and small data sets of torchvision. To these go plain numbers, true, false and null, and
texts that are neither a path, an address nor code. Anything else is the user's to allow.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

LOOKUPS = tuple(f"hydra.utils.get_{kind}" for kind in ("class", "method", "object", "static_method"))
KINDS = (
    "torch.nn.",
    "torch.optim.",
    "torchvision.transforms.",
    "torchvision.datasets.",
)  # whose classes may be named, see `is_library`
DATA, MODELS, MOST = "interp.lit.data.ImageData", "interp.lit.models.", 64  # entries of a list of settings
LIMITS = {"num_workers": 64, "seed": 2**63, "": 2**20}  # of numbers, by the end of their name
WORD = re.compile(r"[A-Za-z0-9_-][\w.-]{0,99}", re.ASCII)  # a name of a library's own, such as vit_tiny.augreg
WORDS = {
    f"{MODELS}torchvision": ("name", "weights"),
    f"{MODELS}timm": ("name", "global_pool", "act_layer", "norm_layer"),
}
OPTIONS = (f"{MODELS}timm", "lightning.Trainer")  # take any option of the model itself, or of the training
# Whose texts name layers, classes, scalars and choices; never files, but for those of LOCAL in
# `interp.lit.checkpoints.inherited`.
NAMERS = ("plugins.", "lightning.", "interp.lit.checkpoints.checkpoint.", "interp.lit.console.")
HYDRAS = {"_partial_": (True, False), "_recursive_": (True, False), "_convert_": ("none", "partial", "object", "all")}
# What classes of torch.nn, torch.optim and transforms take as texts.
CHOICES = """accurate area auto bgr bicubic bilinear box cifar10 circular compact constant cos default edge gelu
    hamming hard hsv imagenet l lanczos linear max mean min nearest nearest-exact nearest_exact none reflect
    relu replicate rgb rgba same soft sum svhn symmetric tanh trilinear valid zeros""".split()  # noqa: SIM905
Examples = Mapping[str, list[dict[str, Any]]]


def target(node: Mapping[str, Any]) -> Any:
    """What a node with `_target_` builds, or looks up."""
    return node.get("path") if node["_target_"] in LOOKUPS else node["_target_"]


def examples(group: str, more: Any = None) -> Examples:
    """The nodes with a `_target_` in the YAML files of a configuration group, by what they build; and those in `more`.

    In all folders of Hydra's search path; with what a file takes over by `/file@_here_`.
    """
    from hydra.core.hydra_config import HydraConfig

    sources = [(source.schema, source.path) for source in HydraConfig.get().runtime.config_sources]
    roots = [resources.files(place) if kind == "pkg" else Path(place) for kind, place in sources if place]
    known: dict[str, list[dict[str, Any]]] = {}
    for node in _nodes(more):
        known.setdefault(str(target(node)), []).append(node)
    for root in [root for root in roots if (root / group).is_dir()]:
        for file in [file for file in (root / group).iterdir() if file.name.endswith(".yaml")]:
            entries = _yaml(file)
            shared = [
                str(entry)[1:-7] for entry in entries.get("defaults") or () if re.fullmatch("/.*@_here_", str(entry))
            ]
            whole = {k: v for name in shared for k, v in _yaml(root / f"{name}.yaml").items()} | entries
            for node in _nodes(whole):
                known.setdefault(str(target(node)), []).append(node)
    return known


def _yaml(file: Any) -> dict[str, Any]:
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    return node if isinstance(node, dict) else {}


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary with a `_target_` in nested dictionaries and lists."""
    if isinstance(value, dict) and "_target_" in value:
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nodes(inner)


def is_library(name: Any) -> bool:
    """Whether it is a class of torch.nn or torch.optim that only computes, a transform or a data set without pickle."""
    if not str(name).startswith(KINDS):
        return False
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    callee = resolved(name)
    if not isinstance(callee, type):
        return False
    computes = issubclass(callee, nn.Module) and callee.__module__.startswith("torch.nn.modules.")
    computes |= issubclass(callee, Optimizer | LRScheduler) and callee.__module__.startswith("torch.optim.")
    return computes or callee.__module__.startswith("torchvision.transforms.") or is_dataset(callee)


def is_dataset(found: Any) -> bool:
    """Whether it is one of torchvision's data sets like MNIST and CIFAR10, which are read without pickle or checked."""
    from torchvision.datasets import CIFAR10, MNIST

    theirs = isinstance(found, type) and found.__module__.startswith("torchvision.datasets.")
    return theirs and issubclass(found, CIFAR10 | MNIST)


def resolved(name: str) -> Any:
    """What has this full name, None where there is nothing."""
    from hydra.utils import get_object

    try:
        return get_object(name)
    except Exception:  # whatever the import of it raises: there is nothing to allow
        return None


def takes(node: dict[str, Any], key: str, known: Examples) -> bool:
    """Whether the value at `key` of a node, whose name is allowed, is a setting that is known to be harmless.

    What is nested in it and has a `_target_` of its own is for a call of its own.
    """
    name, value = str(target(node)), node[key]
    if key in HYDRAS:
        return any(value is choice for choice in HYDRAS[key]) or (isinstance(value, str) and value in HYDRAS[key])
    if node["_target_"] in LOOKUPS:
        return key == "path"
    if name in known:
        files = [file for file in known[name] if key in own_of(node) or _same_source(file, node)]
        given = [file[key] for file in files if key in file] + [0] * (name in OPTIONS)
        if isinstance(value, str) and key in WORDS.get(name, ()) and WORD.fullmatch(value):
            return True
        if given and _like(value, given + _names(value) * name.startswith(NAMERS), key):
            return True
    return is_library(name) and not is_dataset(resolved(name)) and _like(value, CHOICES, key)


def own_of(node: dict[str, Any]) -> list[str]:
    """The arguments in a node of ImageData that do not go to its source; none of other nodes."""
    if node["_target_"] != DATA:
        return []
    from interp.lit.data import ImageData

    theirs = [name for name, p in inspect.signature(ImageData).parameters.items() if p.kind is not p.VAR_KEYWORD]
    return [name for name in node if name in theirs or name in HYDRAS or name == "_args_"]


def source(node: dict[str, Any]) -> Any:
    """The function that a node of ImageData gives its other arguments to; None of other nodes."""
    own = node.get("source") if node.get("_target_") == DATA else None
    return target(own) if isinstance(own, dict) and "_target_" in own else None


def _same_source(file: dict[str, Any], node: dict[str, Any]) -> bool:
    return node["_target_"] != DATA or source(file) == source(node) is not None


def _names(value: Any) -> list[str]:
    """The texts, alone or in lists, that can name a layer, class or scalar: no address, no path out of this folder."""
    if isinstance(value, list):
        return [name for item in value for name in _names(item)]
    plain = isinstance(value, str) and len(value) < 100 and value.isprintable() and "${" not in value
    return [value] if plain and not re.search(r"://|^[/~\\]|(^|[/\\])\.\.", value) else []


def _like(value: Any, given: list[Any], key: str) -> bool:
    """Whether a value is plain, or of the kind of those that YAML files give in its place."""
    if isinstance(value, dict):
        inner = [file for file in given if isinstance(file, dict)]
        known = {k: [file[k] for file in inner if k in file] for k in value}
        return "_target_" in value or all(known[k] and _like(v, known[k], k) for k, v in value.items())
    if isinstance(value, list):
        items = [item for file in given for item in (file if isinstance(file, list) else [file])]
        if key == "class_names":
            return all(isinstance(item, str) and len(item) < 1000 for item in value)
        return len(value) <= MOST and all(_like(item, items, key) for item in value)
    if isinstance(value, str):
        return value in given or (key == "root" and any(isinstance(file, str) for file in given) and is_folder(value))
    limit = next(most for end, most in LIMITS.items() if key.endswith(end))
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) <= limit)


def is_folder(text: str) -> bool:
    """Whether it names a folder of this machine, or one that is not there: no address, no file, no device."""
    if "://" in text or text.startswith(("//", "\\\\")) or not text.isprintable():
        return False
    path = Path(text).expanduser()
    return path.is_dir() or not path.exists()
