"""One run a folder: who holds it, what of an earlier one is in the way, and what a refused command leaves."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from interp.errors import UserError
from interp.lit.run_folder import claim, lock, rank
from interp.lit.run_folder.lock import Lock
from interp.lit.run_folder.remains import about, holds, refuse, results, set_aside


@pytest.fixture(autouse=True)
def given_back():
    yield
    for held in list(claim._held.values()):
        held.give_back("failed")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def in_a_process(action) -> None:
    """Run `action` in a process that ends without cleaning up."""
    if (child := os.fork()) == 0:
        action()
        os._exit(0)
    os.waitpid(child, 0)


def no_locks(monkeypatch) -> None:
    def flock(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)


@pytest.mark.parametrize("locks", [True, False])
def test_of_two_processes_one_has_the_folder(tmp_path, monkeypatch, locks):
    if not locks:
        no_locks(monkeypatch)
    other = Lock(tmp_path / ".run.json")
    other.write(b'{"command": "train.py", "pid": 7, "host": "there", "began": "today"}')
    told = (
        r"in use by train.py \(process 7 on there, since today\): wait for it to end, or choose another output=FOLDER"
    )
    with pytest.raises(UserError, match=told + ("$" if locks else f"; if it has ended, delete {tmp_path}/.run.lock")):
        claim.take(tmp_path, "train.py")
    with pytest.raises(UserError, match="or give this Trainer another default_root_dir"):
        claim.join(tmp_path, object())
    other.release()
    claim.take(tmp_path, "train.py")
    with pytest.raises(UserError, match="in use by another run of this process"):
        claim.take(tmp_path, "train.py")


@pytest.mark.parametrize("locks", [True, False])
def test_what_a_killed_process_held_is_free(tmp_path, monkeypatch, locks):
    if not locks:
        no_locks(monkeypatch)
    in_a_process(lambda: claim.take(tmp_path, "train.py"))
    assert about(tmp_path)["ended"] == ""
    with claim.held(tmp_path, "analyze.py"):
        pass
    assert about(tmp_path)["ended"] == "finished" and files(tmp_path) == {".run.json"}


@pytest.mark.parametrize(
    ("mark", "age", "free"),
    [("1 elsewhere", 0, False), ("", 0, False), ("", 90, True), ("half", 90, True), (f"{2**22 + 1} {{host}}", 0, True)],
)
def test_without_locks_a_mark_tells_who_lives(tmp_path, monkeypatch, mark, age, free):
    no_locks(monkeypatch)
    (tmp_path / ".run.lock").write_text(mark.format(host=lock.socket.gethostname()))
    os.utime(tmp_path / ".run.lock", (time.time() - age,) * 2)
    if free:
        Lock(tmp_path / ".run.json").release()
    else:
        with pytest.raises(BlockingIOError):
            Lock(tmp_path / ".run.json")


def test_loader_workers_that_outlive_a_killed_run_do_not_hold_its_folder(tmp_path):
    def run() -> None:
        claim.take(tmp_path, "train.py")
        if (worker := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        (tmp_path / "worker").write_text(str(worker))

    in_a_process(run)
    try:
        claim.take(tmp_path, "train.py")
    finally:
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)


def test_half_written_files_go_and_no_others(tmp_path):
    kept = ["notes.part", ".notes.part", "mine/.a.png.7.part", "results/nmf/epoch=0001/groups.png"]
    put(
        tmp_path, *kept, "results/nmf/epoch=0001/.groups.png.7.part", "checkpoints/.last.ckpt.12.part", ".a.json.3.part"
    )
    claim.take(tmp_path, "train.py")
    assert files(tmp_path) == {*kept, ".run.json"}


@pytest.mark.parametrize(
    ("names", "ended", "found"),
    [
        ([], None, ""),
        (["notes.txt", "results/table.csv", "results/nmf/notes.txt", ".hydra/config.yaml", "train.log"], None, ""),
        (["checkpoints/last.ckpt"], "", "run"),
        (["checkpoints/mine.ckpt"], None, "run"),
        (["results/nmf/epoch=0000/result.json"], "", "left"),
        (["results/metrics.jsonl"], "failed", "left"),
        (["results/nmf/epoch=0000/result.json"], "finished", "run"),  # without checkpoints, or an analysis
        (["results/nmf/epoch=0000/result.json"], None, "run"),  # of a version that did not say how it ended
        (["sweep.html", "0/job.json"], None, "sweep"),
        (["multirun.yaml"], "", "sweep"),
    ],
)
def test_what_stands_in_a_folder(tmp_path, names, ended, found):
    put(tmp_path, *names)
    if ended is not None:
        (tmp_path / ".run.json").write_text(json.dumps({"ended": ended}))
    assert holds(tmp_path) == found
    if found in ("", "left"):
        refuse(tmp_path, resumable=True)
    else:
        advice = "to go on with it give checkpoint=.* as well, else " if "checkpoints" in names[0] else ""
        with pytest.raises(UserError, match=f"holds another {found}: {advice}choose another output=FOLDER"):
            refuse(tmp_path, resumable=True)


def test_what_an_earlier_run_left_moves_aside_and_what_is_somebodys_own_stays(tmp_path, caplog):
    own = {"results/table.csv", "notes.txt", "results/drafts/a.txt"}
    for number in (1, 2):
        put(
            tmp_path, "results/nmf/epoch=0000/a.png", "results/nmf/epoch=0001_keep/a.png", "results/metrics.jsonl", *own
        )
        set_aside(tmp_path, results(tmp_path))
        moved = {f"earlier/{number}/results/{name}" for name in ("nmf/epoch=0000/a.png", "metrics.jsonl")}
        assert own | moved <= files(tmp_path) and not (tmp_path / "results" / "nmf").exists()
        assert f"has left in {tmp_path} now lies in {tmp_path}/earlier/{number}" in caplog.text
    set_aside(tmp_path, results(tmp_path))
    assert not (tmp_path / "earlier" / "3").exists()


def test_a_refused_command_leaves_nothing_that_it_made(tmp_path):
    with pytest.raises(UserError, match="wrong"), claim.held(tmp_path / "a" / "b", "train.py"):
        put(tmp_path / "a" / "b", ".hydra/config.yaml", "train.log", "report.html", "results/nmf/epoch=0000/a.png")
        raise UserError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_command_leaves_everything_that_was_there(tmp_path):
    before = {".hydra/config.yaml", ".run.json", "checkpoints/last.ckpt", "train.log"}
    put(tmp_path, *before)
    claim.take(tmp_path, "train.py")
    put(tmp_path, "train.log", "report.html")
    (tmp_path / ".hydra" / "config.yaml").write_text("of the refused command")
    claim.withdraw()
    assert files(tmp_path) == before and all((tmp_path / name).read_text() == name for name in before)
    claim.take(tmp_path / "new", "train.py")
    put(tmp_path / "new", "train.log", "somebody.txt")
    claim.withdraw()
    assert files(tmp_path / "new") == {"train.log", "somebody.txt"}


def test_what_has_begun_stays(tmp_path):
    with pytest.raises(UserError), claim.held(tmp_path / "run", "train.py"):
        assert not claim.begun(tmp_path / "run")
        in_a_process(lambda: claim.begin(tmp_path / "run"))  # as trainers do that start their processes by fork
        claim.withdraw()
        raise UserError("the disk is full")
    assert about(tmp_path / "run")["ended"] == "failed"


def test_the_processes_that_a_run_starts_are_its_own(tmp_path):
    def studies() -> None:
        (tmp_path / "said").write_text(str(claim.join(tmp_path / "run", object())))

    with claim.held(tmp_path / "run", "train.py"):
        in_a_process(studies)
    assert (tmp_path / "said").read_text() == "False" and claim.HOLDS not in os.environ


def test_only_the_first_process_of_a_run_claims(tmp_path, monkeypatch):
    for names, first in [({"RANK": "0", "NODE_RANK": "1"}, True), ({"RANK": "1", "LOCAL_RANK": "0"}, False),
                         ({"LOCAL_RANK": "1"}, False), ({"NODE_RANK": "1"}, False), ({"SLURM_PROCID": "3"}, False),
                         ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True), ({}, True)]:  # fmt: skip
        with monkeypatch.context() as context:
            for name in ("NODE_RANK", *rank.RANKS):
                context.delenv(name, raising=False)
            for name, value in names.items():
                context.setenv(name, value)
            with claim.held(tmp_path / "run", "train.py"):
                assert bool(claim._held) == rank.first_process() == first, names


def test_a_link_in_place_of_the_file_is_not_written_through(tmp_path):
    put(tmp_path, "private")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json").symlink_to(tmp_path / "private")
    with pytest.raises(UserError, match=".run.json is a link: delete it, or choose another output=FOLDER"):
        claim.take(tmp_path / "run", "train.py")
    assert (tmp_path / "private").read_text() == "private" and claim._held == {}
