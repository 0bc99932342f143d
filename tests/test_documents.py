"""What documents, messages and comments tell people to install."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", "benchmarks", "conf", "docs", "interp", "plugins", "tests")
TEXTS = ("", ".css", ".html", ".js", ".md", ".py", ".sh", ".toml", ".txt", ".yaml")
FROM_AN_INDEX = re.compile(r"epochscope *\[|(?:install|add|download|index versions) +(?:-\S+ +)*['\"]?epochscope\b")


def test_nobody_is_told_to_install_us_from_an_index_where_the_name_is_not_ours():
    beside = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")]
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = {path: path.read_text() for path in beside + paths if path.suffix in TEXTS}
    assert len(texts) > 150
    own = texts.pop(ROOT / "pyproject.toml")  # where uv takes the name for this project itself
    assert own.count("epochscope[") == 1 and 'dev = ["epochscope[test]"]' in own
    del texts[Path(__file__)]
    assert [f"{path}: {told[0]}" for path, text in texts.items() for told in FROM_AN_INDEX.finditer(text)] == []
