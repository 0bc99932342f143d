"""The base class: schedule, errors, isolation, files; with studies that go wrong."""

import json
import logging
import math
import re
from dataclasses import dataclass, field

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from interp.draw.policy import guarded
from interp.errors import UserError
from interp.lit.run_folder.files import read_figures
from interp.probe import Probe
from interp.processes import share
from plugins.similarity import SimilarityResult
from tests.conftest import identical
from tests.processes import on_processes
from tests.studies import Confidence, ConfidencePlugin, Hungry, Meddling

STUDY = "+plugin.study={{_target_: tests.studies.{}{}}}"


QUICK = ("plugin.nmf.icon_steps=0", "plugin.nmf.restarts=0")


def study(name: str, **settings) -> str:
    return STUDY.format(name, "".join(f", {key}: {value}" for key, value in settings.items()))


def epochs(run) -> list[str]:
    return sorted(path.name for path in (run.folder / "results" / "study").glob("epoch=*"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"every_n_epochs": 2}, [0, 2, 3]),
        ({"every_n_epochs": 5, "at_start": "false"}, [3]),
    ],
)
def test_schedule(train, tmp_path, settings, expected):
    run = train(tmp_path, study("ConfidencePlugin", **settings), "trainer.max_epochs=3")
    assert epochs(run) == [f"epoch={epoch:04d}" for epoch in expected]


THINNED = (
    *("+plugin=similarity", "plugin.similarity.images=20", "plugin.similarity.keep_looks=4", "model.widths=[4,6]"),
    *("trainer.max_epochs=8", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "test=false"),
    "logger=report",
)


@pytest.fixture(scope="module")
def thinned(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("thinned"), *THINNED).folder


def looks(folder, name: str = "similarity") -> list[int]:
    return sorted(int(path.name[6:]) for path in (folder / "results" / name).glob("epoch=????"))


def test_of_many_looks_first_and_last_and_some_between_are_kept(thinned):
    assert looks(thinned) == [0, 4, 8]
    folders = [thinned / "results" / "similarity" / f"epoch={epoch:04d}" for epoch in (4, 8)]
    assert all((folder / "layers.png").is_file() for folder in folders)
    drifts = [json.loads((folder / "result.json").read_text())["scalars"]["drift"] for folder in folders]
    assert all(drift > 0 for drift in drifts)
    rows = [json.loads(row) for row in (thinned / "results" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "similarity/neighbours" in row["metrics"]] == [*range(9)]
    (figure,) = read_figures(thinned, notes := [], {})
    assert [shot.epoch for shot in figure.shots] == [0, 4, 8] and not notes and (thinned / "report.html").is_file()


def test_a_thinned_run_that_was_cut_off_goes_on_to_the_same_results(thinned, train, tmp_path):
    cut = "+plugin.study={_target_: tests.studies.Interrupted, epoch: 7}"
    with pytest.raises(ConnectionAbortedError):
        train(tmp_path / "cut", *THINNED, cut)
    assert looks(tmp_path / "cut") == [0, 4, 6, 7]  # 7 is without a checkpoint: the resumed run needs 6
    (tmp_path / "cut" / ".hydra").mkdir()  # as a run that was started by a command: its results are carried over
    train(tmp_path / "on", *THINNED, f"checkpoint={tmp_path / 'cut'}")
    assert looks(tmp_path / "on") == [0, 4, 8]
    kept = {
        folder: SimilarityResult.load(folder / "results/similarity/epoch=0008") for folder in (thinned, tmp_path / "on")
    }
    assert identical(*map(vars, kept.values()))


def test_a_failing_study_is_reported_and_training_goes_on(train, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run = train(tmp_path, study("Failing"), "logger=csv")
    assert epochs(run) == ["epoch=0000"] and run.checkpoint()["epoch"] == 1
    assert "plugin study failed at epoch 1: RuntimeError: the study broke" in caplog.text and "Traceback" in caplog.text
    rows = (run.folder / "csv" / "metrics.csv").read_text()
    assert "study/failed" in rows


def test_a_disabled_study_looks_no_more(train, tmp_path, caplog):
    train(tmp_path, study("Failing", on_error="disable"), "trainer.max_epochs=4")
    assert caplog.text.count("plugin study failed") == 1


def test_raise_ends_the_training_with_its_earlier_checkpoint(train, tmp_path):
    with pytest.raises(RuntimeError, match="plugin study failed at epoch 2"):
        train(tmp_path, study("Failing", on_error="raise", after=2), "trainer.max_epochs=3")
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_wrong_settings_end_the_run_before_the_first_epoch(train, tmp_path):
    with pytest.raises(UserError, match="plugin.study: temperature=0: choose more"):
        train(tmp_path, study("WrongSetting"))
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["+plugin=nmf", "plugin.nmf.layer=blok3"], "no layer 'blok3' in Sequential; did you mean 'block3'"),
        (
            ["+plugin=nmf", "plugin.nmf.on_error=ignore"],
            "no plugin.nmf.on_error 'ignore'; Choose from: warn, disable, raise",
        ),
        (["+plugin=nmf", "plugin.nmf.every_n_epochs=0"], "every_n_epochs=0: must be at least 1"),
        (
            ["+plugin=nmf", "plugin.nmf.keep_looks=1"],
            "plugin.nmf.keep_looks=1: must be at least 2, the first .* or null",
        ),
        (["+plugin=nmf", "+plugin.nmf.name=../../x"], "plugin name '../../x'"),
        (["+plugin=saliency", "plugin.saliency.blank=blak"], "no plugin.saliency.blank 'blak'; did you mean 'black'"),
        (["+plugin=nmf", "+plugin.second={_target_: plugins.nmf.NMFPlugin, name: nmf}"], "two plugins are named 'nmf'"),
        (["model=torchvision", "model.name=resnt18"], "did you mean 'resnet18'"),
        (
            ["+plugin.study={_target_: tests.studies.Nothing}"],
            "no plugin.study._target_ called 'Nothing' in tests.studies",
        ),
        (["checkpoint=nowhere.ckpt"], "no checkpoint .*nowhere.ckpt"),
    ],
)
def test_mistakes_leave_nothing_behind(train, tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, *override, "logger=[report,wandb]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "strategy", ["fsdp", "deepspeed_stage_3", "{_target_: lightning.pytorch.strategies.FSDPStrategy}"]
)
def test_strategies_that_spread_weights_are_refused_before_anything_is_written(train, tmp_path, strategy):
    with pytest.raises(UserError, match="spreads the weights over processes, .* choose trainer.strategy=ddp"):
        train(tmp_path, f"+trainer.strategy={strategy}")
    assert not list(tmp_path.iterdir())


def spread(rank: int) -> str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_module

    net = torch.nn.Sequential(
        torch.nn.Linear(2, 2), distribute_module(torch.nn.Linear(2, 2), init_device_mesh("cpu", (1,)))
    )
    share.whole(net[0])
    with pytest.raises(UserError) as refused:
        share.whole(net)
    return str(refused.value)


def test_weights_in_parts_are_refused_by_name(tmp_path):
    (said,) = on_processes(1, spread, tmp_path)
    assert said.startswith("1.weight is a DTensor: its weights are spread over processes")


def test_one_thing_is_a_list_of_one(net, digits):
    from plugins.nmf import NMFPlugin
    from plugins.similarity import SimilarityPlugin

    assert NMFPlugin(name="nmf", classes=7, layer=1).layer == "1" and NMFPlugin(name="nmf", classes=7).classes == ["7"]
    assert SimilarityPlugin(name="similarity", layers="block1").layers == ["block1"]
    assert SimilarityPlugin(name="similarity", layers=[0, 2]).layers == ["0", "2"]


def test_out_of_memory_halves_the_batch(net, digits):
    plugin = Hungry(name="hungry")
    assert len(plugin.look(net, digits.probe).highest) == 10 and plugin.batch_size == 16
    with pytest.raises(torch.OutOfMemoryError):
        always = Hungry(name="hungry")
        always.analyze = lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError())
        always.look(net, digits.probe)


def test_meddling_is_undone_and_named(net, digits):
    before, state = [p.clone() for p in net.parameters()], torch.get_rng_state()
    with pytest.warns(UserWarning, match="plugin meddling left changes behind, undone: ") as caught:
        Meddling(name="meddling").look(net, digits.probe)
    assert "weight" in str(caught[0].message) and "hook left on the network" in str(caught[0].message)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state()) and not net._forward_hooks


def test_a_full_disk_while_drawing_loses_neither_numbers_nor_training(train, tmp_path, caplog):
    run = train(tmp_path, study("FullDisk"))
    assert "its pictures could not be shown" in caplog.text and "No space left" in caplog.text
    assert len(epochs(run)) == 3 and run.checkpoint()["epoch"] == 1
    assert (
        json.loads((run.folder / "results" / "study" / "epoch=0002" / "result.json").read_text())["scalars"]["mean"] > 0
    )


def test_a_results_folder_that_cannot_be_written_loses_neither(train, tmp_path, caplog):
    (tmp_path / "results").write_text("a file where the folder should be")
    run = train(tmp_path, study("ConfidencePlugin"))
    assert "plugin study failed" in caplog.text and run.checkpoint()["epoch"] == 1


def test_nan_activations_are_reported(train, tmp_path, caplog):
    with pytest.raises(UserError, match="the training loss is nan in epoch"):
        train(tmp_path, "+plugin=nmf", "optimizer=sgd", "optimizer.lr=1e20", "scheduler=none", "trainer.max_epochs=6")
    assert "plugin nmf failed at epoch" in caplog.text and "NaN" in caplog.text
    assert (tmp_path / "results" / "nmf" / "epoch=0000" / "groups.png").is_file()


def test_an_all_zero_layer_is_shown_as_such(net, digits):
    from plugins.nmf import NMFPlugin

    with torch.no_grad():
        net.body.block3.norm.weight.zero_()
        net.body.block3.norm.bias.fill_(-1.0)
    result = NMFPlugin(name="nmf").look(net, digits.probe)
    assert {"relative_error": 0.0, "sparsity": 1.0, "dead_groups": 6.0}.items() <= result.scalars().items()
    assert "6 groups never fire" in result.captions()["groups"] and result.pictures()["groups"].float().std() > 1


def test_two_of_a_kind_stand_side_by_side(train, tmp_path):
    second = "+plugin.early={_target_: plugins.nmf.NMFPlugin, layer: block1, groups: 3, icon_steps: 0, restarts: 0}"
    run = train(tmp_path, "+plugin=nmf", second, *QUICK)
    from plugins.nmf import NMFResult

    shapes = [NMFResult.load(tmp_path / "results" / name / "epoch=0002").spatial.shape[1] for name in ("nmf", "early")]
    assert shapes == [6, 3] and run.objective is not None


def test_its_scalars_can_choose_the_best_checkpoint(train, tmp_path):
    monitor = [f"callbacks.checkpoint.{setting}" for setting in ("monitor=nmf/relative_error", "mode=min")]
    run = train(tmp_path, "+plugin=nmf", *QUICK, *monitor, "objective=nmf/relative_error", "trainer.max_epochs=3")
    folders = [tmp_path / "results" / "nmf" / f"epoch={epoch:04d}" for epoch in (1, 2, 3)]
    errors = [json.loads((folder / "result.json").read_text())["scalars"]["relative_error"] for folder in folders]
    assert run.checkpoint("best")["epoch"] == errors.index(min(errors))
    assert math.isclose(run.objective, errors[-1], rel_tol=1e-5)


def test_a_sink_that_raises_does_not_keep_pictures_from_the_folder(tmp_path, net, digits, caplog):
    class Broken:
        def log_image(self, **_):
            raise ConnectionError("unreachable")

    plugin = ConfidencePlugin(name="study")
    plugin.keep(plugin.look(net, digits.probe), tmp_path / "study", [Broken()], epoch=1, step=3)
    plugin.finish_drawing()
    assert "Broken could not take the picture study/bars: unreachable" in caplog.text
    assert (tmp_path / "study" / "epoch=0001" / "bars.png").is_file()


def test_widgets_lie_beside_the_pictures_whatever_wandb_does(tmp_path, caplog):
    from lightning.pytorch.loggers import WandbLogger

    from tests.studies import Explorable

    class Broken(WandbLogger):
        def __init__(self):
            pass

        def log_metrics(self, metrics, step=None):
            raise ConnectionError("unreachable")

    plugin = ConfidencePlugin(name="study")
    for logger in (Broken(), object()):
        plugin.keep(Explorable(torch.rand(3)), tmp_path / "study", [logger], epoch=1, step=3)
        plugin.finish_drawing()
    assert "Broken could not take the widget study/explorer: unreachable" in caplog.text
    look = tmp_path / "study" / "epoch=0001"
    assert {path.name for path in look.iterdir()} == {
        "bars.png", "explorer.html", "result.json", "result.safetensors"
    }  # fmt: skip
    assert (look / "explorer.html").read_text() == guarded("<p>3 values</p>")


STOPPING = "callbacks.early_stopping.{}".format
STOPS = [STOPPING("monitor=epoch"), STOPPING("mode=min"), STOPPING("patience=1")]


@pytest.mark.parametrize(
    ("ending", "last"),
    [
        (STOPS, 2),
        (["+trainer.max_steps=6"], 2),
        (["+trainer.max_time={milliseconds: 1}"], 1),
        ([*STOPS, "+trainer.min_epochs=4"], 4),
    ],
)
def test_the_last_epoch_has_a_look_however_training_ends(train, tmp_path, ending, last):
    best = ["callbacks.checkpoint.monitor=study/mean", "callbacks.checkpoint.mode=max"]
    run = train(tmp_path, study("ConfidencePlugin", every_n_epochs=5), *ending, *best, "trainer.max_epochs=20",
                "model.widths=[8]", "data.size=8", "trainer.limit_val_batches=1", "test=false",
                "logger=report")  # fmt: skip
    assert epochs(run) == ["epoch=0000", f"epoch={last:04d}"] and run.checkpoint()["epoch"] + 1 == last
    assert run.checkpoint("best")["epoch_scalars"]["scalars"]["study/mean"] > 0  # looked before the checkpoint was kept
    rows = (tmp_path / "results" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows if '"study/mean"' in row] == [0, last]


class Regression(LightningModule):
    """Somebody's own LightningModule, which logs a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))

    def training_step(self, batch, index):
        self.log("constant", 1.0, on_epoch=True)
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Own(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.probe = Probe(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), ("a", "b"), torch.arange(2))

    def train_dataloader(self):
        return torch.utils.data.DataLoader([(torch.rand(4, 1, 4, 4), torch.zeros(4))] * 2, batch_size=None)


@dataclass(kw_only=True)
class Improving(ConfidencePlugin):
    """Finds less at every look; the looks in `failing` raise."""

    failing: tuple[int, ...] = ()
    looks: int = 0

    def analyze(self, net, probe):
        self.looks += 1
        if self.looks in self.failing:
            raise RuntimeError("the study broke")
        return Confidence(torch.full((1,), 100.0 - self.looks))


@pytest.mark.parametrize(
    ("settings", "stop", "limits", "trained", "looks"),
    [
        ({"every_n_epochs": 5}, ("constant", 3, True), {"max_epochs": 9}, 4, [0, 4]),
        ({"every_n_epochs": 5}, None, {"max_epochs": -1, "max_steps": 5}, 3, [0, 3]),
        ({"every_n_epochs": 5}, ("study/mean", 2, False), {"max_epochs": 12}, 12, [0, 5, 10, 12]),
        ({"failing": (3, 4, 5)}, ("study/mean", 2, False), {"max_epochs": 7}, 7, [0, 1, 5, 6, 7]),
    ],
)
def test_in_ones_own_trainer_too(tmp_path, caplog, settings, stop, limits, trained, looks):
    stoppers = [EarlyStopping(stop[0], patience=stop[1], strict=stop[2], check_on_train_epoch_end=True)] if stop else []
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", **limits, **off,
                      callbacks=[Improving(name="study", **settings), *stoppers])  # fmt: skip
    trainer.fit(Regression(), datamodule=Own())
    found = sorted(int(path.name[6:]) for path in (tmp_path / "results" / "study").iterdir())
    assert (trainer.current_epoch, found) == (trained, looks)
    assert "study/mean" in trainer.callback_metrics


@pytest.mark.parametrize("start", ["true", "false"])
def test_a_misspelt_scalar_of_a_study_ends_the_run_at_the_first_look(train, tmp_path, start):
    message = "no scalar to monitor 'study/men'; did you mean 'study/mean'? Choose from: study/failed, study/mean"
    with pytest.raises(UserError, match=re.escape(message)):
        train(tmp_path, study("ConfidencePlugin", at_start=start), "callbacks.checkpoint.monitor=study/men",
              "data.size=8", "model.widths=[8]")  # fmt: skip
    assert not (tmp_path / "checkpoints").exists()


def test_a_scalar_of_later_looks_alone_can_be_monitored(train, tmp_path):
    run = train(tmp_path, "+plugin=similarity", "callbacks.checkpoint.monitor=similarity/drift", "data.size=8")
    assert run.checkpoint("best")["epoch"] in (0, 1)


@dataclass(kw_only=True)
class Tabled(ConfidencePlugin):
    """Has settings of other kinds, with and without a default of their own."""

    weights: dict = field(default_factory=dict)
    names: list = field(default_factory=list)
    sizes: tuple = field(default_factory=tuple)
    optional: list | None = field(default_factory=lambda: None)


def test_only_lists_take_one_for_a_list_of_one():
    plugin = Tabled(name="t", weights={"a": 1}, names="one", sizes=(2, 3))
    assert (plugin.weights, plugin.names, plugin.sizes, plugin.optional) == ({"a": 1}, ["one"], (2, 3), None)
