"""Which scalars a training logs, so that a name which is none of them is told before it starts."""

from collections.abc import Collection, Iterable, Mapping
from itertools import product
from typing import Any

from interp.errors import UserError, unknown

SCORES = ("loss", "accuracy", "f1")
STAGES = ("train", "val", "test")
OURS = ("lightning", "interp", "plugins")  # packages whose callbacks log nothing of their own


def check_monitors(callbacks: Mapping[str, Mapping[str, Any] | None], studies: Collection[str]) -> None:
    """Raise UserError where one of the configured `callbacks` monitors a scalar that no training logs.

    Of the scalars of a study, by its name in `studies`, only the first part of the name is looked at; other people's
    callbacks may log whatever they like.
    """
    nodes = {key: node for key, node in callbacks.items() if node}
    foreign = any(str(node.get("_target_")).partition(".")[0] not in OURS for node in nodes.values())
    known = _logged(STAGES[:2])
    for key, node in nodes.items():
        name = node.get("monitor")
        if name is None or name in known or _prefix(name) in studies:
            continue
        if not foreign or _prefix(name) in STAGES:
            raise _unknown(f"scalar for callbacks.{key}.monitor", name, known, studies)


def check_objectives(names: Iterable[str], studies: Collection[str], stages: Collection[str]) -> None:
    """Raise UserError where an objective is no scalar of a study, and none of the `stages` that the training has."""
    known = _logged(stages)
    for name in names:
        if name not in known and _prefix(name) not in studies:
            raise _unknown("scalar for objective", name, known, studies)


def _logged(stages: Iterable[str]) -> list[str]:
    return [*(f"{stage}/{score}" for stage, score in product(stages, SCORES)), "epoch"]


def _unknown(kind: str, name: Any, known: list[str], studies: Collection[str]) -> UserError:
    return unknown(kind, str(name), [*known, *(f"{study}/..." for study in studies)])


def _prefix(name: Any) -> str:
    return str(name).partition("/")[0]
