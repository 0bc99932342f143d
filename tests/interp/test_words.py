"""Classes that are called as words of settings are."""

import pytest
import torch

from interp.attribution import choose_classes
from interp.errors import UserError
from interp.words import class_index, word
from plugins.caricature import CaricaturePlugin
from plugins.nmf import NMFPlugin
from plugins.saliency import SaliencyPlugin

NAMES = ("false", "null", "true")


@pytest.mark.parametrize(
    ("wanted", "expected"), [(False, 0), ("false", 0), ("class:false", 0), ("class:true", 2), ("class:null", 1)]
)
def test_a_class_is_chosen_by_its_name(wanted, expected):
    logits, labels = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([1])
    assert choose_classes(logits, labels, [word(wanted)], NAMES).tolist() == [[expected]]


def test_the_word_means_what_it_says():
    logits, labels = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([1])
    assert choose_classes(logits, labels, [word(True)], NAMES).tolist() == [[1]]
    with pytest.raises(UserError, match="no class 'no'"):
        choose_classes(logits, labels, ["no"], NAMES)


def test_case_counts_where_it_must():
    assert class_index("false", ("True", "False")) == 1 and class_index("False", ("false", "False")) == 1
    assert class_index("FALSE", ("false", "False")) is None


def test_plugins_take_what_yaml_makes_of_the_words():
    assert NMFPlugin(name="nmf", classes=[False, True, "top"]).classes == ["false", "true", "top"]
    assert SaliencyPlugin(name="saliency", target=False).target == "false"
    assert CaricaturePlugin(name="caricature", targets=[None, False, True]).targets == ["none", "false", "true"]
