"""What a newcomer reads after a mistake: one message, the nearest name, exit code 1, nothing half-made."""

import resource
import signal
import subprocess
import sys
from importlib import import_module
from multiprocessing import Lock
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from conf.check import CONF, check, clear_errors, groups, mendable
from conf.kinds import load_target
from interp.errors import UserError, unknown
from interp.lit.hydra_versions import BASE

ROOT = Path(__file__).parents[1]


def command(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    options = [] if "--help" in arguments else [f"hydra.run.dir={folder}/run"]
    return subprocess.run(
        [sys.executable, ROOT / script, *arguments, *options], capture_output=True, text=True, cwd=folder, timeout=120
    )


def composed(*overrides: str):
    with initialize_config_dir(str(CONF), **BASE):
        return compose("train", ["output=/tmp/nowhere", *overrides])


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [((), 130, "interrupted"), ((signal.SIGINT,), 130, "interrupted"), ((signal.SIGTERM,), 143, "ended by SIGTERM")],
)
def test_a_signal_before_or_after_the_training_ends_with_its_code(given, code, said, capsys):
    with pytest.raises(SystemExit) as ended, clear_errors():
        raise KeyboardInterrupt(*given)
    assert ended.value.code == code and capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize("given", [(), (signal.SIGTERM,)])
def test_a_signal_that_comes_while_something_is_imported_is_no_mistake_in_a_setting(given, tmp_path, monkeypatch):
    (tmp_path / "interrupted.py").write_text(f"raise KeyboardInterrupt(*{tuple(map(int, given))})")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt) as raised:
        load_target("trainer._target_", "interrupted.Trainer")
    assert raised.value.args == given


def test_a_folder_that_a_logger_cannot_name_is_named(capsys):
    with pytest.raises(SystemExit), clear_errors():
        "/caf\udce9".encode()
    assert r"error: '/caf\udce9' is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+plugin=nfm"], "no plugin option 'nfm'; did you mean 'nmf'?"),
        (["+plugin=[nmf,", "saliency]"], "put quotes around it: '+plugin=[nmf, saliency]'"),
        (["+plugin=nmf", "plugin.nmf.grops=4"], "did you mean plugin.nmf.groups?"),
    ],
)
def test_mistakes_are_named_before_anything_heavy(arguments, message, tmp_path):
    """Three of those in tests/test_mistakes.py, as whole commands."""
    done = command("train.py", *arguments, folder=tmp_path)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["train.py", "analyze.py"])
def test_help_lists_every_group_without_torch(script, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command(script, "--help", folder=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3  # seconds; 1 or less on an idle core
    assert all(f"\n{group}: " in done.stdout for group in groups()), done.stdout + done.stderr
    code = "import sys, train, analyze; print([m for m in ('torch', 'lightning', 'wandb') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["+plugin=nmf", "plugin.nmf.groups=8"],
        ["+plugin=[nmf,saliency]"],
        ["plugin=nmf", "data=mnist", "data.root=/x"],
        ["+plugin=nmf", "+plugin@plugin.second=nmf", "plugin.second.layer=block1"],
        ["+plugin.early={_target_: plugins.nmf.NMFPlugin, name: early, layer: block1}"],
        ["logger=[report,wandb,tensorboard,csv]"],
        ["logger=none", "scheduler=none"],
        ["experiment=mnist"],
        ["experiment=interrogation"],
        ["trainer=ddp", "trainer.devices=8", "trainer.num_nodes=4"],
        ["sweep=seeds"],
        ["sweep=optuna", "+plugin=dissection"],
        ["sweep=[optuna,joblib]", "+plugin=dissection", "objective=[val/accuracy,dissection/detectors]"],
        *[[f"sweep={name}"] for name in ("joblib", "submitit", "slurm", "ray")],
        *[[f"data={path.stem}"] for path in (CONF / "data").glob("*.yaml") if "???" not in path.read_text()],
        *[[f"model={path.stem}"] for path in (CONF / "model").glob("*.yaml") if "???" not in path.read_text()],
    ],
)
def test_what_the_documents_promise_composes(overrides, monkeypatch):
    monkeypatch.setenv("RUN_STAMP", "now")
    for name, package in {"slurm": "submitit_launcher", "optuna": "optuna_sweeper"}.items():
        if any(name in given for given in overrides):
            pytest.importorskip(f"hydra_plugins.hydra_{package}", reason="pip install -e '.[sweep]'")
    check(composed(*overrides), "train")


@pytest.mark.parametrize(
    "text",
    [
        "unable to allocate shared memory(shm) for file </torch_7_8_0>: No space left on device (28)",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
    ],
)
def test_shared_memory_that_is_full_is_named(text, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    full = type("Full", (), {"SEM_VALUE_MAX": 1, "__init__": refuse})
    monkeypatch.setattr("_multiprocessing.SemLock", full)
    with pytest.raises(OSError) as raised:
        Lock()
    for error in (raised.value, RuntimeError(text)):
        message = mendable(error)
        assert message and "set data.num_workers=0, or give /dev/shm more room" in message and "output=" not in message
    disk = mendable(OSError(28, "No space left on device", "/full/disk"))
    assert disk and "/full/disk" in disk and "output=FOLDER" in disk and mendable(RuntimeError("other")) is None


def test_plugins_stand_side_by_side():
    cfg = composed("+plugin=nmf", "+plugin@plugin.second=nmf", "plugin.second.groups=3")
    assert cfg.plugin.nmf.groups == 6 and cfg.plugin.second.groups == 3
    assert composed("+plugin=nmf", "plugin.nmf.every_n_epochs=2").plugin.nmf.every_n_epochs == 2
    assert set(composed("plugin=[nmf,saliency]").plugin) == {"nmf", "saliency"}


def test_every_setting_has_a_plain_value_or_a_comment():
    for path in CONF.rglob("*.yaml"):
        assert path.read_text().lstrip().startswith("#"), f"{path} does not say what it is"


def test_unknown_without_a_near_name_still_lists_the_options():
    error = unknown("colour", "qqq", ["red", "blue"])
    assert isinstance(error, UserError) and str(error) == "no colour 'qqq'; Choose from: red, blue"


@pytest.mark.parametrize("name", ["train", "analyze"])
def test_launchers_can_send_the_entry_points_to_processes(name):

    cloudpickle = pytest.importorskip("cloudpickle", reason="joblib brings it from 1.6 on")

    module = import_module(name)
    cloudpickle.register_pickle_by_value(module)  # as for a script that runs as __main__
    try:
        assert cloudpickle.dumps(getattr(module, name).__wrapped__)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_configuration_of_an_earlier_version_gets_the_names_of_now():
    with initialize_config_dir(str(CONF), **BASE):
        old = "callbacks.checkpoint._target_=interp.lit.checkpoint.RunCheckpoint"
        cfg, now = compose("train", [old, "output=nowhere"]), compose("train", ["output=nowhere"])
    check(cfg, "train")
    assert cfg == now and "interp.lit.checkpoint." not in OmegaConf.to_yaml(cfg)
