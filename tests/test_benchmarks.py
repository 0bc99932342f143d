"""Benchmarks and the scripts that draw the documents' pictures: what they take from the project is still there."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for folder in ("benchmarks", "docs") for path in (ROOT / folder).glob("*.py"))
OURS = ("conf", "interp", "plugins", "tests")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_all_that_they_import_exists(path):
    statements = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    for statement in statements:
        if (statement.module or "").partition(".")[0] in OURS:
            exec(ast.unparse(statement), {})
