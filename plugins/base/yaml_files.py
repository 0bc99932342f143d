"""The settings in conf/plugin/*.yaml and conf/study.yaml, written of the classes: python -m plugins.base.yaml_files"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from conf.groups import CONF
from conf.kinds import load_target
from plugins.base.study import Study


def lines(study: type, but: Sequence[dataclasses.Field] = ()) -> Iterator[str]:
    """A line of YAML for each setting of a class of studies: `name: default # what it is`."""
    for field in dataclasses.fields(study):
        if field.metadata and field not in but:
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            text = yaml.safe_dump(default, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
            yield f"{field.name}: {text} # {field.metadata['about']}\n"


def written(path: Path) -> str:
    """What the YAML file of a study should be: its head as it stands, with `_target_`, and its settings."""
    head, key, rest = path.read_text(encoding="utf-8").partition("\n_target_: ")
    if not key:
        return head.splitlines(keepends=True)[0] + "".join(lines(Study))
    target = rest.splitlines()[0]
    return f"{head}{key}{target}\n{''.join(lines(load_target('', target), but=dataclasses.fields(Study)))}"


def files() -> list[Path]:
    """The YAML files whose settings are written of classes."""
    return [CONF / "study.yaml", *sorted((CONF / "plugin").glob("*.yaml"))]


if __name__ == "__main__":
    for file in files():
        file.write_text(written(file), encoding="utf-8")
