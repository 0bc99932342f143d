"""What a study can be told has one home: the fields of its class, of which its YAML file is written."""

import inspect
from dataclasses import dataclass

import pytest

from conf.groups import CONF, read
from conf.kinds import load_target
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


OURS = [(CONF / "loading.yaml", "interp.lit.data.ImageData")]
OURS += [(path, read(path)["_target_"]) for path in sorted((CONF / "model").glob("*.yaml"))]


@pytest.mark.parametrize(("path", "target"), [pair for pair in OURS if pair[1].startswith("interp.")], ids=str)
def test_defaults_of_data_and_models_are_those_of_the_code(path, target):
    parameters = inspect.signature(load_target("", target)).parameters
    for name, value in read(path).items():
        default = parameters[name].default if name in parameters else value
        if not name.startswith("_") and default is not inspect.Parameter.empty:
            assert name in parameters and (list(default) if isinstance(default, tuple) else default) == value, name


@pytest.mark.parametrize("path", sorted((CONF / "data").glob("[!o]*.yaml")), ids=lambda path: path.stem)  # not own
def test_a_data_set_names_settings_that_its_code_has(path):
    option = read(path)
    known = inspect.signature(load_target("", option["_target_"])).parameters.keys()
    known |= inspect.signature(load_target("", option["source"]["_target_"])).parameters.keys()
    assert {name for name in option if not name.startswith("_")} <= known
