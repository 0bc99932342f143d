"""Settings of the run that is resumed: what a command gives wins, what it does not give stays."""

import pytest

from interp.lit.checkpoints.inherited import NONE, Asked, changes, inherited

THEIRS = {
    "seed": 5,
    "data": {"_target_": "Data", "size": 16, "source": {"_target_": "digits"}, "augment": ["flip"]},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.3, "momentum": 0.5},
    "scheduler": {},
    "trainer": {"_target_": "Trainer", "max_epochs": 2, "accelerator": "gpu", "max_steps": 9, "default_root_dir": "/x"},
    "plugin": {"nmf": {"_target_": "NMF", "groups": 8, "layer": None}, "saliency": {"_target_": "Saliency"}},
    "callbacks": {"stop": {"_target_": "Stop", "patience": 3, "dirpath": "/x"}, "bar": None, "mine": {"filename": "x"}},
}
OWN = {
    "seed": 1,
    "data": {"_target_": "Data", "size": 32, "source": {"_target_": "digits"}, "augment": []},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.005},
    "scheduler": {"_target_": "OneCycle"},
    "trainer": {"_target_": "Trainer", "max_epochs": 10, "accelerator": "auto", "default_root_dir": "${output}"},
    "plugin": {},
    "callbacks": {"stop": {"_target_": "Stop", "patience": 9, "dirpath": "o"}, "bar": {"_target_": "Bar"}, "new": {}},
}


def after(*overrides: str, same: tuple[str, ...] = (), **own) -> dict:
    asked = Asked.by(list(overrides), frozenset(same))
    now = {**OWN, **own}
    return {key: inherited(now.get(key, NONE), THEIRS.get(key, NONE), asked, key) for key in now}


def test_what_is_not_given_stays_but_where_it_goes_on_is_the_commands_own():
    found = after("checkpoint=run")
    assert {key: found[key] for key in ("seed", "data", "optimizer", "scheduler", "plugin")} == {
        key: THEIRS[key] for key in ("seed", "data", "optimizer", "scheduler", "plugin")
    }
    assert found["trainer"] == {**OWN["trainer"], "max_epochs": 2, "max_steps": 9}
    stop = {"_target_": "Stop", "patience": 3, "dirpath": "o"}
    assert found["callbacks"] == {"stop": stop, "bar": None, "new": {}, "mine": {}}


def test_what_is_given_wins_also_where_it_is_the_default():
    given = ["seed=1", "++trainer.max_epochs=10", "data.augment=[]", "callbacks.bar.leave=true", "~trainer.max_steps"]
    found = after(*given)
    assert found["seed"] == 1 and found["data"] == {**THEIRS["data"], "augment": []}
    assert found["trainer"] == OWN["trainer"] and found["callbacks"]["bar"] == {"_target_": "Bar"}


def test_another_option_of_a_group_brings_its_own_settings_and_the_same_keeps_those_of_the_run():
    assert after("optimizer=adamw")["optimizer"] == OWN["optimizer"]
    again = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.9}}
    assert after("optimizer=sgd", same=("optimizer",), **again)["optimizer"] == THEIRS["optimizer"]
    assert after("optimizer=sgd", "optimizer.lr=0.05", same=("optimizer",), **again)["optimizer"]["lr"] == 0.05
    assert after("data=mnist", data={"_target_": "Data", "size": 28})["data"] == {"_target_": "Data", "size": 28}
    own = {"_target_": "Adam", "lr": 1}
    assert after("optimizer={_target_: Adam, lr: 1}", optimizer=own)["optimizer"] == own
    assert after("experiment=mnist") == OWN and after("experiment=mnist", same=("experiment",))["seed"] == 5


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("+plugin=nmf", {"nmf", "saliency"}),
        ("plugin=nmf", {"nmf"}),
        ("+plugin.nmf.groups=8", {"nmf", "saliency"}),
    ],
)
def test_studies_are_added_or_replaced_and_keep_their_settings(override, names):
    found = after(override, plugin={"nmf": {"_target_": "NMF", "groups": 6, "layer": None}})["plugin"]
    assert set(found) == names and found["nmf"]["groups"] == (6 if "groups" in override else 8)


def test_studies_under_a_name_of_their_own_are_given():
    own = {"second": {"_target_": "NMF", "groups": 6}}
    assert after("+plugin@plugin.second=nmf", plugin=own)["plugin"] == {**THEIRS["plugin"], **own}
    other = {"nmf": {"_target_": "Mine", "depth": 1}}
    assert after("+plugin.nmf={_target_: Mine, depth: 1}", plugin=other)["plugin"]["nmf"] == other["nmf"]


def test_hidden_secrets_do_not_come_back():
    theirs, asked = {"token": "(hidden)", "address": "http://me:(hidden)@host", "size": 3}, Asked.by([], frozenset())
    assert inherited({"size": 1}, theirs, asked, "data") == {"size": 3}
    assert inherited({"token": "mine"}, theirs, asked, "data") == {"token": "mine", "size": 3}


def test_changes_are_named_one_by_one():
    pairs = {key: list(changes(THEIRS[key], OWN[key], key)) for key in THEIRS}
    assert pairs["seed"] == ["seed 5 -> 1"] and pairs["data"] == ["data.size 16 -> 32", "data.augment ['flip'] -> []"]
    assert pairs["optimizer"] == ["optimizer SGD -> AdamW"] and pairs["scheduler"] == ["scheduler none -> OneCycle"]
    assert pairs["trainer"] == ["trainer.max_epochs 2 -> 10", "trainer.max_steps 9 -> none"]
    assert pairs["plugin"] == ["plugin.nmf NMF -> none", "plugin.saliency Saliency -> none"]
