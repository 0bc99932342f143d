"""Configurations and results of strangers: nothing in them runs; what is refused is named, with how to allow it."""

import copy
import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.conf import ConfigSourceInfo
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, read_write

import analyze
from conf.check import CONF
from interp.errors import UserError
from interp.lit.hydra_versions import BASE
from interp.lit.safety.foreign import result_class, settings
from plugins.report import main

TOUCH = "touch {folder}/pwned"
LOADS = ["torch.load", "torch.hub.load", "torch.jit.load", "torch.serialization.load", "torch.package.PackageImporter",
         "torch.utils.cpp_extension.load", "torch.nn.modules.module.torch.load", "numpy.load", "joblib.load",
         "lightning.LightningModule.load_from_checkpoint", "torchvision.datasets.utils.download_url",
         "torchvision.datasets.ImageFolder", "torchvision.transforms.v2.functional.torch.load"]  # fmt: skip
CALLS = ["os.system", "posix.system", "subprocess.Popen", "builtins.eval", "builtins.open", "functools.partial",
         "hydra.utils.instantiate", "interp.lit.models.import_module", "interp.lit.report.logger.subprocess.run",
         "interp.lit.report.logger.Report", "lightning.Trainer", "torch.nn.Nothing", "", None, 7]  # fmt: skip


@pytest.fixture(scope="module")
def composed():
    """The configuration of `analyze.py` with Hydra's own settings."""
    with initialize_config_dir(str(CONF), **BASE):
        return compose("analyze", ["output=out", "+plugin=nmf"], return_hydra_config=True)


@pytest.fixture(autouse=True)
def job(composed):
    """Hydra as it is while `analyze.py` runs."""
    HydraConfig.instance().set_config(composed)
    yield composed
    HydraConfig.instance().cfg = None


def run_of(folder: Path, **changes) -> Path:
    """What training leaves of its data and model, with some keys changed."""
    config = OmegaConf.create({"data": OmegaConf.load(CONF / "data" / "digits.yaml"),
                               "model": OmegaConf.load(CONF / "model" / "small_cnn.yaml")})  # fmt: skip
    del config.data.defaults
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True, merge=False)
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return folder / ".hydra" / "config.yaml"


def read(path: Path, given=(), trust=()):
    return settings(path, ("data", "model"), given, trust)


@pytest.mark.parametrize("name", [*LOADS, *CALLS])
def test_what_loads_or_calls_is_refused(tmp_path, name):
    refuse(tmp_path, model={"_target_": name, "_args_": [TOUCH.format(folder=tmp_path)]})


@pytest.mark.parametrize("lookup", ["get_class", "get_method", "get_object", "get_static_method"])
@pytest.mark.parametrize("key", ["data__source", "data__augment", "model__widths"])
def test_a_lookup_is_refused_wherever_it_stands(tmp_path, key, lookup):
    refuse(tmp_path, **{key: [{"nested": {"_target_": f"hydra.utils.{lookup}", "path": "os.system"}}]})


def refuse(folder: Path, **changes) -> None:
    with pytest.raises(UserError, match=r"_target_=.* is refused: .* give trust=\["):
        read(run_of(folder, **changes))
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("partial", [{"_partial_": True}, {"_recursive_": False}, {"_convert_": "object"}])
def test_hydras_own_keys_open_no_way_around(tmp_path, partial):
    inner = {"_target_": "os.system", "_args_": [TOUCH.format(folder=tmp_path)], **partial}
    outer = {"_target_": "torchvision.transforms.v2.Lambda", "lambd": inner, **partial}
    with pytest.raises(UserError, match=r"data.augment\[0\].lambd._target_=os.system in .*config.yaml is refused"):
        read(run_of(tmp_path, data__augment=[outer]))


@pytest.mark.parametrize("group", ["data", "model"])
def test_what_training_writes_is_allowed(tmp_path, group):
    for own in (CONF / group).glob("*.yaml"):
        read(run_of(tmp_path, **{group: OmegaConf.load(own)}))


@pytest.mark.parametrize(
    "name",
    ["torch.nn.GELU", "torchvision.transforms.v2.RandomRotation", "torchvision.transforms.InterpolationMode",
     "torchvision.datasets.CIFAR100"],
)  # fmt: skip
def test_classes_that_only_compute_are_allowed(tmp_path, name):
    read(run_of(tmp_path, data__augment=[{"_target_": name}, {"_target_": "hydra.utils.get_class", "path": name}]))


def test_what_the_user_gives_or_trusts_is_allowed(tmp_path):
    path = run_of(tmp_path, model={"_target_": "tests.studies.os.system"}, data__root="${oc.env:HOME}")
    assert read(path, ["model._target_", "data.root"]) == read(path, trust="all")
    read(path, ["data.root"], trust=["tests.studies.os.system"])
    with pytest.raises(UserError, match=r"model._target_=tests.studies.os.system in .* is refused"):
        read(path, ["data.root"], trust=["tests.studies"])  # it is imported there, and of another module
    read(run_of(tmp_path, model={"_target_": "tests.studies.Hungry"}), ["data.root"], trust=["tests.studies"])


def test_what_the_users_own_yaml_names_is_allowed(tmp_path, composed):
    job = copy.deepcopy(composed)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "own.yaml").write_text("_target_: my.models.own\n_partial_: true\n")
    path = run_of(tmp_path, model={"_target_": "my.models.own"})
    with read_write(job.hydra.runtime.config_sources):
        own = ConfigSourceInfo(f"{tmp_path}/mine", "file", "hydra.searchpath in command-line")
        job.hydra.runtime.config_sources.append(own)
    HydraConfig.instance().set_config(job)
    assert read(path).model._target_ == "my.models.own"


@pytest.mark.parametrize(
    "value", ["${oc.env:EPOCHSCOPE_SECRET}", "a ${oc.env:HOME} b", "${output}", "${hydra:job.name}"]
)
def test_a_strangers_configuration_reads_no_environment(tmp_path, monkeypatch, value):
    monkeypatch.setenv("EPOCHSCOPE_SECRET", "hush-hush")
    path = run_of(tmp_path, data__class_names=[value])
    with pytest.raises(UserError, match=r"data.class_names\[0\]=.* is not followed") as caught:
        read(path)
    assert "hush-hush" not in str(caught.value)
    (tmp_path / "results").mkdir()
    path.write_text(f"logger: {{report: {{title: 'a {value}'}}}}")
    main([str(tmp_path)])
    assert "hush-hush" not in (tmp_path / "report.html").read_text()


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: !!python/object/apply:os.system ['touch {folder}/pwned']", "could not determine a constructor"),
        (BOMB, "it has aliases"),
        ("[" * 5000, "it is nested more than 50 levels deep"),
        ("? " * 5000, "it is nested more than 50 levels deep"),
        ("data: {a: " + "x" * 2**20 + "}", "more than 1,048,576 bytes"),
        ("data: [", "cannot read"),
        ("\x00", "cannot read"),
        ("[data, model]", "has no data: give data=... yourself"),
        ("data: 3", "has no data"),
    ],
    ids=["tag", "bomb", "deep", "keys", "large", "torn", "binary", "list", "number"],
)
def test_hostile_yaml_is_one_clear_error(tmp_path, text, said):
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("{folder}", str(tmp_path)))
    with pytest.raises(UserError, match=said):
        read(path)
    assert not (tmp_path / "pwned").exists()


def test_analysis_of_a_hostile_run_does_nothing_but_say_so(tmp_path, composed):
    run = tmp_path / "run"
    run_of(run, model={"_target_": "os.system", "_args_": [TOUCH.format(folder=tmp_path)]})
    (run / "checkpoints").mkdir()
    import torch

    torch.save({"state_dict": {}, "epoch": 0, "global_step": 1}, run / "checkpoints" / "best.ckpt")
    cfg = OmegaConf.merge({key: composed[key] for key in composed if key != "hydra"}, {"checkpoint": str(run)})
    cfg.output = str(tmp_path / "out")
    with pytest.raises(UserError, match=r"model._target_=os.system in .* is refused"):
        analyze.analyze.__wrapped__.__wrapped__(cfg)
    assert not (tmp_path / "pwned").exists() and not (tmp_path / "out").exists()


def test_result_classes_are_ours_or_trusted(tmp_path, monkeypatch):
    (tmp_path / "strange.py").write_text(
        f"import pathlib; pathlib.Path('{tmp_path}/pwned').touch()\n"
        "from tests.studies import Confidence\nclass Mine(Confidence): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="class strange.Mine, which is not ours: if you know it, give --trust strange"):
        result_class("strange.Mine")
    for name in ("plugins.nmf.NMFPlugin", "interp.files.os.system", "os.system", "plugins.nmf", "", None, 3, {}):
        with pytest.raises(UserError, match=r"is no interp.result.Result|not ours|not here"):
            result_class(name)
    assert result_class("plugins.nmf.NMFResult").__name__ == "NMFResult" and not (tmp_path / "pwned").exists()
    assert result_class("strange.Mine", trust=["strange"]).__name__ == "Mine"


def test_a_hostile_result_is_named_and_not_imported(tmp_path, caplog):
    folder = tmp_path / "results" / "nmf" / "epoch=0001"
    folder.mkdir(parents=True)
    for about in (
        {"class": "antigravity.Result"},
        {"networks": ["../../x", "a"]},
        {"networks": {"a": 1}},
        {"class": []},
    ):
        (folder / "result.json").write_text(json.dumps({**about, "captions": {}, "fields": {}}))
        caplog.clear()
        main([str(tmp_path)])
        assert "nmf/epoch=0001 is not drawn" in caplog.text
