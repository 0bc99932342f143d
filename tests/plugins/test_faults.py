"""What can go wrong in a study or in a sink costs that study or sink, never the training."""

import io
import json
import logging
import signal
import threading
import time
from dataclasses import dataclass

import pytest
import torch

from interp.errors import UserError
from interp.lit.checkpoints.checkpoint import read_checkpoint
from interp.lit.run_folder import failures
from interp.lit.sinks import forgiving
from tests.conftest import Run
from tests.plugins.test_base import study
from tests.studies import ConfidencePlugin, Signalled


def rows(folder) -> dict[str, list[float]]:
    """Every value of each scalar in the report's metrics."""
    found: dict[str, list[float]] = {}
    for line in (folder / "results" / "metrics.jsonl").read_text().splitlines():
        for name, value in json.loads(line)["metrics"].items():
            found.setdefault(name, []).append(float(value))
    return found


@dataclass
class Faulty:
    """A finished training with studies and a sink that went wrong."""

    run: Run
    said: str
    seconds: float
    scalars: dict[str, list[float]]

    def looks(self, name: str) -> list[int]:
        folders = (self.run.folder / "results" / name).glob("epoch=*/result.json")
        return sorted(int(path.parent.name.removeprefix("epoch=")) for path in folders)


@pytest.fixture(scope="module")
def faulty(train, tmp_path_factory) -> Faulty:
    folder, said = tmp_path_factory.mktemp("faulty"), io.StringIO()
    kinds = {"hangs": "Hanging, timeout: 0.5", "draws": "HangingPictures", "wordless": "Wordless",
             "infinite": "NotANumber", "fine": "ConfidencePlugin"}  # fmt: skip
    studies = [f"+plugin.{name}={{_target_: tests.studies.{kind}}}" for name, kind in kinds.items()]
    handler, began = logging.StreamHandler(said), time.monotonic()
    logging.root.addHandler(handler)
    logging.getLogger("train").setLevel(logging.INFO)
    patch = pytest.MonkeyPatch()
    patch.setattr("plugins.base.keeping.PICTURES", 1.0)
    try:
        sink = f"+logger.away={{_target_: tests.studies.Unreachable, save_dir: {folder}}}"
        run = train(folder, *studies, "logger=report", sink)
    finally:
        patch.undo()
        logging.root.removeHandler(handler)
        logging.getLogger("train").setLevel(logging.NOTSET)
    return Faulty(run, said.getvalue(), time.monotonic() - began, rows(folder))


def test_training_goes_on_and_the_other_study_is_whole(faulty):
    assert faulty.run.checkpoint()["epoch"] == 1 and faulty.looks("fine") == [0, 1, 2]
    assert all((faulty.run.folder / "results" / "fine" / f"epoch=000{n}" / "bars.png").is_file() for n in range(3))
    assert faulty.scalars["fine/failed"] == [0, 0, 0] and "plugin fine" not in faulty.said


def test_a_study_that_hangs_is_skipped(faulty):
    assert "plugin hangs failed at epoch 1: TimeoutError: took longer than 0.5 seconds" in faulty.said
    assert "give plugin.hangs.timeout more, or null" in faulty.said and "time.sleep(60)" in faulty.said
    assert faulty.looks("hangs") == [0, 2] and faulty.scalars["hangs/failed"] == [0, 1, 0]
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_pictures_that_hang_hold_nobody_up(faulty):
    assert faulty.said.count("plugin draws: its pictures could not be shown: not done after 1 seconds: given up") == 3
    assert faulty.looks("draws") == [0, 1, 2] and faulty.seconds < 50


def test_what_is_no_result_is_named(faulty):
    assert "analyze returned NoneType, which is no interp.result.Result" in faulty.said
    assert faulty.looks("wordless") == [] and faulty.scalars["wordless/failed"] == [1, 1, 1]


def test_scalars_that_are_not_finite_are_named_and_not_logged(faulty):
    assert "plugin infinite at epoch 1: mean is nan, ratio is nan, peak is inf: not logged" in faulty.said
    assert "plugin infinite: its tables could not be printed: ZeroDivisionError" in faulty.said
    assert faulty.looks("infinite") == [0, 1, 2] and faulty.scalars["infinite/failed"] == [1, 1, 1]
    assert "infinite/mean" not in faulty.scalars


def test_a_traceback_is_shown_once_and_each_failure_in_a_line(faulty):
    assert faulty.said.count("plugin wordless failed at epoch") == 3
    assert faulty.said.count('raise TypeError(f"analyze returned') == 1
    again = ConfidencePlugin(name="study")

    def failed(message: str, other: bool = False) -> str:
        try:
            raise KeyError(message) if other else ValueError(message)
        except (KeyError, ValueError) as error:
            return again.traceback(error)

    assert "Traceback" in failed("1") and failed("2") == "" and "KeyError: '3'" in failed("3", other=True)


def test_the_last_line_and_the_report_name_studies_that_failed_and_how_often(faulty):
    last = next(line for line in faulty.said.splitlines() if line.startswith("Done:"))
    page = (faulty.run.folder / "report.html").read_text()
    for said in (
        "hangs (1 of 3 looks: TimeoutError: took longer than 0.5 seconds: give plugin.hangs.timeout more, or null",
        "infinite (3 of 3 looks: mean is nan, ratio is nan, peak is inf)",
        "wordless (3 of 3 looks: TypeError: analyze returned NoneType, which is no interp.result.Result)",
    ):  # fmt: skip
        assert said in last.partition("studies that failed: ")[2] and said in page.partition("studies that failed: ")[2]
    assert "fine (" not in last and failures.read(faulty.run.folder, [])["fine"] == {0: "", 1: "", 2: ""}


def test_failures_of_a_run_are_those_up_to_where_it_was_resumed(tmp_path):
    results = tmp_path / "results"
    failures.keep(results, "other", 1, "")
    assert not results.exists()
    for epoch, reason in ((0, "a"), (1, ""), (2, "b"), (3, "c"), (2, "")):
        failures.keep(results, "study", epoch, reason)
    assert failures.read(tmp_path, []) == {"study": {0: "a"}}
    read = failures.read(tmp_path, [], {"study/failed": {(0, 0): 1.0, (3, 1): 0.0, (6, None): 0.0}})
    assert failures.told(read) == "studies that failed: study (1 of 2 looks: a)"
    for damaged, said in (("[", "failures.json is damaged"), ('{"study": [1], "other": {"x": 1, "4": "2"}}', "")):
        (results / failures.FILE).write_text(damaged)
        found = failures.read(tmp_path, notes := [])
        assert found == ({"study": {}, "other": {4: "2"}} if not said else {}) and said in "".join(notes)


def test_a_sink_that_cannot_be_reached_is_told_of_once(faulty):
    assert faulty.said.count("Unreachable failed in log_metrics: no route to host") == 1
    assert "Unreachable failed in log_metrics 3 times in a row: nothing more is sent there" in faulty.said


def test_a_full_disk_ends_the_run_by_its_name_and_leaves_the_last_checkpoint(train, tmp_path, mounted, caplog):
    disk = mounted("size=16m")
    with pytest.raises(UserError, match=f"t.ckpt: No space left .* disk at {disk} has .* the one before"):
        train(disk / "run", study("Filling", at_start="false", folder=disk), "trainer.max_epochs=3", "logger=report")
    assert "plugin study failed at epoch 2: OSError: [Errno 28] No space left on device" in caplog.text
    checkpoints = sorted((disk / "run" / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["best.ckpt", "last.ckpt"]
    assert [read_checkpoint(path)["epoch"] for path in checkpoints] == [0, 0]
    (disk / "filling").unlink()
    (disk / "run" / ".hydra").mkdir()
    resumed = train(disk / "run", f"checkpoint={disk}/run", "trainer.max_epochs=3")
    assert resumed.checkpoint()["epoch"] == 2


def test_sigterm_in_a_study_leaves_its_epoch_whole_and_says_how_to_resume(train, tmp_path, caplog):
    caplog.set_level(logging.INFO, "train")
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, study("Signalled", number=signal.SIGTERM.value, at_start="false"), "trainer.max_epochs=3")
    assert ended.value.code == 143 and read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["epoch"] == 0
    assert f"Ended early by SIGTERM: to resume, give the same command with checkpoint={tmp_path}" in caplog.text
    assert (tmp_path / "results" / "study" / "epoch=0001" / "bars.png").is_file()


def test_a_monitored_study_that_fails_costs_the_choice_of_the_best_alone(train, tmp_path):
    run = train(tmp_path, study("Failing"), "callbacks.checkpoint.monitor=study/mean", "trainer.max_epochs=2")
    assert run.checkpoint()["epoch"] == 1


def test_signals_wait_until_the_weights_are_back(net, digits):
    weight, seen = next(net.parameters()), []
    clean = weight.detach().clone()
    other = threading.Thread(target=time.sleep, args=(5,), daemon=True)  # may be the one that the signal reaches
    other.start()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        before = signal.signal(number, lambda *_: seen.append(torch.equal(weight, clean)))
        try:
            result = Signalled(name="study", number=number).look(net, digits.probe)
        finally:
            signal.signal(number, before)
        assert len(result.highest)
    assert seen == [True, True]


def test_ctrl_c_ends_a_study_at_once_and_leaves_the_weights_as_they_were(net, digits):
    weight = next(net.parameters())
    clean, before = weight.detach().clone(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="undone: parameter .* changed"):
            Signalled(name="study", number=signal.SIGINT).look(net, digits.probe)
        assert torch.equal(weight, clean) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_study_may_run_outside_the_main_thread(net, digits):
    found = []
    plugin = ConfidencePlugin(name="study", timeout=60)
    thread = threading.Thread(target=lambda: found.append(plugin.look(net, digits.probe)))
    thread.start()
    thread.join()
    assert len(found[0].highest) == 10


class Sink:
    """A logger that fails in all or every other of its calls."""

    def __init__(self, works: tuple[bool, ...]) -> None:
        self.works, self.calls, self.ended = works, 0, False

    def log_metrics(self, metrics, step=None):
        self.calls += 1
        if not self.works[self.calls % len(self.works)]:
            raise ConnectionError("unreachable")

    def save(self):
        pass  # as W&B's, which keeps nothing back

    def finalize(self, status):
        self.ended = True


@pytest.mark.parametrize(("works", "calls", "told"), [((False,), 3, 2), ((True, False), 10, 1)])
def test_a_sink_that_fails_is_told_of_once_and_left_when_it_never_works(works, calls, told, caplog):
    sink = forgiving(Sink(works))
    with caplog.at_level(logging.WARNING):
        for step in range(10):
            sink.log_metrics({"value": 1.0}, step=step)
            sink.save()  # as Lightning after each row
    sink.finalize("success")
    assert sink.calls == calls and sink.ended and len(caplog.records) == told
    assert "Sink failed in log_metrics: unreachable" in caplog.text
