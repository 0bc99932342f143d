"""Files that are whole or absent, whoever writes them, and what is said where a disk is full."""

import os
from contextlib import contextmanager

import pytest
import torch

from interp.dissection.spool import Spool
from interp.dissection.tally import Maps
from interp.errors import UserError
from interp.files import explained
from interp.lit.checkpoints.checkpoint import WholeCheckpointIO
from interp.lit.report.logger import Report
from interp.lit.sinks import forgiving
from plugins.base.sinks import show
from tests.studies import Confidence, Explorable


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_all_files_of_a_run_have_the_permissions_of_new_files(tmp_path, mask):
    result = Confidence(torch.rand(4))
    with umask(mask):
        result.save(tmp_path / "result")
        show(result, tmp_path / "result", "study", [], epoch=0, step=0)
        WholeCheckpointIO().save_checkpoint({"state_dict": {}}, tmp_path / "last.ckpt")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"result.safetensors", "result.json", "bars.png", "last.ckpt"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


def test_a_full_disk_is_said_wherever_something_is_written(mounted, monkeypatch, caplog):
    """All inodes are used, while bytes are free."""
    disk = mounted("size=4m,nr_inodes=20")
    while True:
        try:
            (disk / os.urandom(8).hex()).touch()
        except OSError as error:
            full = error
            break
    said = f"No space left on device (the disk at {disk} takes no more files: all 20 inodes are used)"
    assert explained(full, disk).strerror == said
    with pytest.raises(UserError) as refused:
        WholeCheckpointIO().save_checkpoint({"state_dict": {}}, disk / "last.ckpt")
    assert said in str(refused.value) and "MiB free" not in str(refused.value)
    with pytest.raises(OSError, match="all 20 inodes are used"):
        Confidence(torch.rand(4)).save(disk)
    with pytest.raises(RuntimeError, match="picture bars: OSError: .* all 20 inodes are used"):
        show(Explorable(torch.rand(4)), disk, "s", [], epoch=0, step=0)
    report = Report(disk)
    report.log_metrics({"loss": 1.0}, step=0)
    assert said in caplog.text
    sink = forgiving(Failing(disk, full))
    sink.log_metrics({"loss": 1.0})
    assert f"Failing failed in log_metrics: [Errno 28] {said}" in caplog.text
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with pytest.raises(OSError, match="all 20 inodes are used"):
        Spool(memory=1).add(
            Maps(torch.zeros(9, dtype=torch.int64), torch.zeros(9, dtype=torch.int64), torch.zeros(9, 2, 2))
        )


class Failing:
    """A logger whose folder is on a full disk."""

    def __init__(self, folder, error: OSError) -> None:
        self.save_dir, self.error = str(folder), error

    def log_metrics(self, metrics, step=None):
        raise self.error


def test_names_that_are_no_utf8_cost_no_widget(tmp_path):
    name = "caf\udce9"

    class Named(Confidence):
        def widgets(self) -> dict[str, str]:
            return {"explorer": f"<script>say('{name}')</script><p>{name}</p>"}

    show(Named(torch.rand(4)), tmp_path / name, "study", [], epoch=0, step=0)
    assert r"<p>caf\udce9</p>" in (tmp_path / name / "explorer.html").read_text(encoding="utf-8")
