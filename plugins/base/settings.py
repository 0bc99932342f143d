"""Settings of studies: a field of the dataclass says default, meaning and bounds; `yaml_files` writes them down."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from interp.errors import UserError, unknown


def setting(
    default: Any, about: str, *, least: float | None = None, above: float | None = None, most: float | None = None,
    choices: Iterable[str] = (), why: str = "",
) -> Any:  # fmt: skip
    """A field of a study that a user can set; `about` says what it is, in one line of its YAML file.

    A number must be at least `least`, more than `above` and at most `most`, for the reason `why`, and with one of the
    first two finite; a text, and each of a list, must be one of `choices`, where there are any. None is not checked.
    """
    bounds = {"about": about, "least": least, "above": above, "most": most, "choices": tuple(choices), "why": why}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: [*default], metadata=bounds)
    return dataclasses.field(default=default, metadata=bounds)


def spread_setting(most: int) -> Any:
    """The field of a study's layers, of which `most` are chosen where none is named."""
    return setting([], f"none: up to {most}, evenly spread over the computation (docs/layers.md)")


def check_settings(study: Any, key: str) -> None:
    """Raise UserError for a setting of `study`, at `key` of the configuration, that is out of its bounds."""
    for field in dataclasses.fields(study):
        if field.metadata:
            _check(f"{key}.{field.name}", getattr(study, field.name), **field.metadata)


def _check(
    key: str, value: Any, about: str, least: float | None, above: float | None, most: float | None,
    choices: Sequence[str], why: str,
) -> None:  # fmt: skip
    if value is None:
        return
    number = isinstance(value, int | float)
    reason = f", {why}" if why else ""
    if least is not None and number and not value >= least:
        raise UserError(f"{key}={value}: must be at least {least}{reason}")
    if above is not None and number and not value > above:
        raise UserError(f"{key}={value}: must be above {above}{reason}")
    if most is not None and number and not value <= most:
        raise UserError(f"{key}={value}: must be at most {most}{reason}")
    if isinstance(value, float) and math.isinf(value) and (least is not None or above is not None):
        raise UserError(f"{key}={value}: must be finite")
    for name in (value if isinstance(value, list) else [value]) if choices else ():
        if name not in choices:
            raise unknown(key, name, choices)
