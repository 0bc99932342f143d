"""The first promise: a training ends bit by bit as it would without plugins, whatever the training and the plugins."""

import csv
from contextlib import nullcontext
from functools import partialmethod
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.conftest import identical
from tests.test_every_plugin import NAMES

pytestmark = pytest.mark.filterwarnings("ignore:no support.*")  # few images, in which a class may not occur
TRAININGS = {  # all with dropout, batch norm and augmentation
    "accumulated": ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5"],
    "workers": ["data.num_workers=1"],
    "averaged": ["+callbacks.ema={_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.5}"],
    "bf16": ["trainer.precision=bf16-mixed"],
    "compiled": ["compile=true"],
}
BASE = ["model.dropout=0.3", "model.widths=[4,8,8]", "data.size=8", "trainer.limit_train_batches=3", "test=false",
        "trainer.limit_val_batches=2", "logger=csv", "trainer.max_epochs=2",
        "data.augment=[{_target_: torchvision.transforms.v2.RandomRotation, degrees: 10}]"]  # fmt: skip
CHEAP = {
    "axis_alignment": ["rotations=2", "alphas=[1.0]", "images=60"],
    "caricature": ["steps=2", "images=1"],
    "dissection": ["images=60"],
    "feature_visualization": ["steps=2", "channels=1"],
    "nmf": ["icon_steps=2", "restarts=1", "sweeps=5"],
    "projection": ["images=40", "method=pca"],
    "robustness": ["images=60"],
    "saliency": ["methods=[gradient,smoothgrad]", "samples=2", "checks=none"],
    "similarity": ["images=40"],
}


def end(train, folder, kind: str, *overrides: str, backend: str = "eager") -> dict:
    """Everything a training leaves: the last checkpoint without paths, and every metric that is not a plugin's."""
    own = patch.object(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    with own if kind == "compiled" else nullcontext():
        run = train(folder, *BASE, *TRAININGS[kind], *overrides)
    left = run.checkpoint()
    left["callbacks"] = left["callbacks"]["RandomState"]
    left["epoch_scalars"]["scalars"] = trainings_own(left["epoch_scalars"]["scalars"])
    with (folder / "csv" / "metrics.csv").open() as file:
        rows = [{k: v for k, v in trainings_own(row).items() if v} for row in csv.DictReader(file)]
    left["metrics"] = [row for row in rows if set(row) - {"epoch", "step"}]
    assert len(left["metrics"]) == 4 and "val/loss" in left["metrics"][0]
    return left


def trainings_own(scalars: dict) -> dict:
    return {name: value for name, value in scalars.items() if name.split("/")[0] not in (*NAMES, "vandal")}


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    """How each training ends without plugins."""
    known: dict[tuple[str, str], dict] = {}

    def ends(kind: str, backend: str) -> dict:
        if (kind, backend) not in known:
            known[kind, backend] = end(train, tmp_path_factory.mktemp("plain"), kind, backend=backend)
        return known[kind, backend]

    return ends


def compare(train, folders, plain, kind: str, names: list[str], every: int, start: bool, backend: str) -> None:
    chosen = [f"plugin.{name}.{setting}" for name in names for setting in CHEAP.get(name, [])]
    chosen += [f"plugin.{n}.{s}" for n in names for s in (f"every_n_epochs={every}", f"at_start={start}")]
    folder = folders.mktemp("studied")
    found = end(train, folder, kind, f"+plugin=[{','.join(names)}]", *chosen, backend=backend)
    expected = plain(kind, backend)
    assert found.keys() == expected.keys()
    for part in expected:
        assert identical(found[part], expected[part]), part
    for name in names:
        epochs = {f"epoch={epoch:04d}" for epoch in range(not start, 3) if epoch % every == 0 or epoch == 2}
        assert {path.name for path in (folder / "results" / name).iterdir()} == epochs


ANY = given(
    kind=st.sampled_from(sorted(TRAININGS)),
    names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    every=st.integers(1, 3),
    start=st.booleans(),
)
options = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "database": None}


@settings(**options, phases=[Phase.explicit])
@ANY
@example(kind="accumulated", names=["similarity", "nmf", "confusion"], every=1, start=True)
@example(kind="workers", names=["saliency", "dissection"], every=2, start=False)
@example(kind="averaged", names=["class_attribution", "projection"], every=1, start=False)
@example(kind="bf16", names=["caricature", "feature_visualization"], every=2, start=True)
@example(kind="compiled", names=["robustness", "axis_alignment"], every=3, start=True)
def test_a_training_ends_as_without_plugins(train, tmp_path_factory, plain, kind, names, every, start):
    compare(train, tmp_path_factory, plain, kind, names, every, start, "eager")


@pytest.mark.slow
@settings(**options, max_examples=40, phases=[Phase.generate])
@ANY
def test_any_training_ends_as_without_any_plugins(train, tmp_path_factory, plain, kind, names, every, start):
    compare(train, tmp_path_factory, plain, kind, names, every, start, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_training_ends_as_without_all_plugins(train, tmp_path_factory, plain, backend):
    compare(train, tmp_path_factory, plain, "compiled", NAMES, 1, True, backend)


def test_a_misbehaving_study_is_undone_and_named(train, tmp_path, plain):
    bad = "+plugin.vandal={_target_: tests.studies.Vandal}"
    with pytest.warns(UserWarning, match="plugin vandal left changes behind, undone: ") as caught:
        found = end(train, tmp_path, "workers", bad)
    expected = plain("workers", "eager")
    assert all(identical(found[part], expected[part]) for part in expected)
    said = [str(warning.message) for warning in caught if "vandal" in str(warning.message)]
    assert len(said) == 3  # before training and after each epoch
    for what in ("hook left on", "gradient left on", "training mode of", "changed in place", "requires_grad of",
                 "default dtype set to torch.float64", "thread count set to 7", "gradient mode set to False",
                 "mkldnn enabled set to False", "buffer "):  # fmt: skip
        assert all(what in text for text in said), (what, said[0])


def test_with_averaged_weights_a_study_sees_those_that_train(train, tmp_path):
    from tests.studies import Confidence
    from tests.test_every_plugin import rebuilt

    study = "+plugin.study={_target_: tests.studies.ConfidencePlugin}"
    run = train(tmp_path, study, *TRAININGS["averaged"], "model.dropout=0.3")
    seen = Confidence.load(tmp_path / "results" / "study" / "epoch=0002").highest
    net, probe = rebuilt(run)  # of `state_dict`, where Lightning puts the averaged weights
    current = {k.removeprefix("net."): v for k, v in run.checkpoint()["current_model_state"].items() if "net." in k}
    averaged = net.eval()(probe.images).softmax(dim=1).amax(dim=1)
    net.load_state_dict(current)
    assert torch.equal(seen, net(probe.images).softmax(dim=1).amax(dim=1)) and not torch.allclose(seen, averaged)
