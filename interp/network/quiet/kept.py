"""Rows that restore: each keeps one thing of its owners, sets it for a block, puts it back, and notes what was left."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from operator import attrgetter, is_
from typing import Any

AS_BEFORE = object()
Leftovers = dict[tuple[str, str], list[str]]  # owners by wording and value: {("gradient left on {owners}", ""): ["fc"]}


def alike(a: Any, b: Any) -> bool:
    """Whether they are one object, or equal plain values."""
    return a is b or (isinstance(a, bool | int | str | tuple) and type(a) is type(b) and a == b)


@dataclass
class Kept:
    """One thing of each owner that can be read, written and compared; what it is before the block and within."""

    owners: dict[str, Any]  # by the names that `wording` gives them
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], object]
    _: KW_ONLY
    within: Any = AS_BEFORE
    same: Callable[[Any, Any], bool] = alike
    wording: str = ""  # of a change left behind, with {owners} and the {value} that it has left; "": it is not told

    def __post_init__(self) -> None:
        self.before = self.now()
        self.inside = dict(self.before) if self.within is AS_BEFORE else dict.fromkeys(self.owners, self.within)

    def now(self) -> dict[str, Any]:
        """What it is, by owner."""
        values: dict[str, Any] = dict.fromkeys(self.owners)
        for name, owner in self.owners.items():
            with suppress(Exception):  # torch refuses to read precisions that contradict each other
                values[name] = self.read(owner)
        return values

    def enter(self) -> None:
        """Make it what it is within the block."""
        for name, value in self.inside.items():
            if value is not self.before[name] and not self.same(value, self.before[name]):
                self.write(self.owners[name], value)

    def undo(self, leftovers: Leftovers, failed: list[Exception]) -> None:
        """Make it what it was before, the last owner first; a second call goes on where the first was ended."""
        now = self.now() if self.before else {}
        while self.before:
            name = next(reversed(self.before))
            try:
                for value in self.put_back(name, now[name]):
                    leftovers.setdefault((self.wording, value), []).append(name)
            except Exception as error:  # the rest must be undone all the same
                failed.append(error)
            del self.before[name]

    def put_back(self, name: str, now: Any) -> list[str]:
        """Write what it was of one owner; the values to tell of."""
        before, inside = self.before[name], self.inside[name]
        clean = self.same(now, inside)
        if not clean or inside is not before:
            self.write(self.owners[name], before)
        return [] if clean or not self.wording else self.values(inside, now)

    def values(self, inside: Any, now: Any) -> list[str]:
        """What the wording says of a value that is `now` what it was not `inside`."""
        return [str(now) if "{value}" in self.wording else ""]


def attribute(name: str, owners: dict[str, Any], wording: str = "", **options: Any) -> Kept:
    """The attribute `name` of all `owners`."""
    return Kept(owners, attrgetter(name), lambda owner, value: setattr(owner, name, value), wording=wording, **options)


class Entries(Kept):
    """The attributes in dicts such as `vars(module)`, and the entries of the dicts among them.

    Those are hooks, submodules, parameters, buffers.
    """

    def __init__(self, tables: dict[str, dict[str, Any]]) -> None:
        super().__init__(tables, _entries, _refill, same=_same_entries, wording="{value} {owners}")

    def values(self, inside: dict[tuple, Any], now: dict[tuple, Any]) -> list[str]:
        """What has come or gone, such as "attribute 'scale' left on"; torch adds to hooks what goes without saying."""
        missing = object()
        changed = [key for key in inside | now if inside.get(key, missing) is not now.get(key, missing)]
        loud = [key for key in changed if key[0].endswith("_hooks") or "_hook" not in str(key)]
        return [f"{_noun(*key)} {'left on' if key in now else 'removed from'}" for key in loud]


def _entries(table: dict[str, Any]) -> dict[tuple, Any]:
    """By (dict, key) the attributes of `table`, and what is in the dicts among them."""
    dicts = {"<attributes>": table} | {name: value for name, value in table.items() if isinstance(value, dict)}
    return {(name, key): value for name, entries in dicts.items() for key, value in entries.items()}


def _refill(table: dict[str, Any], entries: dict[tuple, Any]) -> None:
    table.clear()
    for (name, key), value in entries.items():  # a dict comes before its entries
        (table if name == "<attributes>" else table[name])[key] = value
        if name == "<attributes>" and isinstance(value, dict):
            value.clear()


def _same_entries(a: dict[tuple, Any], b: dict[tuple, Any]) -> bool:
    return list(a) == list(b) and all(map(is_, a.values(), b.values()))


def _noun(name: str, key: object) -> str:
    """What an entry of the dict `name` is called: "forward hook" of _forward_hooks, "parameter 'weight'"."""
    return name.strip("_<>")[:-1].replace("_", " ") + f" {key!r}" * isinstance(key, str)
