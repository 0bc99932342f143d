"""pyproject.toml declares what the code imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"analyze", "benchmarks", "conf", "interp", "plugins", "tests", "train"}
BY_HAND = {"ray"}  # sweep=ray says how to install it


def imported(path: Path) -> Iterator[str]:
    """The packages, without their submodules, that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


def declared(*extras: str) -> set[str]:
    """The distributions that the project and its extras ask for, by normalised name."""
    asked = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return {normal(re.split(r"[<>=!~;\[ ]", line)[0]) for line in asked}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("files", "extras"),
    [
        (["conf", "interp", "plugins", "train.py", "analyze.py"], set(PROJECT["optional-dependencies"]) - {"test"}),
        (["tests"], set(PROJECT["optional-dependencies"])),
    ],
    ids=["package", "tests"],
)
def test_what_is_imported_is_declared(files, extras):
    paths = [
        path for name in files for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    ]
    names = {name for path in paths for name in imported(path)} - sys.stdlib_module_names - OURS - BY_HAND
    providers = packages_distributions()
    allowed = declared(*extras)
    missing = {n for n in names if n in providers and not {normal(name) for name in providers[n]} & allowed}
    assert len(names) > 10 and not missing
