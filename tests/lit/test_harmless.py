"""Settings in a stranger's configuration: as strict as names; nothing is run, loaded, fetched or filled with them."""

import os
import re
import socket
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

import analyze
from conf.check import CONF
from interp.errors import UserError
from interp.lit.safety.foreign import _Door, admitted, examples, settings
from interp.lit.torchvision_models import _as_with
from tests.lit.test_foreign import composed, job, run_of  # noqa: F401  # fixtures

V2, NN = "torchvision.transforms.v2.", "torch.nn."
TIMM = {"_target_": "interp.lit.models.timm", "_partial_": True, "name": "resnet18", "pretrained": False}
TORCHVISION = {"_target_": "interp.lit.models.torchvision", "_partial_": True, "name": "resnet18", "weights": None}
SMALL = {"_target_": "interp.lit.models.small_cnn", "_partial_": True}
LOOK, CROP = {"_target_": "hydra.utils.get_class", "path": "torchvision.datasets.MNIST"}, f"{V2}RandomCrop"
HOSTILE = ["evil.pth", "/etc/passwd", "http://evil.test/x", "hf-hub:evil/x", "__import__('os').system('x')", "a b", "",
           {"file": "evil.pth"}, {"url": "http://evil.test"}, ["evil.pth"], 2**40, [2**40], float("inf"), [1] * 100,
           [[[["x"]]]], {"a": {"b": "c"}}]  # fmt: skip
REFUSED = [
    *({**TIMM, key: value} for key in ("checkpoint_path", "pretrained_cfg", "cache_dir", "x") for value in HOSTILE),
    *({**TIMM, "pretrained_cfg_overlay": value} for value in ({"file": "evil.pth"}, {"url": "http://evil.test/x"})),
    *({**TIMM, "name": name} for name in ("hf-hub:evil/x", "local-dir:/x", "/x", "..", "a/b", "a\\b", "x" * 999, "é")),
    {**TIMM, "_args_": ["evil.pth"]}, {**TIMM, "act_layer": "evil;/x"}, {**TIMM, "options": {"checkpoint_path": "x"}},
    {**TORCHVISION, "weights": "/evil.pth"}, {**TORCHVISION, "weights": "http://evil.test"}, {**TORCHVISION, "more": 1},
    {**TORCHVISION, "weights": {"url": "x"}}, {**SMALL, "widths": [8, 2**40]}, {**SMALL, "widths": [8] * 65},
    {**SMALL, "dropout": "0.1"}, {**SMALL, "data": 1}, {**SMALL, "_args_": [1]}, {**SMALL, "_partial_": "yes"},
    {**SMALL, "_convert_": "evil"}, {**SMALL, "_recursive_": [False]}, {**SMALL, "unheard_of": None},
    {"_target_": f"{NN}Sequential", "_args_": ["evil.pth"]}, {"_target_": f"{NN}Linear", "in_features": "4"},
    {"_target_": f"{NN}Linear", "in_features": 2**40}, {"_target_": f"{NN}GELU", "approximate": "evil"},
]  # fmt: skip
OF_DATA = [
    *((key, value) for key in ("size", "mean", "batch_size", "augment") for value in HOSTILE),
    ("num_workers", 10**6), ("size", 10**9), ("root", "data"), ("transform", "evil"), ("loader", 1), ("unheard_of", {}),
    ("augment", [{"_target_": f"{V2}ToPILImage", "mode": "/etc/passwd"}]),
    ("augment", [{"_target_": f"{V2}Lambda", "lambd": "__import__('os')"}]),
    ("augment", [{"_target_": f"{V2}Compose", "_args_": [["evil.pth"]]}]), ("augment", [{"unheard_of": 3}]),
    ("augment", {"_target_": CROP, "size": 2**40}), ("augment", [{"_target_": CROP, "size": 32, "x": "evil.pth"}]),
    ("dataset", {"_target_": "torchvision.datasets.MNIST", "root": ".", "download": True}),
    ("dataset", {**LOOK, "_args_": ["os.system"]}), ("dataset", {**LOOK, "root": "."}),
    ("source", {"_target_": "interp.lit.data.digits.digits", "_partial_": True, "size": "evil"}),
]  # fmt: skip
ALLOWED = [
    {**TIMM, "name": "vit_tiny_patch16_224.augreg_in21k", "patch_size": 4, "global_pool": "avg", "depths": [1, 2]},
    {**TIMM, "act_layer": {"_target_": "hydra.utils.get_class", "path": f"{NN}GELU"}, "drop_rate": 0.1, "bias": None},
    {**TORCHVISION, "name": "googlenet", "weights": "IMAGENET1K_V1"},
    {**SMALL, "widths": [8, 16], "dropout": 0.5, "_convert_": "all", "_recursive_": False},
    {"_target_": CROP, "size": [32, 32], "padding": 4, "padding_mode": "reflect", "fill": 0},
    {"_target_": f"{V2}RandomApply", "transforms": [{"_target_": f"{V2}ColorJitter", "hue": [0.1, 0.2]}], "p": 0.5},
    {"_target_": f"{V2}RandomRotation", "degrees": 5,
     "interpolation": {"_target_": "torchvision.transforms.InterpolationMode", "value": "bilinear"}},
    {"_target_": f"{NN}Sequential", "_args_": [{"_target_": f"{NN}Conv2d", "_args_": [3, 3, 3], "padding": "same"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def doors(composed):  # noqa: F811
    """Of each group, with nothing given or trusted, and its YAML files as they are composed."""
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().set_config(composed)
    return {group: _Door(Path("a-run/config.yaml"), examples(group), (), []) for group in ("data", "model")}


def yaml(group: str, name: str) -> dict:
    node = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    shared = OmegaConf.to_container(OmegaConf.load(CONF / "loading.yaml")) if node.pop("defaults", None) else {}
    return {**shared, **node}


@pytest.mark.parametrize("group", ["model", "data"])
def test_what_is_no_plain_setting_is_refused_in_one_line_with_the_way_out(doors, group):
    digits = yaml("data", "digits")
    nodes = REFUSED if group == "model" else [{**digits, key: value} for key, value in OF_DATA]
    for node in nodes:
        with pytest.raises(UserError, match=rf"^{group}\.\S+=.* in a-run/config.yaml is refused: ") as error:
            doors[group].walk(node, group)
        said = str(error.value)
        assert ("yourself, or trust=[" in said or "give trust=[" in said) and "\n" not in said and len(said) < 600


def test_every_text_and_size_in_every_yaml_of_ours_is_held(doors):
    held = 0
    for group, door in doors.items():
        for file in sorted((CONF / group).glob("*.yaml")):
            node = yaml(group, file.stem)
            door.walk(node, group)
            for key in {*node, "unheard_of"} - {"_target_"}:
                for value in ("http://evil.test/x", {"evil": 1}, 10**30):
                    with pytest.raises(UserError, match=rf"^{group}.{key}=.* is refused"):
                        door.walk({**node, key: value}, group)
                    held += 1
    assert held > 300


def test_plain_settings_pass(doors):
    for node in ALLOWED:
        doors["model"].walk(node, "model")
        if not node["_target_"].startswith("interp"):
            doors["data"].walk({**yaml("data", "digits"), "augment": [node]}, "data")
    plain = {"num_workers": 16, "mean": [0.5], "std": [0.2], "split_seed": 2**62, "size": 224, "batch_size": 1}
    doors["data"].walk({**yaml("data", "digits"), **plain}, "data")
    doors["data"].walk({**yaml("data", "images"), "root": ".", "class_names": ["a b", "http://c"]}, "data")


NMF, ADAMW = "plugins.nmf.NMFPlugin", "torch.optim.AdamW"
BEST = "interp.lit.checkpoints.checkpoint.RunCheckpoint"
OF_A_RUN = [
    (
        "plugin",
        {"nmf": {"_target_": NMF, "layer": "layer3.0", "classes": ["traffic light", "T-shirt/top"], "groups": 9}},
    ),
    ("optimizer", {"_target_": ADAMW, "betas": [0.9, 0.95], "weight_decay": 0.1, "amsgrad": True}),
    ("scheduler", {"_target_": "torch.optim.lr_scheduler.StepLR", "_partial_": True, "step_size": 30}),
    ("trainer", {"_target_": "lightning.Trainer", "precision": "bf16-mixed", "enable_progress_bar": False}),
    ("callbacks", {"checkpoint": {"_target_": BEST, "monitor": "val/loss", "mode": "min"}}),
]


@pytest.mark.parametrize(("group", "node"), OF_A_RUN)
def test_of_a_run_that_is_resumed_names_are_taken_and_no_paths(composed, job, tmp_path, group, node):  # noqa: F811
    like = {"checkpoint": {"_target_": BEST, "monitor": "val/accuracy", "mode": "max"}}
    assert admitted(node, group, (), (), tmp_path, like) == node
    inner = node if "_target_" in node else next(iter(node.values()))
    for key in inner.keys() - {"_target_", "_partial_"}:
        for value in (
            "/etc/passwd",
            "http://evil.test",
            "../evil.pth",
            "~/x",
            "a\nb",
            "x" * 100,
            {"evil": "x"},
            10**30,
        ):
            with pytest.raises(UserError, match=rf"^{group}\.\S*{key}=.* is refused"):
                admitted({"x": {**inner, key: value}}, group, (), (), tmp_path, like)


def test_a_root_is_a_folder_of_this_machine(doors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("file").touch()
    for root in ("here", "not/here", "~", str(tmp_path)):
        doors["data"].walk({**yaml("data", "images"), "root": root}, "data")
    for root in ("http://evil.test/x", "s3://evil/x", "file:///etc", "//evil/share", "\\\\evil\\share", "a\nb",
                 "a\x1bb", "pipe", "/dev/zero", "file", ["pipe"], {"a": 1}):  # fmt: skip
        with pytest.raises(UserError, match=r"^data.root=.* is refused: "):
            doors["data"].walk({**yaml("data", "images"), "root": root}, "data")


def test_what_the_user_trusts_or_gives_takes_any_setting(tmp_path):
    path = run_of(tmp_path, model={**TIMM, "checkpoint_path": "own.pth"}, data__note="mine")
    with pytest.raises(UserError, match=r"data.note=mine"):
        settings(path, ("data", "model"), [], ["interp.lit.models.timm"])
    trusted = ["interp.lit.models.timm", "interp.lit.data.digits.digits"]  # whose settings stand beside it
    for given, trust in ((["model.checkpoint_path", "data.note"], []), ([], trusted), ([], "all")):
        assert settings(path, ("data", "model"), given, trust).model.checkpoint_path == "own.pth"
    path = run_of(tmp_path, data__note="mine", data__augment=[{"_target_": "os.system"}])
    with pytest.raises(UserError, match=r"data.augment\[0\]._target_=os.system"):
        settings(path, ("data",), [], trusted)


def test_trust_is_a_list_of_whole_names(tmp_path):
    path = run_of(tmp_path, model={"_target_": "os.system"})
    for trust in ("os.system.x", "os.systems", "xos.system", "o", "all.os.system", ["os.system.x"], ["all", "x"], ""):
        with pytest.raises(UserError, match=r"model._target_=os.system in .* is refused"):
            settings(path, ("model",), [], trust)
    for trust in ("os.system", ["os.system"], "all", ["all"]):
        assert settings(path, ("model",), [], trust).model._target_ == "os.system"


@pytest.fixture
def offline(monkeypatch):
    """No connection, no look-up of a host's name."""
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("the network was reached for"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was reached for"))


def network(folder: Path, composed, overrides=(), **changes) -> analyze.Network:  # noqa: F811
    """What `analyze.py` builds of a run with these settings and the weights in its checkpoint."""
    run_of(folder, **changes)
    cfg = OmegaConf.merge({key: composed[key] for key in composed if key != "hydra"}, *overrides)
    return analyze.Network(cfg, "", folder / "checkpoints" / "last.ckpt", 0)


def weights(folder: Path, net: nn.Module, names) -> None:
    content = {
        "state_dict": {f"net.{k}": v for k, v in net.state_dict().items()},
        "class_names": list(names),
        "epoch": 1,
    }
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("model", [
    {**TORCHVISION, "name": "shufflenet_v2_x0_5", "weights": "DEFAULT"},
    {**TIMM, "name": "test_resnet.r160_in1k", "pretrained": True}, {**TIMM, "name": "test_resnet", "pretrained": True},
], ids=["torchvision", "timm", "timm's default"])  # fmt: skip
def test_a_checkpoint_s_own_weights_need_no_others_from_elsewhere(tmp_path, composed, digits, offline, model):  # noqa: F811
    from interp.lit import models

    if "timm" in model["_target_"]:
        pytest.importorskip("timm", reason="pip install -e '.[pretrained]'")
    options = {key: value for key, value in model.items() if not key.startswith("_")}
    built = getattr(models, model["_target_"].rpartition(".")[2])(digits, **options, download=False)
    weights(tmp_path, built, digits.class_names)
    net = network(tmp_path, composed, model=model, data__size=16).net
    assert torch.equal(net.mean, built.mean) and len(net.mean) == 3  # of its weights: the digits' own is another
    assert abs(float(net.mean[0]) - digits.normalization[0][0]) > 0.1
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), built.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10"])
def test_a_stranger_s_data_are_not_downloaded_unasked(tmp_path, composed, offline, name):  # noqa: F811
    weights(tmp_path / "run", nn.Identity(), "ab")
    data = {**yaml("data", "mnist"), "dataset": {**LOOK, "path": f"torchvision.datasets.{name}"}, "root": str(tmp_path)}
    for download in (True, None):  # as it is written today, and as before
        own = {key: value for key, value in data.items() if download or key != "download"}
        with pytest.raises(UserError, match=rf"^{name} is not in data.root=.*: put .* there, or .* data.download=true"):
            network(tmp_path / "run", composed, data=own)
    path = run_of(tmp_path / "run", data=data)
    assert settings(path, ("data",), ["data.download"], []).data.download is True  # the user's own wins over both


@pytest.mark.parametrize(("changes", "said"), [
    ({"data__size": 4000}, "take more than half of the free memory: give their sizes yourself, or trust=all"),
    ({"model": {**SMALL, "widths": [2**17, 2**17]}}, "take more than half of the free memory"),
    ({"data__size": None}, "cannot be built \\(data.size=null: wanted is a whole number, such as 32\\): give data="),
    ({"data__mean": True, "data__std": True}, "cannot be built"), ({"model__widths": 5}, "cannot be built"),
    ({"model__dropout": 5}, "cannot be built"),
])  # fmt: skip
def test_sizes_and_types_that_cannot_be_are_one_line_and_fill_no_memory(tmp_path, composed, monkeypatch, changes, said):  # noqa: F811
    monkeypatch.setattr("interp.processes.memory.free", lambda: 2**31)
    weights(tmp_path, nn.Identity(), "ab")
    with pytest.raises(UserError, match=rf"^data and model in .*/.hydra/config.yaml {said}"):
        network(tmp_path, composed, **changes)


def test_a_network_that_gives_no_logits_is_one_line(tmp_path, composed):  # noqa: F811
    weights(tmp_path, nn.Identity(), "ab")
    with pytest.raises(UserError, match=r"^model \(torch.nn.Flatten\) gives float \(2, 1024\); wanted are logits"):
        network(tmp_path, composed, model={"_target_": f"{NN}Flatten"})


@pytest.mark.slow
def test_every_network_of_torchvision_is_the_same_without_its_weights():
    """As if they had been loaded: for all weights of all classification models."""
    from torchvision import models

    for name in models.list_models(module=models):
        for chosen in models.get_model_weights(name):
            if name.startswith("regnet") and chosen.meta["num_params"] > 1e7:  # these cannot be made on "meta"
                continue
            with torch.device("cpu" if name.startswith("regnet") else "meta"):
                without = models.get_model(name, **_as_with(name, chosen.meta))
                with patch.object(type(chosen), "get_state_dict"), patch.object(nn.Module, "load_state_dict"):
                    whole = models.get_model(name, weights=chosen)
            shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (without, whole)]
            assert shapes[0] == shapes[1] and repr(without) == re.sub(r"\n *\(aux\d\): None", "", repr(whole)), name
            assert getattr(without, "transform_input", None) == getattr(whole, "transform_input", None), name
