"""Checkpoints: whole, safe to read, clear when they do not fit."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import train
from interp.errors import UserError
from interp.lit.checkpoints.checkpoint import RandomState, WholeCheckpointIO, read_checkpoint
from interp.lit.checkpoints.find import find_checkpoint, named_checkpoints, run_folder
from interp.lit.checkpoints.resume import carry_over
from interp.lit.classifier import fit_to_checkpoint, load_weights
from tests.conftest import identical


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_random_streams_continue_where_they_were(tmp_path):
    draws()
    torch.save(RandomState().state_dict(), tmp_path / "state")
    expected = draws()
    draws()
    RandomState().load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert draws() == expected


def test_each_process_goes_on_with_its_own_streams(monkeypatch, caplog):
    states, following = [], []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # noqa: NPY002
        states.append(RandomState().state_dict())
        following.append(draws())
    kept = states[0] | {"processes": states}
    for rank, size, state, drawn in (
        (0, 2, kept, 0),
        (1, 2, kept, 1),
        (2, 3, kept, 0),
        (0, 1, kept, 0),
        (1, 2, states[1], 1),
    ):
        monkeypatch.setattr("interp.processes.share.place", lambda here=(rank, size): here)
        RandomState().load_state_dict(state)
        assert draws() == following[drawn], (rank, size)
    assert [record.getMessage()[:66] for record in caplog.records] == [
        "the checkpoint holds the random streams of 2 process(es), and this"
    ]


def test_a_full_disk_is_named_and_keeps_the_last_good_checkpoint(mounted):
    small_disk = mounted("size=400k")
    path, io = small_disk / "last.ckpt", WholeCheckpointIO()
    io.save_checkpoint({"state_dict": {"a": torch.zeros(10_000)}, "epoch": 1}, path)
    message = f"last.ckpt: No space left on device .the disk at {small_disk} has 0.* MiB free.*still the one before"
    with pytest.raises(UserError, match=message):
        io.save_checkpoint({"state_dict": {"a": torch.zeros(99_000)}, "epoch": 2}, path)
    assert read_checkpoint(path)["epoch"] == 1 and list(small_disk.iterdir()) == [path]


def test_any_flipped_byte_is_noticed_or_harmless(tmp_path):
    """Of a small checkpoint: either the content is the same, or the file is refused by name."""
    whole = {"state_dict": {"a": torch.arange(16.0)}, "epoch": 3}
    path, io = tmp_path / "last.ckpt", WholeCheckpointIO()
    for name in ("last.ckpt", "best.ckpt"):
        io.save_checkpoint(whole, tmp_path / name)
    good, refused = path.read_bytes(), 0
    for position in [*range(0, len(good) - 150, 9), *range(len(good) - 150, len(good))]:
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        try:
            assert identical(io.load_checkpoint(path), whole), position
        except UserError as error:
            assert "last.ckpt" in str(error) and str(error).endswith(f"whole in {tmp_path}: best.ckpt")
            refused += 1
    assert refused > 250
    path.write_bytes(good)
    assert identical(read_checkpoint(path), whole)


def test_checkpoints_without_checksums_still_load(tmp_path):
    content = {"state_dict": {"a": torch.arange(16.0)}}
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, tmp_path / "fast.ckpt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert all(identical(read_checkpoint(path), content) for path in tmp_path.iterdir())


def test_other_readers_take_the_file_as_before(tmp_path):
    content = {"state_dict": {"a": torch.arange(16.0)}}
    WholeCheckpointIO().save_checkpoint(content, tmp_path / "last.ckpt")
    assert identical(torch.load(tmp_path / "last.ckpt", weights_only=True), content)
    assert identical(torch.load(tmp_path / "last.ckpt", weights_only=True, mmap=True), content)
    assert zipfile.ZipFile(tmp_path / "last.ckpt").testzip() is None


def test_a_damaged_checkpoint_is_not_resumed(train, tmp_path):
    train(tmp_path / "run", "trainer.max_epochs=1")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content, weights = bytearray(path.read_bytes()), torch.load(path, weights_only=True)["state_dict"]
    where = content.find(weights["net.body.head.weight"].numpy().tobytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last.ckpt is damaged: .* checksum; whole in .*best.ckpt"):
        train(tmp_path / "next", f"checkpoint={tmp_path}/run")


class Command:
    """What a hostile pickle carries."""

    def __reduce__(self):
        return Path.touch, (Path("/tmp/epochscope_pwned"),)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": Command()}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"bad.ckpt: damaged, or more than weights"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert not Path("/tmp/epochscope_pwned").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="cannot read the checkpoint .*last.ckpt"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_missing_file_names_its_neighbours(tmp_path):
    torch.save({}, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match="has: best.ckpt"):
        read_checkpoint(tmp_path / "bets.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of a training"):
        read_checkpoint(tmp_path / "best.ckpt")


def test_run_folders_are_found_from_either_side(tmp_path):
    for name in (".hydra", "checkpoints"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    path = find_checkpoint(str(tmp_path), ("best.ckpt", "last.ckpt"))
    assert path == tmp_path / "checkpoints" / "last.ckpt" and run_folder(path) == tmp_path
    assert run_folder(tmp_path / "elsewhere.ckpt") is None
    with pytest.raises(UserError, match="no nothing.ckpt in"):
        find_checkpoint(str(tmp_path), ("nothing.ckpt",))
    message = f"is a folder of checkpoints: give the folder of the run, {tmp_path}, or one of its files: last.ckpt"
    with pytest.raises(UserError, match=message):
        find_checkpoint(str(tmp_path / "checkpoints"), ("last.ckpt",))
    (tmp_path / "runs" / "first" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=f"no checkpoint .*typo; the latest runs in {tmp_path}/runs: first"):
        read_checkpoint(find_checkpoint(str(tmp_path / "runs" / "typo"), ("last.ckpt",)))


def test_a_plain_state_dict_can_be_analysed(tmp_path, net):
    torch.manual_seed(1)
    torch.save(net.body.state_dict(), tmp_path / "plain.pth")
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    for parameter in net.parameters():
        parameter.data.zero_()
    load_weights(net, (), read_checkpoint(tmp_path / "plain.pth"))
    assert identical(dict(net.state_dict()), expected)


def test_results_of_the_resumed_run_are_carried_over_up_to_its_epoch(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for epoch in (0, 1, 2):
        (old / "results" / "nmf" / f"epoch={epoch:04d}").mkdir(parents=True)
    (old / ".hydra").mkdir()
    rows = [
        f'{{"step": {step}, "epoch": {epoch}, "metrics": {{}}}}'
        for step, epoch in ((0, 0), (5, 1), (9, 2), (9, "null"))
    ]
    (old / "results" / "metrics.jsonl").write_text("\n".join([*rows, '{"step": 1']))
    (old / "results" / "nmf" / "epoch=0001" / ".groups.png.7.part").touch()
    content = {"epoch": 0, "epoch_scalars": {"step": 5, "scalars": {"epoch": 1.0, "a": 2.0}}}  # of a row that is lost
    (old / "checkpoints").mkdir()
    (old / "checkpoints" / "last.ckpt").write_text("weights")
    carry_over(old / "checkpoints" / "last.ckpt", content, new)
    assert (new / "checkpoints" / "last.ckpt").read_text() == "weights"
    assert list(new.rglob("*.part")) == []
    carry_over(old / "checkpoints" / "last.ckpt", content, old)  # in the same folder
    lost = '{"step": 5, "epoch": 1, "metrics": {"a": 2.0}}'
    for folder in (old, new):
        assert (folder / "results" / "metrics.jsonl").read_text().splitlines() == [rows[0], rows[1], rows[3], lost]
        assert sorted(p.name for p in (folder / "results" / "nmf").iterdir()) == ["epoch=0000", "epoch=0001"]


def test_weights_round_trip_and_misfits_are_explained(net, digits):
    checkpoint = {
        "state_dict": {f"net.{k}": v + 1 for k, v in net.state_dict().items()},
        "class_names": ["a", "b", "c"],
    }
    with pytest.raises(UserError, match=r"knows 3 classes \(a, b, c\), the data has 10"):
        fit_to_checkpoint(net, digits.class_names, checkpoint)
    checkpoint["class_names"] = list(digits.class_names)
    load_weights(net, digits.class_names, checkpoint)
    assert torch.equal(net.body.head.bias, checkpoint["state_dict"]["net.body.head.bias"])
    del checkpoint["state_dict"]["net.body.head.bias"]
    with pytest.raises(UserError, match=r"another network: 1 weights differ \(head.bias"):
        fit_to_checkpoint(net, digits.class_names, checkpoint)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/checkpoints/best.ckpt", "b/checkpoints/best.ckpt"], ["a", "b"]),
        (["a/checkpoints/best.ckpt", "a/checkpoints/last.ckpt"], ["a_best", "a_last"]),
        (["x/0/checkpoints/best.ckpt", "y/0/checkpoints/best.ckpt"], ["x_0_best", "y_0_best"]),
        (["x/y/0/checkpoints/a.ckpt", "z/y/0/checkpoints/a.ckpt"], ["checkpoint1", "checkpoint2"]),
        (["a b/c.ckpt", "<i>/d.ckpt"], ["a-b", "i-"]),
    ],
)
def test_several_checkpoints_are_named_by_what_tells_them_apart(tmp_path, files, names):
    found = named_checkpoints([str(tmp_path / file) for file in files], ())
    assert found == {name: tmp_path / file for name, file in zip(names, files, strict=True)}


def test_named_checkpoints_keep_their_names_and_may_be_none():
    assert named_checkpoints({"small": None}, ()) == {"small": None} and named_checkpoints(None, ()) == {"": None}
    with pytest.raises(UserError, match="checkpoint name '../x'"):
        named_checkpoints({"../x": "a.ckpt"}, ())
    with pytest.raises(UserError, match="the same checkpoint twice"):
        named_checkpoints(["a.ckpt", "a.ckpt"], ())


def test_weights_alone_are_not_resumed(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    cfg = OmegaConf.create({"checkpoint": str(tmp_path / "weights.ckpt"), "output": str(tmp_path)})
    with pytest.raises(UserError, match="holds weights but no state of a training: it can be analysed, not resumed"):
        train.resume_from(cfg)


def test_a_folder_within_a_run_and_one_of_an_analysis_are_told_apart(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "run" / "results").mkdir()
    with pytest.raises(UserError, match=f"lies in a run: give the run, checkpoint={tmp_path}/run$"):
        find_checkpoint(str(tmp_path / "run" / "results"), ("last.ckpt",))
    (tmp_path / "looked").mkdir()
    (tmp_path / "looked" / ".run.json").write_text('{"command": "analyze.py"}')
    with pytest.raises(UserError, match="is an analysis, which has no checkpoint: give a run of train.py"):
        find_checkpoint(str(tmp_path / "looked"), ("last.ckpt",))
