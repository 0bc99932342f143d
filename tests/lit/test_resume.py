"""What a resumed run takes along: the best score, the epochs in their order, the layers that studies have chosen."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from interp.lit.checkpoints import earlier
from interp.lit.checkpoints.checkpoint import RunCheckpoint
from interp.lit.checkpoints.file import write_checkpoint
from interp.lit.checkpoints.resume import carry_over
from interp.lit.run_folder.files import read_figures
from interp.looks import look_folder, looks
from plugins.base import network
from plugins.class_attribution import ClassAttributionPlugin
from plugins.dissection import DissectionPlugin
from plugins.nmf import NMFPlugin
from plugins.report import draw_last
from plugins.saliency import SaliencyPlugin
from plugins.similarity import SimilarityPlugin
from tests.studies import Confidence, ConfidencePlugin


def test_epochs_are_in_the_order_of_their_numbers(tmp_path):
    study = tmp_path / "results" / "sure"
    for epoch in (9999, 10000, 3):
        Confidence(torch.tensor([epoch / 1e5])).save(look_folder(study, epoch), epoch=epoch)
    for name in ("epoch=9999_keep", "epoch=", "epoch=x", "epoch=12345678901", "epoch=\N{ARABIC-INDIC DIGIT THREE}"):
        (study / name).mkdir()
    assert [epoch for epoch, _ in looks(study)] == [3, 9999, 10000]
    followed: list[float] = []

    class Follows(Confidence):
        def following(self, previous: Confidence) -> Confidence:
            followed.append(round(float(previous.highest), 5))
            return self

    for epoch in (10001, 10000, 3):
        ConfidencePlugin(name="sure").continued(Follows(torch.zeros(1)), study, epoch=epoch)
    assert followed == [0.1, 0.09999]
    assert draw_last(tmp_path) == 1 and (study / "epoch=10000" / "bars.png").is_file()
    (figure,) = read_figures(tmp_path, [], {})
    assert [shot.epoch for shot in figure.shots] == [10000]


def test_what_a_person_has_named_stays_where_a_run_is_resumed(tmp_path):
    study, looked = tmp_path / "results" / "nmf", ("epoch=0001", "epoch=0001_keep", "epoch=0002", "epoch=0002_keep")
    for folder in (tmp_path / ".hydra", tmp_path / "checkpoints", *(study / name for name in looked)):
        folder.mkdir(parents=True)
    carry_over(tmp_path / "checkpoints" / "last.ckpt", {"epoch": 0}, tmp_path)
    assert {path.name for path in study.iterdir()} == {"epoch=0001", "epoch=0001_keep", "epoch=0002_keep"}


def test_the_best_score_is_known_without_its_checkpoint(tmp_path):
    best = RunCheckpoint(dirpath=tmp_path, monitor="val/accuracy", mode="max", filename="best")
    score, old = torch.tensor(0.99), "/old/best.ckpt"
    best.load_state_dict(
        {"best_model_path": old, "kth_best_model_path": old, "last_model_path": "", "best_k_models": {old: score},
         "best_model_score": score, "kth_value": score, "monitor": "val/accuracy", "dirpath": "/old",
         "current_score": torch.tensor(0.9)}
    )  # fmt: skip
    assert best.best_model_score == score and best.best_model_path == str(tmp_path / "best.ckpt")
    assert not best.check_monitor_top_k(
        SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool)), score / 2
    )


@pytest.mark.parametrize("same", [False, True])
def test_a_best_checkpoint_of_a_later_epoch_is_not_that_of_the_resumed_run(tmp_path, same, caplog):
    run, new = tmp_path / "run", tmp_path / ("run" if same else "new")
    (run / ".hydra").mkdir(parents=True)
    for name, epoch in (("third", 2), ("best", 4)):
        write_checkpoint({"state_dict": {}, "epoch": epoch}, run / "checkpoints" / f"{name}.ckpt")
    carry_over(run / "checkpoints" / "third.ckpt", {"epoch": 2}, new)
    assert not (new / "checkpoints" / "best.ckpt").exists()
    assert (tmp_path / "run" / ("earlier/1/" if same else "") / "checkpoints" / "best.ckpt").is_file()
    if not same:
        (run / "checkpoints" / "best.ckpt").write_bytes(b"torn")
        carry_over(run / "checkpoints" / "third.ckpt", {"epoch": 2}, tmp_path / "newer")
        assert "cannot read the checkpoint" in caplog.text and (tmp_path / "newer/checkpoints/last.ckpt").is_file()


CHOOSE = {
    NMFPlugin: {"icon_steps": 0, "restarts": 0, "sweeps": 2},
    ClassAttributionPlugin: {},
    SaliencyPlugin: {"methods": ["gradient", "grad_cam"], "checks": "none"},
    SimilarityPlugin: {"images": 20},
    DissectionPlugin: {"images": 100},
}


@pytest.mark.parametrize("kind", CHOOSE)
def test_a_study_looks_where_it_did_before_the_run_was_resumed(net, digits, kind):
    first = kind(name="study", **CHOOSE[kind])
    first.look(net, digits.probe)
    state = first.state_dict()
    ((key, chosen),) = state.items()
    names = [chosen] if isinstance(chosen, str) else chosen
    assert names and set(names) <= {name for name, _ in net.body.named_modules()}
    assert json.loads(json.dumps(state)) == state

    def resumed(state: dict, **given) -> object:
        study = kind(name="study", at_start=False, **CHOOSE[kind] | given)
        study.load_state_dict(state)
        study.on_train_start(SimpleNamespace(global_step=4, model=net), SimpleNamespace(net=net))
        return getattr(study, key)

    other = "block1" if isinstance(chosen, str) else ["block1"]
    assert resumed({key: other}) == other
    assert resumed({key: "gone" if isinstance(chosen, str) else ["block1", "gone"]}) in (None, [])
    assert resumed({key: other}, **{key: "block2"}) in ("block2", ["block2"])
    assert network(SimpleNamespace(net=net)) is net


TINY = ("model.widths=[2,4,4]", "data.size=8", "trainer.limit_val_batches=1", "test=false", "scheduler=none",
        "trainer.max_epochs=9")  # fmt: skip


@pytest.mark.parametrize("odd", [{"settings": [1], "options": 3}, {}, {"settings": "x"}])
def test_odd_settings_in_a_checkpoint_are_none(tmp_path, odd):
    states = {"Continuity": odd, "EarlyStopping{'monitor': 'a', 'mode': 'min'}": {"wait_count": "x"}}
    content = {"state_dict": {"a": torch.zeros(1)}, "epoch": 1, "optimizer_states": [], "callbacks": states}
    torch.save(content, tmp_path / "last.ckpt")
    stopping = {"monitor": "a", "mode": "min", "patience": 1}
    cfg = OmegaConf.create({"checkpoint": str(tmp_path / "last.ckpt"), "callbacks": {"early_stopping": stopping}})
    run = earlier.find(cfg)
    assert (run.settings, run.options, run.stopped(cfg)) == ({}, {}, False)
    assert run.changes(cfg).endswith("after epoch 2: its settings are not known, so this command's hold")


FIRST_IS_BEST = tuple(f"callbacks.early_stopping.{setting}" for setting in ("monitor=epoch", "mode=min"))


def test_early_stopping_takes_the_patience_that_is_given_and_knows_that_it_has_stopped(train, tmp_path, caplog):
    def go(name: str, patience: int, *more: str):
        return train(tmp_path / name, *TINY, *FIRST_IS_BEST, f"callbacks.early_stopping.patience={patience}", *more)

    assert go("run", 1).checkpoint()["epoch"] + 1 == 2
    (tmp_path / "run" / ".hydra").mkdir()
    with caplog.at_level(logging.INFO):
        go("again", 1, f"checkpoint={tmp_path}/run")
    said = "is finished: it stopped early, after 2 epochs. To train on give callbacks.early_stopping.patience=MORE"
    assert said in caplog.text and not (tmp_path / "again").exists()
    assert go("more", 3, f"checkpoint={tmp_path}/run").checkpoint()["epoch"] + 1 == 4
    (tmp_path / "run" / ".run.json").write_text('{"ended": ""}')  # killed before it had come to its end
    assert go("end", 1, f"checkpoint={tmp_path}/run").checkpoint()["epoch"] + 1 == 2
