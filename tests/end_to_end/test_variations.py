"""What else a user does: sweeps, resuming, other data and models, a study of their own."""

import csv
import json
import re
import tarfile

import pytest
import torch

from interp.errors import UserError
from plugins.nmf import NMFResult
from tests.conftest import SHARED, identical
from tests.end_to_end.conftest import ROOT, command
from tests.test_earlier_runs import KEPT
from tests.typed import typed

DISTURBABLE = (
    "model.dropout=0.3",
    "data.augment=[{_target_: torchvision.transforms.v2.RandomRotation, degrees: 10}]",
    "trainer.max_epochs=3",
    "+plugin=nmf",
    *(QUICK := ("plugin.nmf.icon_steps=2", "plugin.nmf.restarts=1", "data.probe_images=4")),
    "logger=report",
)
LATER = ("plugin.nmf.at_start=false", "plugin.saliency.at_start=false")
INTERRUPTED = "+plugin.stop={_target_: tests.studies.Interrupted, epoch: 2, at_start: false}"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_resumes_to_the_same_weights(train, tmp_path, workers):
    options = [*DISTURBABLE, f"data.num_workers={workers}"]
    whole = train(tmp_path / "whole", *options)
    with pytest.raises(ConnectionAbortedError):
        train(tmp_path / "cut", *options, INTERRUPTED)
    (tmp_path / "cut" / ".hydra").mkdir()
    resumed = train(tmp_path / "resumed", *options, f"checkpoint={tmp_path}/cut/checkpoints/last.ckpt")
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert identical(resumed.checkpoint()[part], whole.checkpoint()[part])
    assert identical(resumed.checkpoint("best")["state_dict"], whole.checkpoint("best")["state_dict"])
    results = sorted(path.name for path in (tmp_path / "resumed" / "results" / "nmf").iterdir())
    assert results == [f"epoch={epoch:04d}" for epoch in range(4)]
    rows = [json.loads(line) for line in (tmp_path / "resumed" / "results" / "metrics.jsonl").read_text().splitlines()]
    assert {row["epoch"] for row in rows if "nmf/relative_error" in row["metrics"]} == set(range(4))


def test_the_study_of_the_guide_works_as_it_is_written_there(tmp_path, monkeypatch):
    guide = (ROOT / "docs" / "plugins.md").read_text()
    code, settings = (re.search(rf"```{kind}\n(.*?)```", guide, re.DOTALL)[1] for kind in ("python", "yaml"))
    (tmp_path / "confidence.py").write_text(code)
    (tmp_path / "mine" / "plugin").mkdir(parents=True)
    (tmp_path / "mine" / "plugin" / "confidence.yaml").write_text(settings)
    quick = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.size=8", "logger=csv", "output=run"]
    by_target = "+plugin.sharper={_target_: confidence.ConfidencePlugin, temperature: 0.5}"
    by_name = ["+plugin=confidence", f"hydra.searchpath=[file://{tmp_path}/mine]"]
    monkeypatch.syspath_prepend(tmp_path)
    ended = typed(tmp_path, by_target, *by_name, *quick)
    assert ended.code == 0, ended.said
    assert (tmp_path / "run" / "results" / "confidence" / "epoch=0001" / "bars.png").is_file()
    rows = list(csv.DictReader((tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()))
    plain, sharper = ([float(r[k]) for r in rows if r.get(k)] for k in ("confidence/mean", "sharper/mean"))
    assert len(plain) == 2 and all(0.1 < a < b < 1 for a, b in zip(plain, sharper, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint=nowhere", "+plugin=nmf"], "no checkpoint .*nowhere"),
        pytest.param(["checkpoint=[a,b]", "+plugin=nmf"], "no checkpoint .*a", marks=pytest.mark.slow),
        pytest.param(
            ["checkpoint={a: a, b: b}", "+plugin=nmf", "+only.c.seed=1"],
            "only.c: no checkpoint has this name; there is a, b",
            marks=pytest.mark.slow,
        ),
        (["data.size=8"], "no plugin to run: add one, such as"),
        (["data.size=8", "+plugin=nmf", "plugin.nmf.layer=blok1"], "did you mean 'block1'"),
        (["data.size=8", "+plugin=nmf", "trainer.devices=2"], "no setting 'trainer.devices'"),
        (["checkpoint=run", "+plugin=nmf", "data.size=abc"], r"^error: data.size=abc: wanted is a whole number"),
        (["checkpoint=run", "+plugin=nmf", "+model.widht=5"], r"^error: no setting 'widht' in model"),
    ],
)
def test_mistakes_in_an_analysis_are_named(tmp_path, arguments, message):
    if "checkpoint=run" in arguments:
        with tarfile.open(KEPT) as archive:
            archive.extractall(tmp_path / "run", filter="data")
    ended = typed(tmp_path, *arguments, script="analyze")
    assert ended.code == 1 and re.search(message, ended.said) and "Traceback" not in ended.said, ended.said


def test_a_network_can_be_analysed_without_a_checkpoint_and_one_study_fail_without_the_others(tmp_path):
    more = [f"+plugin.{name}={{_target_: tests.studies.{kind}}}" for name, kind in
            (("broken", "Failing, after: 0"), ("wrong", "WrongSetting"), ("sure", "ConfidencePlugin"))]  # fmt: skip
    ended = typed(tmp_path, "data.size=16", "+plugin=nmf", *QUICK, *more, "output=run", "accelerator=cpu",
                  script="analyze")  # fmt: skip
    assert "no checkpoint is given: random weights are studied; give checkpoint=RUN_FOLDER" in ended.said
    said = "2 of 4 studies failed: plugin.broken: RuntimeError: the study broke; plugin.wrong: temperature=0"
    assert ended.code == 1 and f"error: {said}" in ended.said, ended.said
    assert (tmp_path / "run" / "results" / "nmf" / "epoch=0000" / "groups.png").is_file()
    report = (tmp_path / "run" / "report.html").read_text()
    assert ">nmf<" in report and ">sure<" in report and ">broken<" not in report


def test_the_same_seed_gives_the_same_run_and_another_does_not(train, tmp_path):
    first, again, other = (train(tmp_path / str(i), f"seed={seed}") for i, seed in enumerate((1, 1, 2)))
    assert identical(first.checkpoint()["state_dict"], again.checkpoint()["state_dict"])
    assert not torch.equal(*(r.checkpoint()["state_dict"]["net.body.head.weight"] for r in (first, other)))


@pytest.mark.parametrize(
    ("model", "size", "checks"),
    [
        pytest.param("resnet18", 32, "cheap", marks=pytest.mark.slow),
        pytest.param("torchvision", 128, "cheap", marks=pytest.mark.slow),
        ("torchvision", 128, "none"),
    ],
)
def test_studies_work_on_other_networks(train, tmp_path, model, size, checks):
    saliency = ["plugin.saliency.methods=[gradient,grad_cam]", f"plugin.saliency.checks={checks}"]
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "test=false"]
    run = train(tmp_path, f"model={model}", f"data.size={size}", "+plugin=[nmf,saliency]", *QUICK, *saliency, *short,
                "data.batch_size=4", *LATER)  # fmt: skip
    about = json.loads((run.folder / "results" / "nmf" / "epoch=0001" / "result.json").read_text())
    assert about["fields"]["layer"] == "layer4"


def test_colour_images_with_generated_shapes(train, tmp_path):
    small = ["data.train=64", "data.val=32", "data.test=32", "data.size=32", "trainer.max_epochs=1"]
    run = train(tmp_path, "data=shapes", "+plugin=[nmf,saliency]", "plugin.saliency.samples=2",
                "plugin.saliency.steps=8", *QUICK, *small, *LATER)  # fmt: skip
    assert (run.folder / "results" / "saliency" / "epoch=0001" / "panels.png").is_file()


def test_early_stopping_by_a_plugins_scalar(train, tmp_path):
    stop = [f"callbacks.early_stopping.{setting}" for setting in ("monitor=nmf/failed", "mode=min", "patience=1")]
    run = train(tmp_path, "+plugin=nmf", *QUICK, *stop, "trainer.max_epochs=9")
    assert run.checkpoint()["epoch"] == 1


@pytest.mark.slow  # tests/test_do_no_harm.py holds both in short
def test_bf16_and_compiled_training_can_be_studied(train, tmp_path):
    train(tmp_path, "+plugin=[nmf,saliency]", "trainer.precision=bf16-mixed")
    assert json.loads((tmp_path / "results" / "nmf" / "epoch=0002" / "result.json").read_text())["scalars"]


@pytest.mark.slow
def test_compiled_training_can_be_studied(train, tmp_path):
    train(tmp_path, "+plugin=[nmf,saliency]", "compile=true")
    assert json.loads((tmp_path / "results" / "nmf" / "epoch=0002" / "result.json").read_text())["scalars"]


def test_a_checkpoint_of_other_classes_is_refused(train, tmp_path):
    train(tmp_path / "digits", "trainer.max_epochs=1")
    for part in ("train", "val"):
        for name in ("a", "b", "c"):
            make_image(tmp_path / "images" / part / name)
    with pytest.raises(UserError, match=r"knows 10 classes \(0, 1, 2, ...\), the data has 3 \(a, b, c\)"):
        train(tmp_path / "next", "data=image_folder", f"data.root={tmp_path}/images", "data.num_workers=0",
              f"checkpoint={tmp_path}/digits/checkpoints/last.ckpt")  # fmt: skip
    assert not (tmp_path / "next").exists()


def test_an_unreadable_image_keeps_the_checkpoint_of_earlier_epochs(train, tmp_path):
    for part in ("train", "val"):
        for name in ("a", "b"):
            make_image(tmp_path / "images" / part / name)
    options = ["data=image_folder", f"data.root={tmp_path}/images", "data.num_workers=0", "data.probe_images=4"]
    train(tmp_path / "first", *options, "+plugin=nmf", "trainer.max_epochs=1")
    (tmp_path / "images" / "train" / "b" / "0.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot read the image .*train/b/0.png"):
        train(
            tmp_path / "second", *options, f"checkpoint={tmp_path}/first/checkpoints/last.ckpt", "trainer.max_epochs=2"
        )
    assert torch.load(tmp_path / "first" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0


def make_image(folder) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(4):
        noise = torch.randint(256, (16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.numpy()).save(folder / f"{number}.png")


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "outputs").write_text("in the way")
    ended = typed(tmp_path, "+plugin=nmf")
    assert ended.code == 1 and ended.said.startswith("error: ") and "outputs" in ended.said
    assert "output=FOLDER" in ended.said and "Traceback" not in ended.said


@pytest.mark.slow
def test_a_read_only_output_folder_is_named_before_the_first_epoch(tmp_path, mounted):
    disk = mounted("ro,size=1m")
    done = command(tmp_path, "+plugin=nmf", f"output={disk}/run", check=False)
    assert done.returncode == 1 and f"{disk}/run: Read-only file system" in done.stderr, done.stderr
    assert "output=FOLDER" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_mnist_reaches_its_accuracy_in_two_epochs(tmp_path):
    root = SHARED / "data" / "mnist"
    if not root.is_dir():
        pytest.skip(f"{root} is not here")
    done = command(tmp_path, "data=mnist", f"data.root={root}", "trainer.max_epochs=2", "+plugin=[nmf]")
    assert float(re.search(r"test/accuracy (\d\.\d+)", done.stdout)[1]) >= 0.97


def test_networks_are_compared_on_the_same_images_each_with_its_own_settings(train, tmp_path):
    train(tmp_path / "wide")
    train(tmp_path / "narrow", "model.widths=[8,12,16]", "data.probe_seed=5")
    own = [
        "+only.narrow.model.widths=[8,12,16]",
        "+only.narrow.data.probe_seed=5",
        "+only.narrow.plugin.nmf.layer=block2",
    ]
    ended = typed(tmp_path, "checkpoint=[wide,narrow]", "+plugin=[nmf,similarity,confusion]", "plugin.nmf.icon_steps=0",
                  *own, "data.size=16", "output=both", script="analyze")  # fmt: skip
    assert ended.code == 0, ended.said
    results = tmp_path / "both" / "results"
    wide, narrow = (NMFResult.load(next((results / f"nmf.{name}").iterdir())) for name in ("wide", "narrow"))
    assert torch.equal(wide.images, narrow.images) and narrow.layer == "block2" != wide.layer
    about = json.loads(next((results / "nmf").glob("*/result.json")).read_text())
    assert about["networks"] == ["wide", "narrow"]
    assert about["scalars"]["relative_error/narrow"] == pytest.approx(narrow.relative_error)
    for picture in ("nmf/groups", "similarity/similarity", "confusion/difference"):
        study, name = picture.split("/")
        assert list((results / study).glob(f"*/{name}.png"))
    assert "nmf.narrow" in (tmp_path / "both" / "report.html").read_text()
