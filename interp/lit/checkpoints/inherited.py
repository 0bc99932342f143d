"""The settings of a run that is resumed: what the new command does not give stays as it was, what it gives wins."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interp.lit.safety.secrets import HIDDEN

# What makes a run what it is; where it goes on and what shows its results is the new command's own affair.
OPTIONS = ("data", "model", "optimizer", "scheduler", "trainer", "plugin")  # of each the command can name one
SETTINGS = ("seed", *OPTIONS, "callbacks", "compile", "test", "objective")
# About the machine and its folders, within them.
LOCAL = ("accelerator", "devices", "strategy", "num_nodes", "default_root_dir", "dirpath", "filename")
NONE = object()


@dataclass(frozen=True)
class Asked:
    """What a command line gives: settings by their keys, and options, by their group, that are not the run's own."""

    keys: frozenset[str]
    options: frozenset[str]
    adds: bool = True  # studies to those of the run: +plugin=; plugin= replaces them

    @classmethod
    def by(cls, overrides: list[str], same: frozenset[str]) -> "Asked":
        """By Hydra's overrides; `same` are the groups whose option is that of the run."""
        keys, options, adds = set[str](), set[str](), True
        for override in overrides:
            name, _, value = override.lstrip("+~").partition("=")
            group, _, package = name.partition("@")
            if group == "experiment" and group not in same:
                keys |= {*SETTINGS}
            elif group not in OPTIONS or package or override.startswith("~") or value.startswith("{"):
                keys.add(package or name)
            elif group == "plugin":
                adds = override.startswith("+")
            elif group not in same:
                options.add(group)
        return cls(frozenset(keys), frozenset(options), adds)

    def whole(self, key: str) -> bool:
        """Whether all of `key` is given."""
        names = key.split(".")
        places = (".".join(names[:count]) for count in range(1, len(names) + 1))
        return names[0] in self.options or not self.keys.isdisjoint(places)

    def within(self, key: str) -> bool:
        """Whether something of `key` is given."""
        return self.whole(key) or any(given.startswith(f"{key}.") for given in self.keys)


def inherited(now: Any, then: Any, asked: Asked, key: str) -> Any:
    """The setting at `key` where the new command has `now` and the run had `then`; NONE where there is none."""
    if then is NONE or asked.whole(key) or (HIDDEN in str(then) and not isinstance(then, Mapping)):
        return now
    if now is NONE and isinstance(then, Mapping):
        now = {}
    if not isinstance(now, Mapping) or not isinstance(then, Mapping):
        return now if key.rpartition(".")[2] in LOCAL or asked.within(key) else then
    if now.get("_target_") != then.get("_target_"):  # of another option only what is given
        now = {name: value for name, value in now.items() if asked.within(f"{key}.{name}")}
    names = dict.fromkeys([*now, *then] if asked.adds or key != "plugin" else now)
    both = {name: inherited(now.get(name, NONE), then.get(name, NONE), asked, f"{key}.{name}") for name in names}
    return {name: value for name, value in both.items() if value is not NONE}


def agreeing(now: Any, then: Any, key: str) -> Iterator[str]:
    """The keys, from `key` inwards, whose settings are the same: `optimizer.lr`, `data.augment[0]`."""
    if now == then:
        yield key
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        for name in now.keys() & then.keys():
            yield from agreeing(now[name], then[name], f"{key}.{name}")
    elif isinstance(now, list) and isinstance(then, list):
        for number, pair in enumerate(zip(now, then, strict=False)):
            yield from agreeing(*pair, f"{key}[{number}]")


def changes(then: Any, now: Any, key: str) -> Iterator[str]:
    """What differs, one setting after another, as `optimizer.lr 0.001 -> 0.1`."""
    if then == now or key.rpartition(".")[2] in LOCAL:
        return
    both = isinstance(then, Mapping) and isinstance(now, Mapping)
    if both and then.get("_target_") == now.get("_target_"):
        for name in dict.fromkeys([*then, *now]):
            yield from changes(then.get(name, NONE), now.get(name, NONE), f"{key}.{name}")
    else:
        yield f"{key} {_word(then)} -> {_word(now)}"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value["_target_"]).rpartition(".")[2] if "_target_" in value else str(dict(value) or "none")
    return "none" if value is NONE else str(value)
