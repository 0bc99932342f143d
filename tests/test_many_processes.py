"""The same on many processes: what each shipped plugin finds, and a training with studies that fail on one of them."""

import csv
import logging
import os
import re
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import distributed as dist
from torch import nn

import analyze
from interp.errors import UserError
from interp.probe import Probe
from interp.processes import share
from interp.result import Result
from tests.conftest import Run, identical
from tests.processes import on_processes
from tests.studies import Confidence, ConfidencePlugin
from tests.test_every_plugin import NAMES, coloured, make, rebuilt

ROOT = Path(__file__).parents[1]
SMALL = {
    "saliency": {"steps": 4, "samples": 2},
    "nmf": {"restarts": 1, "icon_steps": 8},
    "projection": {"iterations": 250},
    "caricature": {"steps": 8},
    "feature_visualization": {"steps": 8},
    "axis_alignment": {"rotations": 2, "alphas": [0.5, 1.0]},
    "robustness": {"disturbances": ["noise", "fgsm"]},
}


def studied(rank: int = 0) -> dict[str, tuple[dict, dict] | None]:
    """What each plugin found of one network, whose batch-norm statistics differ between the processes."""
    found: dict[str, tuple[dict, dict] | None] = {}
    for name in NAMES:
        net, data = coloured(3)
        for buffer in net.buffers():
            buffer.add_(rank)
        plugin = make(name)
        for key, value in ({"batch_size": 5} | SMALL.get(name, {})).items():
            setattr(plugin, key, value)
        before = [buffer.clone() for buffer in net.buffers()]
        result = plugin.look(net, data.probe)
        assert all(map(torch.equal, before, net.buffers()))
        found[name] = (vars(result), result.scalars()) if isinstance(result, Result) else None
    return found


@pytest.fixture(scope="module")
def alone():
    return studied()


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def on_many(request, tmp_path_factory):
    return on_processes(request.param, studied, tmp_path_factory.mktemp("many"), seconds=300)


STEPPED = {"drawn", "control", "film"}  # pictures in 256 steps: a difference in the last bit may be one of them


def assert_alike(found, expected) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if key in STEPPED:
                torch.testing.assert_close(found[key], value, rtol=0, atol=1.01 / 255)
            else:
                assert_alike(found[key], value)
    elif isinstance(expected, float) or (torch.is_tensor(expected) and expected.is_floating_point()):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    else:
        assert identical(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_plugin_finds_the_same_on_many_processes(name, alone, on_many):
    """Integers, texts and shapes exactly; floats to 1e-5, but for pictures that an optimisation draws."""
    (fields, scalars), (expected, expected_scalars) = on_many[0][name], alone[name]
    if name == "nmf":  # its factors differ by 1e-7, which every step of a drawing enlarges
        torch.testing.assert_close(fields.pop("drawn"), expected.pop("drawn"), rtol=0, atol=0.02)
    assert_alike(fields, expected)
    assert scalars == pytest.approx(expected_scalars, rel=1e-5, abs=1e-5)
    assert all(other[name] is None for other in on_many[1:])  # only the first draws and writes


def with_other_images(rank: int) -> str:
    net, data = coloured(3)
    probe = replace(data.probe, images=data.probe.images * (1 - rank / 2))
    with pytest.raises(UserError) as caught:
        make("similarity").look(net, probe)
    return str(caught.value)


def test_other_images_on_one_process_are_refused(tmp_path):
    first, second = on_processes(2, with_other_images, tmp_path)
    assert "the processes read different images" in first and "the processes read different images" in second


def of_the_guide(rank: int = 0) -> torch.Tensor | None:
    first, shared = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    exec(first + shared, guide := {"__name__": "guide"})
    net, data = coloured(3)
    found = guide["AllConfidencePlugin"](name="all", batch_size=5).look(net, data.probe)
    return None if found is None else found.highest


def test_the_shared_study_of_the_guide_works_as_it_is_written_there(tmp_path):
    first, second = on_processes(2, of_the_guide, tmp_path)
    assert len(first) == 24 and torch.equal(first, of_the_guide()) and second is None


@dataclass(kw_only=True)
class TakenBack(ConfidencePlugin):
    """The cluster takes the machine back while the first process studies: it tells all `processes`."""

    processes: list[int]

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        for process in self.processes:
            os.kill(process, signal.SIGTERM)
        time.sleep(0.2)
        return super().analyze(net, probe)


def taken_back(rank: int) -> tuple[int, int]:
    met: list[torch.Tensor] = []

    def meet(*_) -> None:  # as Lightning's handler
        dist.broadcast(here := torch.tensor(rank + 1), src=0)
        met.append(here)

    signal.signal(signal.SIGTERM, meet)
    numbers = [0, 0]
    dist.all_gather_object(numbers, os.getpid())
    net, data = coloured(3)
    TakenBack(name="study", processes=numbers).look(net, data.probe)
    return sum(map(int, met)), share.from_first(rank)


def test_handlers_that_make_processes_meet_wait_until_all_have_looked(tmp_path):
    assert on_processes(2, taken_back, tmp_path, seconds=60) == [(1, 0), (1, 0)]


ON_TWO = [
    "trainer=ddp",
    "trainer.devices=2",
    "trainer.accelerator=cpu",
    "logger=csv",
    "model.dropout=0.3",
    "test=false",
]
ONE_BREAKS = "+plugin.{0}={{_target_: tests.studies.FailsOnOne, on_error: {0}}}"


def test_a_training_on_two_processes_with_studies_that_break_on_one(train, tmp_path, caplog):
    """It goes on with every epoch's results, the same scalars on both, and the weights of a run without plugins."""
    plugins = ["+plugin=confusion", ONE_BREAKS.format("warn"), ONE_BREAKS.format("disable")]
    plugins += ["objective=[val/accuracy,confusion/accuracy,warn/failed]"]

    def run(rank: int) -> tuple:
        studied = train(tmp_path / "studied", *ON_TWO, *plugins)
        return studied.objective, train(tmp_path / "plain", *ON_TWO).objective

    (first, plain), (second, _) = on_processes(2, run, tmp_path, seconds=300)
    assert first == second and first[0] == plain and first[2] == 1.0
    studied, left = Run(tmp_path / "studied", None), Run(tmp_path / "plain", None)
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert identical(studied.checkpoint()[part], left.checkpoint()[part])
    epochs = {
        key: sorted(p.name[-1] for p in (studied.folder / "results" / key).iterdir())
        for key in ("confusion", "warn", "disable")
    }
    assert epochs == {"confusion": ["0", "1", "2"], "warn": ["0"], "disable": ["0"]}
    rows = list(csv.DictReader((studied.folder / "csv" / "metrics.csv").read_text().splitlines()))
    failed = {
        name: [float(row[f"{name}/failed"]) for row in rows if row.get(f"{name}/failed")]
        for name in ("warn", "disable")
    }
    assert failed == {"warn": [0, 1, 1], "disable": [0, 1]}
    confusion, (net, probe) = make("confusion"), rebuilt(studied)
    afterwards = confusion.continued(confusion.look(net, probe), studied.folder / "results" / "confusion", epoch=2)
    kept = type(afterwards).load(studied.folder / "results" / "confusion" / "epoch=0002")
    assert torch.equal(kept.counts, afterwards.counts) and int(kept.counts.sum()) == len(probe.dataset)


@dataclass(kw_only=True)
class Leaves(ConfidencePlugin):
    """Draws another number of random numbers on each process, and gets `number` while it studies at the epoch `at`."""

    shares: ClassVar[bool] = True
    at: int = 1
    to: int = 1  # which process
    number: int = signal.SIGTERM

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        torch.rand(1 + trainer.global_rank)
        self.epoch = trainer.current_epoch + 1

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        if self.epoch == self.at and share.place()[0] == self.to:
            os.kill(os.getpid(), self.number)
        return Confidence(share.gathered([super().analyze(net, probe).highest]))


LEAVES = "+plugin.leaves={_target_: tests.test_many_processes.Leaves, at_start: false, at: %d, to: %d, number: %d}"


def ended(train, folder: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as end:
        train(folder, *ON_TWO, *options)
    return end.value.code


def test_a_signal_to_one_of_two_in_a_study_ends_both_with_each_ones_random_streams(train, tmp_path, caplog):
    """The epoch that it studies is whole, and its accuracy counts every image once."""
    caplog.set_level(logging.INFO, "train")

    def run(rank: int) -> tuple:
        codes = ended(train, tmp_path / "run", LEAVES % (1, 1, signal.SIGTERM), "logger=[csv]")
        return codes, [record.getMessage() for record in caplog.records if record.name == "train"]

    (code, said), (other, nothing) = on_processes(2, run, tmp_path, seconds=300)
    assert code == other == 143 and "Ended early by SIGTERM: to resume" in said[-1] and not nothing
    left = Run(tmp_path / "run", None)
    state = left.checkpoint()["callbacks"]["RandomState"]
    assert left.checkpoint()["epoch"] == 0 and len(state["processes"]) == 2
    assert identical(state["torch"], state["processes"][0]["torch"])
    assert not identical(*(process["torch"] for process in state["processes"]))
    net, probe = rebuilt(left)
    images, targets = zip(*probe.batches(64), strict=True)
    with torch.no_grad():
        right = sum(int((net.eval()(x).argmax(1) == t).sum()) for x, t in zip(images, targets, strict=True))
    rows = csv.DictReader((left.folder / "csv" / "metrics.csv").read_text().splitlines())
    (accuracy,) = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
    assert accuracy == pytest.approx(right / len(probe.dataset), abs=1e-7) and len(probe.dataset) % 2


@pytest.mark.slow
def test_each_of_two_processes_resumes_with_its_own_random_streams(train, tmp_path):
    """Both draw differently, and end with the weights of the run that nothing ended; three processes are warned."""
    never, then = LEAVES % (9, 1, signal.SIGTERM), LEAVES % (2, 0, signal.SIGTERM)
    long = ["trainer.max_epochs=3", "data.augment=[{_target_: torchvision.transforms.v2.RandomRotation, degrees: 10}]"]

    def run(rank: int) -> list[int]:
        train(tmp_path / "whole", *ON_TWO, never, *long)
        code = ended(train, tmp_path / "run", then, *long)
        (tmp_path / "run" / ".hydra").mkdir(exist_ok=True)
        train(tmp_path / "resumed", *ON_TWO, never, *long, f"checkpoint={tmp_path / 'run'}")
        return code

    assert on_processes(2, run, tmp_path, seconds=300) == [143, 143]
    whole, resumed = (Run(tmp_path / name, None).checkpoint() for name in ("whole", "resumed"))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert identical(whole[part], resumed[part])
    states = [checkpoint["callbacks"]["RandomState"] for checkpoint in (whole, resumed)]
    assert identical(*states) and not identical(*(process["torch"] for process in states[0]["processes"]))


@pytest.mark.slow
def test_three_processes_validate_with_one_image_in_the_last_batch(train, tmp_path):
    """359 images: 120, 120 and 119 each, in batches of 17 and 119 of 7 x 17: one process has a batch less."""

    def run(rank: int) -> float:
        three = [option for option in ON_TWO if option != "trainer.devices=2"] + ["trainer.devices=3", "test=true"]
        return train(tmp_path / "run", *three, "data.batch_size=17", "trainer.max_epochs=1").objective

    first, *others = on_processes(3, run, tmp_path, seconds=300)
    assert others == [first, first]
    net, probe = rebuilt(Run(tmp_path / "run", None))
    batches = list(probe.batches(64))
    with torch.no_grad():
        right = sum(int((net.eval()(images).argmax(1) == targets).sum()) for images, targets in batches)
    assert first == pytest.approx(right / len(probe.dataset), abs=1e-7) and -(-len(probe.dataset) // 3) % 17 == 1


@dataclass(frozen=True)
class Weights(Result):
    """The weights of the networks that the processes look at."""

    seen: torch.Tensor  # (processes,)
    full: ClassVar[list[bool]] = []

    def save(self, folder: Path, **about) -> None:
        if self.full:
            self.full.pop()
            raise OSError(28, "No space left on device")
        super().save(folder, **about)


@dataclass(kw_only=True)
class Weighing(ConfidencePlugin):
    shares: ClassVar[bool] = True

    def analyze(self, net: nn.Module, probe: Probe) -> Weights:
        return Weights(*share.handed_in([net[1].weight.detach()[0, :1]]))


def compared(rank: int, folder: Path) -> list[str]:
    Weights.full[:] = [True] * (rank == 0)
    _, data = coloured(3)
    networks = []
    for value, name in enumerate("ab", start=1):
        net = nn.Sequential(nn.Flatten(), nn.Linear(data.probe.images[0].numel(), 2))
        nn.init.constant_(net[1].weight, value)
        networks.append(SimpleNamespace(name=name, net=net, probe=data.probe, run=None, epoch=0, step=0,
                                        plugins=[Weighing(name="p"), Weighing(name="q")]))  # fmt: skip
    return analyze.study(SimpleNamespace(output=folder), networks, [], first=rank == 0)


def test_a_result_that_cannot_be_kept_leaves_the_processes_at_the_same_network(tmp_path):
    (first,), (second,) = on_processes(2, compared, tmp_path, tmp_path / "run", seconds=120)
    assert first == "plugin.p: OSError: [Errno 28] No space left on device"
    assert second == f"plugin.p: PeerFailed: {first.removeprefix('plugin.p: ')} (on process 0)"
    folders = [path.parent for path in (tmp_path / "run").glob("results/*/*/result.safetensors")]
    kept = {folder.parent.name: Weights.load(folder).seen.tolist() for folder in folders}
    assert kept == {"p.b": [2.0, 2.0], "q.a": [1.0, 1.0], "q.b": [2.0, 2.0]}


def test_raise_ends_the_training_on_both(train, tmp_path):
    def run(rank: int) -> str:
        with pytest.raises(RuntimeError) as caught:
            train(tmp_path / "run", *ON_TWO, ONE_BREAKS.format("raise"))
        return str(caught.value)

    first, second = on_processes(2, run, tmp_path, seconds=300)
    assert first == second == "plugin raise failed at epoch 1: PeerFailed: RuntimeError: the study broke (on process 1)"
