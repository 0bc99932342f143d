"""Weights that other people's code has saved: read where they fit, else refused with the true reason."""

import argparse
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from interp.errors import UserError
from interp.lit.checkpoints.earlier import Earlier
from interp.lit.checkpoints.find import find_checkpoint
from interp.lit.checkpoints.foreign_weights import best_fit
from interp.lit.classifier import load_file
from interp.lit.models import small_cnn
from interp.network.layers import Normalized
from tests.conftest import identical
from tests.typed import TINY, typed

NAMES = tuple(map(str, range(10)))


def small(classes: int = 10, width: int = 4, blocks: int = 2) -> nn.Sequential:
    layers = [nn.Sequential(nn.Conv2d(3 if i == 0 else width, width, 3), nn.BatchNorm2d(width)) for i in range(blocks)]
    named = {f"block{number + 1}": layer for number, layer in enumerate(layers)}
    net = nn.Sequential()
    for name, module in {**named, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}.items():
        net.add_module(name, module)
    net.add_module("head", nn.Linear(width, classes))
    return net


def wrapped(body: nn.Module) -> Normalized:
    return Normalized(body, [0.5] * 3, [0.5] * 3).eval()


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{name}": tensor.clone() for name, tensor in state.items()}


def lightning(state: dict) -> dict:
    noise = {"net.loss.weight": torch.ones(1000), "metric.total": torch.zeros(())}
    return {"state_dict": prefixed(state, "net.body.") | noise, "epoch": 3, "hyper_parameters": {"lr": 0.1},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}]}  # fmt: skip


def reference_script(state: dict) -> dict:
    """As torchvision's own training script saves it."""
    return {"model": state, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
            "args": argparse.Namespace(lr=0.1), "epoch": 90}  # fmt: skip


FORMS = {
    "plain": dict,
    "module": lambda state: prefixed(state, "module."),
    "model": lambda state: prefixed(state, "model."),
    "net": lambda state: prefixed(state, "net."),
    "compiled": lambda state: prefixed(state, "_orig_mod.module."),
    "lightning": lightning,
    "nested": reference_script,
    "constant": lambda state: {"ours": prefixed(state, "what.ever.")},
    "averaged": lambda state: {"model": {k: torch.zeros_like(v) for k, v in state.items()},
                               "model_ema": prefixed(state, "module.") | {"n_averaged": torch.tensor(7)}},
    "inside": lambda state: prefixed(state, "body."),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_saving_weights_is_read(tmp_path, form):
    source, net = small(), wrapped(small())
    torch.save(FORMS[form](source.state_dict()), tmp_path / "weights.pth")
    load_file(net, NAMES, tmp_path / "weights.pth")
    assert identical(dict(net.body.state_dict()), dict(source.state_dict()))


def test_the_averaged_weights_are_taken_of_two_and_a_place_is_told_once():
    state = wrapped(small()).state_dict()
    both = {**prefixed(state, "net."), **prefixed(state, "ema_net.")}
    fit = best_fit(state, {"state_dict": both})
    assert fit is not None and fit.whole
    assert (fit.place, fit.alike) == ("state_dict: ema_net.body.", ("state_dict: net.body.",))
    assert len(fit.left_over) == 16 and best_fit(state, prefixed(state, "net.")).alike == ()
    more = best_fit(
        state, prefixed(state, "net.") | {"net.body.aux.weight": torch.ones(2), "loss.weight": torch.ones(2)}
    )
    assert more.whole and len(more.left_over) == 2


def test_resnet18_saved_in_six_ways_gives_the_same_logits(tmp_path, caplog):
    torch.manual_seed(0)
    source, net = wrapped(resnet18(num_classes=10)), wrapped(resnet18(num_classes=10))
    state, images = source.body.state_dict(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        logits = source(images)
        save_file(state, tmp_path / "six.safetensors")
        for way in ("plain", "module", "model", "compiled", "lightning", "six"):
            path = tmp_path / ("six.safetensors" if way == "six" else "weights.pt")
            if way != "six":
                torch.save(FORMS[way](state), path)
            net.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in net.state_dict().items()})
            caplog.clear()
            with caplog.at_level("INFO"):
                load_file(net, NAMES, path)
            assert torch.equal(net(images), logits) and "122 tensors fit" in caplog.text, way


def test_a_network_without_our_wrapper_and_a_folder_with_a_model(tmp_path):
    source, net = small(), small()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    load_file(net, NAMES, find_checkpoint(str(tmp_path), ("best.ckpt",), key="weights"))
    assert identical(dict(net.state_dict()), dict(source.state_dict()))
    with pytest.raises(UserError, match=r"no best.ckpt in"):
        find_checkpoint(str(tmp_path), ("best.ckpt",))


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


REFUSED = {
    "code": (lambda: {"model": Evil()}, r"it needs \w*\.?exec, and no code is run for a file: save net.state_dict\(\)"),
    "whole": (lambda: small(), r"it needs [\w.]+, and no code is run for a file"),
    "numpy": (lambda: {"best": np.float64(0.5)}, "it needs numpy"),
    "no tensors": (lambda: {"epoch": 3, "lr": 0.1}, "holds no tensors by name, but epoch, lr: save net.state_dict"),
    "list": (lambda: [torch.zeros(3)], "holds a list, no dictionary of weights: save net.state_dict"),
    "other names": (
        lambda: resnet18().state_dict(),
        r"none of its 122 tensors fits the network. It has conv1.weight \(64 x 3 x 7 x 7\), .*; the network has "
        r"block1.0.weight \(4 x 3 x 3 x 3\), .*Give the model that they were saved from, such as model=torchvision",
    ),
    "wider": (
        lambda: small(width=5).state_dict(),
        r"another network: 3 of the network's 16 tensors fit; of another shape: 13 \(block1.0.weight 5 x 3 x 3 x 3, "
        r"in the network 4 x 3 x 3 x 3\)",
    ),
    "shallower": (lambda: small(blocks=1).state_dict(), r"missing: 6 \(block2.0.weight, block2.0.bias, .*\)"),
    "deeper": (
        lambda: small(blocks=3).state_dict(),
        r"16 of the network's 16 tensors fit; without a place in it: 6 \(block3.0.weight, ",
    ),
    "head": (
        lambda: small(classes=1000).state_dict(),
        "its last layer head answers for 1000 classes, the data has 10: weights_head=new reads all other weights",
    ),
    "headless": (
        lambda: {k: v for k, v in small().state_dict().items() if "head" not in k},
        "its last layer head is missing in the file, the data has 10: weights_head=new",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_with_the_true_reason_and_nothing_is_changed(tmp_path, kind):
    make, reason = REFUSED[kind]
    net = wrapped(small())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.save(make(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=reason) as caught:
        load_file(net, NAMES, tmp_path / "weights.pth")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert identical(dict(net.state_dict()), before)


def test_a_damaged_or_missing_safetensors_file_is_named(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match=r"cannot read the weights .*weights.safetensors: "):
        load_file(small(), NAMES, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"no weights .*typo.safetensors"):
        load_file(small(), NAMES, tmp_path / "typo.safetensors")


@pytest.mark.parametrize("classes", [7, 10])
def test_a_new_head_stays_as_it_was_built(tmp_path, classes, caplog):
    source, net = small(classes), wrapped(small())
    head = net.body.head.weight.clone()
    torch.save(prefixed(source.state_dict(), "module."), tmp_path / "weights.pth")
    with caplog.at_level("INFO"):
        load_file(net, NAMES, tmp_path / "weights.pth", "new")
    assert torch.equal(net.body.head.weight, head)
    assert torch.equal(net.body.block2[0].weight, source.block2[0].weight)
    said = "14 tensors fit (under module.); the last layer head is new, and random until it is trained; 2 left over"
    assert said in caplog.text and "normalised with mean [0.5, 0.5, 0.5] and std" in caplog.text


def test_a_network_that_wraps_another_takes_the_weights_of_the_one_inside():
    inside, net = small(), nn.ModuleDict({"encoder": small()})
    fit = best_fit(net.state_dict(), {"state_dict": prefixed(inside.state_dict(), "student.")})
    assert fit is not None and fit.whole and fit.place == "state_dict: student."
    assert torch.equal(fit.matched["encoder.head.weight"], inside.head.weight)


def test_layers_that_serve_training_alone_and_old_files_without_counters_are_no_hindrance():
    state = small().state_dict()
    old = {name: t for name, t in state.items() if "num_batches" not in name} | {"aux1.conv.weight": torch.ones(4, 4)}
    fit = best_fit(state, old)
    assert fit is not None and fit.whole and fit.left_over == ("aux1.conv.weight",)


@pytest.mark.parametrize("classes", [3, 10])
def test_a_run_of_ours_can_give_its_weights_without_its_head(tmp_path, classes):
    source, net = wrapped(small(classes)), wrapped(small())
    kept = {"state_dict": prefixed(source.state_dict(), "net."), "class_names": list(NAMES[:classes]), "epoch": 2}
    torch.save(kept, tmp_path / "last.ckpt")
    if classes != 10:
        with pytest.raises(UserError, match="the checkpoint knows 3 classes"):
            load_file(net, NAMES, tmp_path / "last.ckpt")
    load_file(net, NAMES, tmp_path / "last.ckpt", "new" if classes != 10 else None)
    assert torch.equal(net.body.block2[0].weight, source.body.block2[0].weight)
    assert torch.equal(net.body.head.weight, source.body.head.weight) == (classes == 10)


def test_a_file_made_to_be_slow_is_read_at_once():
    circle: dict = {f"{number}": torch.zeros(3) for number in range(100)}
    circle |= {"a." * 10**6: torch.ones(2)} | {f"again{number}": circle for number in range(100)}
    fit = best_fit(small().state_dict(), circle)
    assert fit is not None and not fit.matched


COMMANDS = [
    (["weights=w.pth", "checkpoint=run", "+plugin=nmf"], "analyze", "both say what the network knows"),
    (["weights=w.pth", "weights_head=old"], "train", "weights_head=old: wanted is new"),
    (["weights_head=new"], "train", "weights_head=new is of weights, and none are given"),
    (["weights=3.5"], "train", "weights=3.5: give a checkpoint file or a run folder"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "script", "said"), COMMANDS)
def test_commands_that_contradict_themselves_are_refused(tmp_path, arguments, script, said):
    ended = typed(tmp_path, *(TINY if script == "train" else ["data.size=8"]), *arguments, script=script)
    assert ended.code == 1 and re.search(said, ended.said) and ended.said.count("\n") == 1, ended.said


def small_cnn_weights(folder, classes: int = 10) -> None:
    """Those of `model=small_cnn` with TINY's widths, as a plain loop would save them."""
    data = SimpleNamespace(size=8, channels=1, class_names=NAMES[:classes], normalization=([0.5], [0.5]))
    body = small_cnn(data, widths=[2, 4, 4]).body
    torch.save({"model": prefixed(body.state_dict(), "module."), "epoch": 4}, folder / "w.pth")


def test_an_analysis_of_foreign_weights_says_what_fits(tmp_path):
    small_cnn_weights(tmp_path)
    arguments = ["data.size=8", "model.widths=[2,4,4]", "weights=w.pth", "+plugin.sure={_target_: "
                 "tests.studies.ConfidencePlugin}", "logger=none", "accelerator=cpu", "output=run"]  # fmt: skip
    ended = typed(tmp_path, *arguments, script="analyze")
    assert ended.code == 0 and "w.pth: 20 tensors fit (under model: module.)" in ended.said, ended.said
    assert "no checkpoint is given" not in ended.said
    assert (tmp_path / "run" / "results" / "sure" / "epoch=0000" / "result.json").is_file()


def test_a_training_starts_from_foreign_weights_with_a_new_head(tmp_path):
    small_cnn_weights(tmp_path, classes=3)
    start = [*TINY, "weights=w.pth", "weights_head=new", "trainer.max_epochs=1", "output=run"]
    ended = typed(tmp_path, *start, "optimizer=sgd", "optimizer.lr=1e-30", "scheduler=none")
    assert ended.code == 0 and "18 tensors fit (under model: module.); the last layer head is new" in ended.said, (
        ended.said
    )
    saved = torch.load(tmp_path / "w.pth", weights_only=True)["model"]["module.block1.conv.weight"]
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(last["net.body.block1.conv.weight"], saved)


def test_a_run_is_resumed_with_the_command_that_began_it_and_with_no_other_weights():
    began = Earlier(Path("run"), {"epoch": 0}, {"weights": "w.pth"}, {})
    for weights in ("w.pth", None):
        began.check_weights(OmegaConf.create({"weights": weights, "checkpoint": "run"}))
    with pytest.raises(UserError, match=r"weights=other.pth starts a training anew and checkpoint=run resumes one"):
        began.check_weights(OmegaConf.create({"weights": "other.pth", "checkpoint": "run"}))
