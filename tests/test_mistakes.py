"""Mistakes that people make: one line on standard error, no traceback, exit code 1, before anything is trained."""

import sys
from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from conf.arguments import arranged
from conf.check import CONF, clear_errors
from interp.lit.hydra_versions import BASE
from tests.typed import typed

NOISE = "data={_target_: interp.lit.data.ImageData, source: {_target_: tests.odd.noise, _partial_: true}}"
TINY = [NOISE, "model={_target_: tests.odd.net}", "logger=none", "trainer.accelerator=cpu", "trainer.max_epochs=1",
        "+data.batch_size=4", "+data.probe_images=3"]  # fmt: skip


def composed(script: str, *arguments: str):
    """The configuration that a command describes."""
    with initialize_config_dir(str(CONF), **BASE):
        return compose(script, [*arranged([*arguments]), "output=nowhere"])


@pytest.fixture
def said(monkeypatch, tmp_path):
    """`said("train", "seed=abc")`: what stands on standard error when the command has ended with exit code 1."""
    monkeypatch.chdir(tmp_path)

    def start(script: str, *arguments: str, cfg=None) -> str:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        with redirect_stderr(StringIO()) as errors, pytest.raises(SystemExit) as end, clear_errors(of_hydra=True):
            getattr(import_module(script), script).__wrapped__(cfg or composed(script, *arguments))
        assert end.value.code == 1 and list(tmp_path.iterdir()) == []
        return errors.getvalue()

    return start


NAMES = [
    ("+plugin=nfm", "no plugin option 'nfm'; did you mean 'nmf'? Choose from: axis_alignment, caricature"),
    ("+plugin=[nmf,salency]", "no plugin option 'salency'; did you mean 'saliency'?"),
    ("model=resnet", "no model option 'resnet'; did you mean 'resnet18'?"),
    ("model=5", "no model option '5'; Choose from: efficientnet_lite0"),
    (
        "model=mynets.Net",
        "Choose from: efficientnet_lite0, own, resnet18, small_cnn, timm, torchvision. A class or "
        "function of your own: 'model={_target_: mynets.Net}'",
    ),
    ("'model={target: mynets.Net}'", "no setting 'model.target'; did you mean _target_? 'model={_target_: ...}'"),
    ("model=[small_cnn,resnet18]", "model=[small_cnn,resnet18]: choose one of efficientnet_lite0"),
    ("model=small_cnn,resnet18", "choose one, or try them in a sweep: -m model=small_cnn,resnet18"),
    ("model=null", "model=null: choose from efficientnet_lite0"),
    ("+plugn=nmf", "no setting or group 'plugn'; did you mean 'plugin'?"),
    ("plugn=nmf", "no setting 'plugn'; did you mean plugin?"),
    ("sed=3", "no setting 'sed'; did you mean seed? Top level is: callbacks, checkpoint"),
    ("plugin.nmf.groups=8", "is that plugin loaded? Add +plugin=nmf. Plugins: axis_alignment"),
    ("+plugin.nmf.groups=8", "plugin.nmf is set, but that plugin is not loaded: add +plugin=nmf. Plugins:"),
    ("+plugin=nmf plugin.nmf.group=8", "no setting 'plugin.nmf.group'; did you mean plugin.nmf.groups? There is:"),
    ("+plugin=nmf +plugin.nmf.grops=4", "no setting 'grops' in plugin.nmf; did you mean 'groups'? It has:"),
    ("lr=0.1", "no setting 'lr'; did you mean optimizer.lr?"),
    ("trainer.lr=0.1", "no setting 'trainer.lr'; did you mean optimizer.lr?"),
    ("learning_rate=0.1", "no setting 'learning_rate'; did you mean optimizer.lr?"),
    ("max_epochs=3", "no setting 'max_epochs'; did you mean trainer.max_epochs?"),
    ("epochs=3", "no setting 'epochs'; did you mean trainer.max_epochs?"),
    ("trainer.max_epoch=3", "no setting 'trainer.max_epoch'; did you mean trainer.max_epochs? There is: accelerator"),
    ("+trainer.max_epoch=3", "no setting 'max_epoch' in trainer (lightning.Trainer); did you mean 'max_epochs'?"),
    ("batch_size=8 +plugin=nmf", "did you mean data.batch_size or plugin.nmf.batch_size?"),
    ("groups=8", "no setting 'groups'; plugin.nmf.groups is a setting of plugin=nmf"),
    ("optimizer.momentum=0.9", "optimizer.momentum is a setting of optimizer=sgd"),
    ("model.name=vgg11", "model.name is a setting of model=timm and model=torchvision"),
    ("trainer.max_steps=5", "it is not in the YAML file, so add it with a plus: +trainer.max_steps=VALUE"),
    ("+model.widht=5", "no setting 'widht' in model (interp.lit.models.small_cnn); did you mean 'widths'?"),
    ("+data.sise=5", "no setting 'sise' in data (interp.lit.data.ImageData); did you mean 'size'?"),
    ("'optimizer={lrr: 0.1}'", "no setting 'optimizer.lrr'; did you mean optimizer.lr?"),
    ("'callbacks.mine={_target_: mine.C}'", "no setting 'callbacks.mine'; There is: checkpoint, early_stopping"),
    ("data=image_folder", "data.root is not set: give it as data.root=VALUE"),
    ("model=own", "model._target_ is not set: give it as model._target_=VALUE"),
    ("objective=nmf/relative_error", "the plugin nmf is not loaded: add +plugin=nmf"),
    ("objective=[val/accuracy,nmf/relative_error]", "the plugin nmf is not loaded: add +plugin=nmf"),
    (
        "'model={_target_: mine.Net}'",
        "model._target_=mine.Net: there is no module 'mine'; is its folder on PYTHONPATH?",
    ),
    ("'model={_target_: tests.odd.Nett}'", "no model._target_ called 'Nett' in tests.odd; did you mean 'Net'?"),
    ("'+plugin.mine={_target_: nowhere.Mine}'", "plugin.mine._target_=nowhere.Mine: there is no module 'nowhere'"),
]
KINDS = [
    ("trainer.max_epochs=three", "trainer.max_epochs=three: wanted is a whole number or null, such as 10"),
    (
        "trainer.max_epochs=[1,2]",
        "wanted is a whole number or null, such as 10; a sweep over several takes -m: -m train",
    ),
    ("seed=abc", "seed=abc: wanted is a whole number, such as 1"),
    ("seed=-1", "seed=-1: wanted is a whole number from 0 to 4294967295"),
    ("seed=1.5", "seed=1.5: wanted is a whole number, such as 1"),
    ("data.size=abc", "data.size=abc: wanted is a whole number, such as 32"),
    ("data.mean=0.5", "data.mean=0.5: wanted is a list or null"),
    ("data.mean=[a]", "data.mean=[a]: wanted is a list or null"),
    ("data.batch_size=null", "data.batch_size=null: wanted is a whole number"),
    (
        "optimizer.lr=[0.1,0.2]",
        "optimizer.lr=[0.1,0.2]: wanted is a number, such as 0.005; a sweep over several takes -m",
    ),
    ("optimizer.lr=fast", "optimizer.lr=fast: wanted is a number, such as 0.005"),
    ("scheduler.max_lr=fast", "scheduler.max_lr=fast: wanted is a number or a list"),
    ("test=maybe", "test=maybe: wanted is true or false"),
    ("callbacks=5", "callbacks=5: wanted is a dictionary or null"),
    ("callbacks.early_stopping=none", "callbacks.early_stopping=none: wanted is null, or a dictionary with _target_"),
    ("callbacks.early_stopping.patience=many", "patience=many: wanted is a whole number, such as inf"),
    ("plugin.nmf.sweeps=few", "plugin.nmf.sweeps=few: wanted is a whole number, such as 200"),
    ("plugin.nmf.timeout=long", "plugin.nmf.timeout=long: wanted is a number or null, such as 3600"),
    ("plugin.nmf.layer=[a,b]", "plugin.nmf.layer=[a,b]: wanted is a text or null"),
]
DATA = [
    ("data.classes=1", "the data has 1 class (class 0): at least 2 are needed"),
    (
        "data.label=255",
        "label 255 of training image 5 (1 such of 12) is no class: allowed are 0 to 2 (class 0, class 1",
    ),
    ("data.label=-1", "label -1 of training image 5 (1 such of 12) is no class: allowed are 0 to 2"),
    ("data.label=3", "label 3 of training image 5 (1 such of 12) is no class: allowed are 0 to 2"),
    ("data.count=0", "there are no training images"),
    (
        "data.form=vectors",
        "the labels of the 12 training images are float32 (12, 3): wanted is one whole number an image",
    ),
    (
        "data.form=bytes",
        "training image 0 is uint8 (1, 8, 8): wanted is (image, class index), the image float32 (C, H, W)",
    ),
    (
        "data.form=bright",
        "training image 0 has values from 0 to 255: wanted is (image, class index), the image float32",
    ),
    ("data.form=alone", "training image 0 is an item Tensor: wanted is (image, class index)"),
    ("data.form=sizes", "the training images have different sizes, such as (1, 7, 8) and (1, 8, 8)"),
    ("data.mean=[0.5,0.5]", "data.mean=[0.5, 0.5]: wanted are 1 numbers in [0, 1], one a channel, or null"),
    ("data.mean=[125]", "data.mean=[125]: wanted are 1 numbers in [0, 1]"),
    ("data.std=[0]", "data.std=[0]: a standard deviation must be above 0"),
    ("data.augment=[{_target_: torchvision.transforms.v2.RandomCrop, size: 20}]", "data.augment fails on a training"),
    ("data.probe_images=0", "data.probe_images=0: must be at least 1"),
]
NETWORKS = [
    (
        "tuple",
        "gives a tuple of float (2, 3), float (); wanted are logits, float (2, 3): a number for each of the 3 classes",
    ),
    ("named", "gives a Answer of float (2, 3), float (); wanted are logits"),
    ("dictionary", "(class 0, class 1, class 2): let its forward return ['logits'] alone"),
    (
        "one",
        "gives float (2, 1); wanted are logits, float (2, 3): a number for each of the 3 classes (class 0, class 1",
    ),
    ("many", "gives float (2, 1000); wanted are logits, float (2, 3): a number"),
    ("map", "gives float (2, 3, 1, 1); wanted are logits, float (2, 3): a number"),
    ("argmax", "gives int (2,); wanted are logits, float (2, 3): a number"),
    ("squeezed", "gives float (3,) of one image; wanted are logits, float (1, 3)"),
    ("not_finite", "gives NaN or infinity before it is trained"),
    ("detached", "gives answers without gradients (torch.no_grad, inference_mode or detach in its forward?)"),
    ("frozen", "has no parameter with requires_grad: there is nothing to train"),
    ("broken", "cannot be multiplied (2x3 and 7x2) (odd.py, line "),
    ("in_training", "gives a tuple of float (2, 3), float (2, 3) while it trains; wanted are logits"),
    ("scripted", "is compiled by torch.jit: it cannot be studied, since its layers run without hooks"),
    ("quantised", "is quantised: it can neither be trained nor studied, since it has no gradients"),
    ("raising", "(tests.odd.net): ValueError: wanted are classes, not 8 (odd.py, line "),
    ("text", "gives str; wanted is a torch.nn.Module"),
    ("mapped", "a number for each of the 3 classes (class 0, class 1, class 2): let its forward end with .flatten(1)"),
]
BUILT = [
    ("trainer.accelerator=gpu", "trainer.accelerator=gpu: this machine has cpu; auto takes what there is"),
    ("trainer.accelerator=gpuu", "no trainer.accelerator 'gpuu'; did you mean 'gpu'? Choose from: auto, gpu, "),
    (
        "trainer.precision=17",
        "trainer.precision=17: wanted is one of 64, 32, 16, transformer-engine, transformer-engine-float16, 16-true",
    ),
    (
        "trainer.deterministic=often",
        "trainer.deterministic=often: wanted is one of warn or true or false or null, such as",
    ),
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0: must be at least 1"),
    ("trainer.devices=zwei", "trainer.devices=zwei: wanted is a whole number, such as 1, a list of them, or auto"),
    ("trainer.max_epochs=-5", "`max_epochs` must be a non-negative integer or -1"),
    ("optimizer.lr=-1", "optimizer (torch.optim.AdamW): ValueError: Invalid learning rate: -1"),
    (
        "scheduler.pct_start=2",
        "scheduler (torch.optim.lr_scheduler.OneCycleLR): ValueError: Expected float between 0 and 1",
    ),
    (
        "callbacks.checkpoint.monitor=val/acc",
        "no scalar for callbacks.checkpoint.monitor 'val/acc'; did you mean 'val/acc",
    ),
    (
        "callbacks.early_stopping.monitor=val_loss",
        "'val_loss'; did you mean 'val/loss'? Choose from: train/loss, train/",
    ),
    (
        "callbacks.checkpoint.monitor=nmf/relative_error",
        "no scalar for callbacks.checkpoint.monitor 'nmf/relative_error'",
    ),
    ("callbacks.checkpoint.mode=maxx", "callbacks.checkpoint (interp.lit.checkpoints.checkpoint.RunCheckpoint): "),
    ("objective=val/acc", "no scalar for objective 'val/acc'; did you mean 'val/accuracy'?"),
    ("trainer.max_epochs=-1", "trainer.max_epochs=-1 has no end, over which the scheduler (OneCycleLR) is to be laid"),
    ("checkpoint=nowhere", "no checkpoint "),
]


def one_line(errors: str, message: str) -> bool:
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors, errors
    return True


@pytest.mark.parametrize(("command", "message"), NAMES)
def test_names_that_do_not_exist(said, command, message):
    arguments = [command.strip("'")] if "'" in command else command.split()
    assert one_line(said("train", *arguments), message)


@pytest.fixture(scope="module")
def tiny():
    """A configuration to change, without Hydra's time: `tiny("data.label=255")`."""
    base = composed("train", *TINY)
    with_studies = composed("train", "+plugin=nmf", "data.size=8", "logger=none")

    def changed(override: str):
        chosen = with_studies if override.startswith(("plugin.", "data.size", "model.widths")) else base
        OmegaConf.set_struct(chosen, False)
        return OmegaConf.merge(chosen, OmegaConf.from_dotlist([override]))

    return changed


@pytest.mark.parametrize(("override", "message"), KINDS)
def test_values_of_the_wrong_kind(said, tiny, override, message):
    assert one_line(said("train", override, cfg=tiny(override)), message)


@pytest.mark.parametrize(
    ("override", "message"), [*DATA, *((f"model.kind={kind}", text) for kind, text in NETWORKS), *BUILT]
)
def test_what_does_not_fit_is_told_before_training(said, tiny, override, message):
    assert one_line(said("train", override, cfg=tiny(override)), message)


COMMANDS = [
    ("train", "--plugin nmf", "there is no flag --plugin: settings go without dashes: +plugin=nmf"),
    (
        "train",
        "--lr=0.1",
        "there is no flag --lr=0.1: settings go without dashes, as NAME=VALUE; did you mean optimizer.lr?",
    ),
    ("train", "+plugin={_target_:a.B}", "give it a name: '+plugin.NAME={_target_:a.B}'"),
    ("train", "nmf", "'nmf' is no setting: settings are NAME=VALUE without blanks; did you mean +plugin=nmf?"),
    ("train", "plugin nmf", "did you mean +plugin=nmf?"),
    ("train", "checkpoint=a+plugin=nmf", "checkpoint=a+plugin=nmf: put a blank before +plugin="),
    ("train", "seed = 3", "did you mean seed=3?"),
    ("train", "+plugin=[nmf, saliency]", "put quotes around it: '+plugin=[nmf, saliency]'"),
    ("train", "model={_target_: mine.Net}", "put quotes around it: 'model={_target_: mine.Net}'"),
    ("train", "+plugin=[nmf,saliency", "a bracket is not closed"),
    ("train", "+plugin=nmf,saliency", "are a list in quotes, '+plugin=[nmf,saliency]', or a sweep with -m"),
    ("train", "+plugin=nmf +plugin=saliency", "give several as one list in quotes, '+plugin=[nmf,saliency]'"),
    ("train", "checkpoint={a:(}", "cannot be read: put texts that hold = ( ) or letters outside ASCII in quotes"),
    ("train", "output=", "output= is empty: give a folder, output=FOLDER"),
    ("train", "--cfg nothing", "invalid choice: 'nothing'"),
    (
        "analyze",
        "accelerator=gpu +plugin=nmf data.size=8",
        "accelerator=gpu: this machine has cpu; auto takes what there",
    ),
    ("analyze", "data.size=8", "no plugin to run: add one, such as +plugin=nmf"),
    (
        "analyze",
        "trainer.devices=2",
        "no setting 'trainer.devices'; analyze.py trains nothing; the device is accelerator",
    ),
    ("analyze", "+plugin=nmf data.size=8 checkpoint=[]", "checkpoint=[] is empty: name some"),
    ("analyze", "+plugin=nmf data.size=8 checkpoint=7", "no checkpoint "),
]


@pytest.mark.parametrize(("script", "command", "message"), COMMANDS)
def test_how_a_command_is_written(said, script, command, message):
    assert one_line(said(script, *command.split(" ")), message)


@pytest.mark.parametrize("place", ["output=/proc/nope", "hydra.run.dir=/proc/nope"])
def test_a_whole_command_that_fails(tmp_path, place):
    ended = typed(tmp_path, place)
    assert ended.code == 1 and one_line(ended.said, "choose output=FOLDER") and "/proc/nope: " in ended.said


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("checkpoint=a/epoch=3-step=4.ckpt", "a/epoch=3-step=4.ckpt"),
        ("checkpoint=a (1)/b", "a (1)/b"),
        ("checkpoint=é/ü", "é/ü"),
        ("checkpoint=it's (mine)", "it's (mine)"),
        ("checkpoint='a,b'", "a,b"),
        ("checkpoint=[a=1.ckpt,é,b]", ["a=1.ckpt", "é", "b"]),
        ("checkpoint={x: a=1.ckpt, y: b}", {"x": "a=1.ckpt", "y": "b"}),
        ("name=実験", "実験"),
    ],
)
def test_paths_need_no_quotes(given, expected):
    assert OmegaConf.to_container(composed("train", given))[given.partition("=")[0]] == expected


def test_sweeps_over_paths_and_dictionaries():
    assert arranged(["-m", "checkpoint=a=1,b"]) == ["-m", "checkpoint='a=1','b'"]
    assert arranged(["seed=1,2", "-m", "+plugin=nmf"]) == ["-m", "seed=1,2", "+plugin=nmf"]
    both = "model={_target_: a.Net},{_target_: b.Net}"
    assert arranged(["-m", both]) == ["-m", "model=own", f"+{both}"]
    assert arranged(["output=here"]) == ["hydra.run.dir=here", "hydra.sweep.dir=here"]


def test_a_dictionary_takes_the_place_of_an_option():
    own = "{_target_: tests.odd.Plain, classes: 3}"
    cfg = composed("train", f"model={own}", "scheduler={_target_: a.Step, step_size: 1}", "logger={x: {_target_: a.B}}")
    assert OmegaConf.to_container(cfg.model) == {"_target_": "tests.odd.Plain", "classes": 3}
    assert set(cfg.scheduler) == {"_target_", "step_size"} and set(cfg.logger) == {"x"}
    merged = composed("train", "optimizer={lr: 0.1}", "scheduler=null", "logger=false")
    assert merged.optimizer.lr == 0.1 and merged.optimizer._target_ == "torch.optim.AdamW"
    assert not merged.scheduler and not merged.logger
