"""Hydra's and OmegaConf's messages in one line that says how to mend it."""

import re
import sys
from collections.abc import Iterator

from hydra.errors import MissingConfigException

from conf.groups import BUILT, options
from conf.nearest import nearest_setting
from interp.errors import unknown

MORE = re.compile(r"\s*See https://hydra.cc\S*.*|\s*full_key: .*|\s*object_type=.*|\s*reference_type=.*")


def explain(error: Exception) -> str:
    """The message of an error of Hydra's or OmegaConf's in one line, with the nearest name that exists."""
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_option(*str(error.missing_cfg_file).rpartition("/")[::2])
    if match := re.search(r"Could not override '([^']+)'", text):
        return no_setting(max(_full_key(error), match[1], key=len))
    if match := re.search(r"Ambiguous value for argument '(.+?)'$", text, re.MULTILINE):
        return several_values(match[1])
    if match := re.search(r"Multiple values for (\w+)\.", text):
        return twice(match[1])
    key = _full_key(error)
    if match := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"{key} follows {match[1]}, which is not set: set it, or give {key}=VALUE"
    message = " ".join(MORE.sub("", text).split())
    return f"{key}: {message}" if key and key not in message else message


def no_setting(key: str) -> str:
    """What to say of a setting that does not exist."""
    return f"no setting {key!r}; {nearest_setting(key)}"


def _no_option(group: str, option: str) -> str:
    if group.startswith("hydra/"):
        extra = "pip install -e '.[sweep]' brings submitit and optuna"
        return f"no {group} {option!r} is installed. Choose with sweep=; {extra}"
    hint = "Other packages: hydra.searchpath"
    if group in BUILT and "." in option:
        hint = f"A class or function of your own: '{group}={{_target_: {option}}}'"
    return str(unknown(f"{group} option", option, options(group), hint=hint))


def several_values(argument: str) -> str:
    """What to say of `key=a,b` outside a sweep."""
    key, _, value = argument.partition("=")
    if key in BUILT:
        return f"{argument}: choose one, or try them in a sweep: -m {argument}"
    listed = f"{key}=[{value}]"
    return (
        f"{argument}: several values at once are a list in quotes, '{listed}', or a sweep with -m; a text that holds a "
        f"comma is quoted twice, \"{key}='{value}'\""
    )


def twice(group: str) -> str:
    """What to say of a group that is given more than once."""
    given = [value for key, _, value in (a.partition("=") for a in sys.argv[1:]) if key.lstrip("+") == group]
    if group in ("plugin", "logger"):
        listed = f"{'+' * (group == 'plugin')}{group}=[{','.join(given)}]"
        return f"{group} is given {len(given)} times: give several as one list in quotes, '{listed}'"
    return f"{group} is given {len(given)} times ({', '.join(given)}): give it once"


def _full_key(error: BaseException) -> str:
    """The key that OmegaConf names in an error or in what caused it."""
    keys = [match[1] for cause in _causes(error) if (match := re.search(r"full_key: (\S+)", str(cause)))]
    return keys[-1] if keys else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
