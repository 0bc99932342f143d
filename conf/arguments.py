"""The command line before Hydra reads it: put as Hydra takes it, or told how it is meant to be written."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser  # what hydra.main reads the command line with
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from conf.groups import BUILT, NAMED, groups, options
from conf.nearest import nearest_setting
from interp.errors import UserError, unknown

KEY = r"[+~]{0,2}[\w./@:-]+"


def arranged(given: list[str]) -> list[str]:
    """The arguments as Hydra takes them: flags first, paths quoted, dictionaries in the place of a group's option.

    Raises UserError for what is no setting and no flag.
    """
    parser = get_args_parser()
    setattr(parser, "error", _refuse)  # noqa: B010  # argparse would print its usage and exit with code 2
    known, rest = parser.parse_known_args(given)
    if flags := [argument for argument in rest if argument.startswith("-")]:
        raise UserError(_no_flag(flags[0], given))
    settings = [*known.overrides, *rest]
    flags = [argument for argument in given if argument not in settings]
    many = known.multirun or any(re.match(r"sweep=(?!none)|hydra.mode=MULTIRUN", argument) for argument in settings)
    _check_pieces(settings)
    return [*flags, *(a for argument in settings for a in _placed(_quoted(argument, many)))]


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}: see --help")


def _no_flag(flag: str, given: list[str]) -> str:
    """What to say of --name value or --name=value."""
    name, _, value = flag.lstrip("-").replace("-", "_").partition("=")
    after = given[given.index(flag) + 1 :]
    value = value or (after[0] if after and not after[0].startswith("-") else "VALUE")
    if name in groups():
        return f"there is no flag {flag}: settings go without dashes: {_chosen(name, value)}"
    return f"there is no flag {flag}: settings go without dashes, as NAME=VALUE; {nearest_setting(name)}"


def _chosen(group: str, option: str) -> str:
    return f"{'+' * (group == 'plugin')}{group}={option}"


def _check_pieces(settings: list[str]) -> None:
    """Raise UserError where the shell has cut a setting at its blanks, and for words that are no NAME=VALUE."""
    for index, argument in enumerate(settings):
        pieces = settings[index:]
        count = next((n for n in range(1, len(pieces) + 1) if _closed(" ".join(pieces[:n]))), len(pieces))
        whole = " ".join(pieces[:count])
        if not _closed(whole):
            raise UserError(
                f"{argument}: a bracket is not closed; put quotes around the whole setting: '{argument}...]'"
            )
        if count > 1:
            raise UserError(f"the shell has cut a setting into {count} pieces: put quotes around it: '{whole}'")
        if joined := re.search(rf"\w\+({'|'.join(groups())})=", argument):
            raise UserError(f"{argument}: put a blank before {joined[0][1:]}")
        if "=" not in argument.lstrip("=") and not argument.startswith("~"):
            raise UserError(_bare(argument, [a.strip("=") for a in pieces[1:] if a != "="]))


def _closed(text: str) -> bool:
    """Whether every bracket of a list or a dictionary, outside quotes, is closed."""
    if "=[" not in text and "={" not in text:
        return True
    bare = re.sub(r"'(?:\\'|[^'])*'|\"(?:\\\"|[^\"])*\"", "", text)
    return all(bare.count(a) <= bare.count(b) for a, b in ("[]", "{}"))


def _bare(word: str, after: list[str]) -> str:
    """What to say of a word without =."""
    homes = [group for group in ("plugin", *BUILT, *groups()) if word in options(group)]
    value = after[0] if after and "=" not in after[0] else "VALUE"
    meant = _chosen(homes[0], word) if homes else _chosen(word, value) if word in groups() else f"{word}={value}"
    guess = f"; did you mean {meant}?" if re.fullmatch(KEY, word, re.ASCII) else ""
    return f"{word!r} is no setting: settings are NAME=VALUE without blanks{guess}"


def _quoted(argument: str, many: bool) -> str:
    """`argument`, its value in quotes where Hydra's grammar needs them: for = ( ) and letters outside ASCII.

    >>> _quoted("checkpoint=run/epoch=3.ckpt", many=False)
    "checkpoint='run/epoch=3.ckpt'"
    """
    if _parsed(argument) is not None:
        return argument
    key, _, value = argument.partition("=")
    if not re.fullmatch(KEY, key, re.ASCII):
        raise UserError(
            f"{argument}: {key!r} is no name of a setting; settings are NAME=VALUE, without blanks at the ="
        )
    quoted = f"{key}={_quoted_value(value, many)}"
    if _parsed(quoted) is None:
        raise UserError(
            f"{argument} cannot be read: put texts that hold = ( ) or letters outside ASCII in quotes of their own "
            f"within the shell's, such as \"{key}='a=b'\" or \"{key}=['a=b',c]\""
        )
    return quoted


def _quoted_value(value: str, many: bool) -> str:
    if value[:1] + value[-1:] in ("[]", "{}"):
        return value[0] + ",".join(_quoted_item(item.strip()) for item in value[1:-1].split(",")) + value[-1]
    return ",".join(map(_quote, value.split(","))) if many else _quote(value)


def _quoted_item(item: str) -> str:
    """An item of a list, or a pair of a dictionary."""
    name, colon, text = item.rpartition(": ")
    bare = _parsed(f"key={text}") is not None
    return f"{name}{colon}{text if bare else _quote(text)}"


def _quote(text: str) -> str:
    return "'" + text.replace("\\'", "\\\\'").replace("'", "\\'") + "'"


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _parsed(argument: str) -> Override | None:
    try:
        return _parser().parse_override(argument)
    except HydraException:
        return None


def _placed(argument: str) -> Iterator[str]:
    """`argument` as Hydra merges it: output= in two settings, a dictionary with _target_ in the place of an option."""
    override = _parsed(argument)
    assert override is not None
    key, _, text = argument.partition("=")
    value, group = override._value, override.key_or_group
    if key == "output":
        if not text or value is None:
            raise UserError("output= is empty: give a folder, output=FOLDER")
        yield from (f"hydra.run.dir={text}", f"hydra.sweep.dir={text}")
    elif group in NAMED and isinstance(value, dict) and "_target_" in value:
        raise UserError(f"{argument}: give it a name: '+{group}.NAME={text}'")
    elif group in (*BUILT, "logger") and _makes(value):
        yield f"{group}={'none' if 'none' in options(group) else 'own'}"
        yield f"+{group}={text}"
    elif group in groups() and override.package is None and not override.is_delete():
        yield from _option(argument, group, value)
    else:
        yield argument


def _makes(value: Any) -> bool:
    """Whether it is a dictionary with _target_, or of such dictionaries by name, or a sweep over them."""
    if isinstance(value, ChoiceSweep):
        return all(map(_makes, value.list))
    if not isinstance(value, dict):
        return False
    return "_target_" in value or (bool(value) and all(isinstance(v, dict) and "_target_" in v for v in value.values()))


def _option(argument: str, group: str, value: Any) -> Iterator[str]:
    """A choice of an option; null and false choose none."""
    if value is None or value is False:
        if "none" in options(group):
            yield f"{group}=none"
        elif group == "plugin":
            yield "plugin=[]"
        elif group != "experiment":
            raise UserError(f"{argument}: choose from {', '.join(options(group))}")
    elif isinstance(value, int | float):
        raise unknown(f"{group} option", str(value), options(group))
    elif isinstance(value, list) and group in BUILT:
        raise UserError(f"{argument}: choose one of {', '.join(options(group))}")
    else:
        yield argument
