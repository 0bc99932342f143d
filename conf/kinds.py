"""Whether each setting is of the kind that its YAML file, or what it is given to, wants: imports nothing heavy itself.

A value that differs in kind from the one in the YAML file is compared with the signature of the `_target_`, which is
imported for that.
"""

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from numbers import Number
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from conf.groups import BUILT, NAMED, groups, option_like, options
from interp.errors import UserError, unknown

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list",
         dict: "a dictionary", NoneType: "null"}  # fmt: skip
OBJECT = "a dictionary with _target_"  # what else is described as
BESIDE = {"objective": list, "trust": str}  # what settings at the top may be beside the kind of their default
LISTS = (list, tuple, set, frozenset, Iterable, Sequence, Collection)
FROM_TEXT = ("Path", "PathLike", "device", "dtype")  # classes that are made of a text


def check_kinds(cfg: Mapping[str, Any], primary: Mapping[str, Any], built: Collection[str] = BUILT) -> None:
    """Raise UserError for a setting of a wrong kind or name; `primary` is the main YAML. Interpolations are let be.

    Of what `_target_` makes only the groups in `built` are looked at.
    """
    for key, default in primary.items():
        if key not in ("defaults", *groups()) and default is not None and key in cfg and not _follows(cfg[key]):
            kind = _kind(default) | BESIDE.get(key, NoneType if isinstance(default, dict) else _kind(default))
            if not fits(cfg[key], kind):
                raise _wrong(key, cfg[key], kind, default)
    for default in primary["defaults"]:
        for group in built:
            if isinstance(default, dict) and group in default and (group != "scheduler" or cfg.get(group)):
                _check_node(group, group, cfg.get(group), {})
    for group in NAMED:
        for name, node in (cfg.get(group) or {}).items():
            if node is not None:
                _check_node(group, f"{group}.{name}", node, (primary.get(group) or {}).get(name, {}))


def _check_node(group: str, key: str, node: Any, defaults: Mapping[str, Any]) -> None:
    """Check what is given to the `_target_` of a node, against the YAML file that names it or against its signature."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        choices = f"choose from {', '.join(options(group))}" if group in BUILT else "wanted is null"
        raise UserError(f"{key}={_text(node)}: {choices}, or a dictionary with _target_")
    if defaults.get("_target_") != node["_target_"]:
        defaults = option_like(group, node)
    wanted, takes_more = ({}, True) if defaults else _parameters(key, node)
    for name, value in node.items():
        default = defaults.get(name)
        typed = default is not None and not isinstance(default, str)  # of texts the signature may know the choices
        same = name in defaults and (value == default or (typed and fits(value, _kind(default))))
        if same or name.startswith("_") or _follows(value):
            continue
        if defaults and group == "plugin" and name not in (*defaults, "name"):
            raise unknown("setting", name, sorted(k for k in defaults if not k.startswith("_")), owner=key)
        wanted, takes_more = _parameters(key, node)
        if name not in wanted and not takes_more:
            whole = f"A dictionary takes the place of all settings: '{key}={{_target_: {node['_target_']}}}'"
            hint = whole if group in BUILT and not defaults else ""
            raise unknown("setting", name, wanted, owner=f"{key} ({node['_target_']})", hint=hint)
        kind = wanted.get(name, Any)
        if not fits(value, kind if kind is not Any or default is None else _kind(default)):
            raise _wrong(f"{key}.{name}", value, kind if kind is not Any else _kind(default), default)


def _follows(value: Any) -> bool:
    """Whether it is an interpolation: what it leads to is checked where it stands."""
    return isinstance(value, str) and value.startswith("${")


def _parameters(key: str, node: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The annotation of each parameter of a node's `_target_`, and whether it takes others, too.

    What `interp.lit.data.ImageData` does not know it gives to its `source`.
    """
    wanted, takes_more = _signature(key, node["_target_"])
    source = node.get("source")
    if isinstance(source, Mapping) and "_target_" in source:
        more, takes_more = _signature(f"{key}.source", source["_target_"])
        wanted = {**more, **wanted}
    return wanted, takes_more


def _signature(key: str, target: Any) -> tuple[dict[str, Any], bool]:
    callee = load_target(f"{key}._target_", str(target))
    try:
        parameters = inspect.signature(callee).parameters.values()
        hints = get_type_hints(getattr(callee, "__init__") if isinstance(callee, type) else callee)  # noqa: B009
    except (NameError, TypeError, ValueError):  # written in C, or annotated with names that are not there
        return {}, True
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {name: hints.get(name, Any) for name in named}, any(p.kind == p.VAR_KEYWORD for p in parameters)


def load_target(key: str, name: str) -> Any:
    """The class or function with this full name; raises UserError, for the setting `key`, where there is none."""
    from pydoc import ErrorDuringImport, locate

    try:
        thing = locate(name)
    except ErrorDuringImport as error:
        if isinstance(error.value, KeyboardInterrupt):  # it came while this was imported
            raise error.value from None
        reason = f"{type(error.value).__name__}: {' '.join(str(error.value).split())}"
        raise UserError(f"{key}={name}: importing {error.filename} failed ({reason})") from error
    if thing is None:
        module, _, last = name.rpartition(".")
        if module and (home := locate(module)) is not None:
            raise unknown(f"{key} called", last, [n for n in dir(home) if not n.startswith("_")], owner=module)
        raise UserError(f"{key}={name}: there is no module {module or name!r}; is its folder on PYTHONPATH?")
    return thing


def fits(value: Any, kind: Any) -> bool:
    """Whether a plain value can stand where an annotation wants `kind`.

    >>> fits(3, float), fits("three", int | None), fits([1, 2], Sequence[int]), fits("auto", Literal["auto"])
    (True, False, True, True)
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if kind is Any:
        return True
    if origin is Literal:
        return value in arguments
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # an object of its own
    if kind in (None, NoneType):
        return value is None
    if isinstance(origin or kind, type):
        return _fits_class(value, origin or kind, arguments)
    return True


def _fits_class(value: Any, kind: type, arguments: tuple[Any, ...]) -> bool:
    if kind in (int, float, Number):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if kind is str:
        return isinstance(value, str | int | float)  # a name may look like a number or a truth
    if kind is bool or kind is object:
        return isinstance(value, kind)
    if kind is dict or kind.__name__ in ("Mapping", "MutableMapping"):
        return isinstance(value, Mapping)
    if kind in LISTS and isinstance(value, str | int | float):
        return kind is Sequence and arguments == (str,)  # one name is a list of one
    if kind in LISTS:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value if arguments)
    if isinstance(value, str):
        return kind.__name__ in FROM_TEXT or issubclass(kind, Enum)
    return isinstance(value, kind)


def _kind(default: Any) -> Any:
    if isinstance(default, Sequence) and not isinstance(default, str):
        kinds = {_kind(item) for item in default}
        return list[kinds.pop()] if len(kinds) == 1 else list  # type: ignore[misc]
    return dict if isinstance(default, Mapping) else type(default)


def _wrong(key: str, value: Any, kind: Any, default: Any) -> UserError:
    shows = default is not None and not isinstance(default, Mapping) and not str(default).startswith(("?", "$"))
    sample = f", such as {_text(default)}" if shows else ""
    several = isinstance(value, list)
    sweep = f"; a sweep over several takes -m: -m {key}={','.join(map(_text, value))}" if several else ""
    return UserError(f"{key}={_text(value)}: wanted is {' or '.join(_described(kind))}{sample}{sweep}")


def _described(kind: Any) -> Iterator[str]:
    """What an annotation wants, in words."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if choices := [str(choice) for part in kinds if get_origin(part) is Literal for choice in get_args(part)]:
        yield f"one of {', '.join(dict.fromkeys(choices))}"
    plain = [get_origin(part) or part for part in kinds if get_origin(part) is not Literal]
    words = dict.fromkeys("a list" if part in LISTS else WORDS.get(part, OBJECT) for part in plain)
    yield from (word for word in words if word != OBJECT or not (choices or {*words} - {OBJECT, WORDS[NoneType]}))


def _text(value: Any) -> str:
    """As it is written on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
