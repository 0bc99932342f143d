"""What a study can be told has one home: the fields of its class, of which its YAML file is written."""

from dataclasses import dataclass

import pytest

from interp.errors import UserError
from plugins.base import setting
from plugins.base.settings import check_settings
from plugins.base.yaml_files import files, lines, written


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_yaml_files_say_what_the_classes_do(path):
    assert path.read_text(encoding="utf-8") == written(path), "write it again: python -m plugins.base.yaml_files"


@dataclass
class Bounded:
    name: str = "x"
    count: int | None = setting(3, "images", least=2, why="or none differ")
    share: float = setting(0.5, "of all", above=0)
    kinds: list[str] = setting(["a"], "what to show: a, b", choices=("a", "b"))


def test_a_line_of_yaml_has_default_and_meaning():
    assert [*lines(Bounded)] == ["count: 3 # images\n", "share: 0.5 # of all\n", "kinds: [a] # what to show: a, b\n"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": 1}, "plugin.x.count=1: must be at least 2, or none differ"),
        ({"share": 0}, "plugin.x.share=0: must be above 0"),
        ({"share": float("nan")}, "plugin.x.share=nan: must be above 0"),
        ({"kinds": ["b", "bb"]}, "no plugin.x.kinds 'bb'; did you mean 'b'? Choose from: a, b"),
    ],
)
def test_what_is_out_of_bounds_is_named_with_them(given, said):
    with pytest.raises(UserError) as error:
        check_settings(Bounded(**given), "plugin.x")
    assert str(error.value) == said
    check_settings(Bounded(count=None, share=1), "plugin.x")
