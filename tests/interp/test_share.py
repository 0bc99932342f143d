"""Exchanges between processes: exact, in order, whatever the shares; nobody waits for one that failed, or for ever."""

import os
import signal
import time

import pytest
import torch
from torch import nn

from interp.errors import UserError
from interp.network.quiet import Disturbed
from interp.processes import share
from interp.processes.exchange import PeerFailed, ProcessLost
from interp.processes.signals import held_back, interrupt, signal_of, time_limit
from tests.processes import on_processes

COUNTS = ((7, 3), (3, 3), (1, 1), (0, 2))  # things, and how many are read at a time


@pytest.mark.parametrize(("count", "size"), [(10, 4), (300, 64), (3, 64), (0, 5), (7, 1)])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_parts_are_whole_batches_in_order(count, size, processes):
    parts = [share.portion(count, size, rank, processes) for rank in range(processes)]
    assert [i for part in parts for i in part] == list(range(count))
    assert all(part.start % size == 0 for part in parts if part)
    batches = [-(-len(part) // size) for part in parts]
    assert max(batches) - min(batches) <= 1


def test_one_process_gets_back_what_it_gives():
    def study():
        halves = [torch.ones(1, 2), torch.zeros(2, 2)]
        assert share.gathered(halves).shape == share.handed_in(halves)[0].shape == (3, 2)
        assert share.part(9, 4) == range(9) and share.is_first() and share.everyones(3) == [3]
        return share.from_first("a"), share.summed(torch.ones(2)).tolist(), share.folded(torch.ones(1), max).item()

    assert share.together(study) == ("a", [1.0, 1.0], 1.0) == share.together(study, shared=False)
    with pytest.raises(ValueError, match="nothing to put together"):
        share.gathered([])


def exchanges(rank: int) -> dict:
    found: dict = {}

    def study() -> str:
        for count, size in COUNTS:
            mine = [torch.arange(count)[i : i + 1, None] for i in share.part(count, size)]
            found["gathered", count] = share.gathered(mine) if count else None
        found["uneven"] = share.gathered([torch.full((2 - rank, 3), rank, dtype=torch.bfloat16)] if rank else [])
        found["integers"] = share.summed(torch.tensor([2**60 + rank, rank]))
        found["floats"] = share.summed(torch.tensor([0.1 + rank, 1e8], dtype=torch.float32))
        found["bits"] = share.folded(torch.tensor([rank == 0, True]), torch.logical_and)
        found["empty"] = share.gathered([torch.zeros(0, 4)])
        found["values"] = share.everyones({"rank": rank}), share.from_first([rank])
        share.go_on_alone()
        found["alone"] = share.summed(torch.ones(1)), share.part(5), share.from_first(rank)
        return "done"

    found["returned"] = share.together(study)
    found["after"] = share.from_first(rank)
    net = nn.BatchNorm1d(1)
    net.running_mean.fill_(rank)

    def means() -> list[float]:
        with share.buffers_of_first(net):
            return [*share.everyones(float(net.running_mean)), float(net.running_mean)]

    found["buffers"] = [*share.together(means), float(net.running_mean)]
    found["not shared"] = share.together(lambda: (rank, share.part(4), share.is_first()), shared=False)
    return found


def test_two_processes_put_together_what_they_have(tmp_path):
    first, second = on_processes(2, exchanges, tmp_path)
    for found in (first, second):
        for count, _ in COUNTS[:-1]:
            assert found["gathered", count][:, 0].tolist() == list(range(count))
        assert found["uneven"].dtype == torch.bfloat16 and found["uneven"].tolist() == [[1.0, 1.0, 1.0]]
        assert found["integers"].tolist() == [2**61 + 1, 1] and found["floats"].dtype == torch.float32
        assert found["floats"].tolist() == torch.tensor([1.2, 2e8]).tolist()
        assert found["bits"].tolist() == [False, True] and found["empty"].shape == (0, 4)
        assert found["values"] == ([{"rank": 0}, {"rank": 1}], [0]) and found["after"] == 0
    assert first["returned"] == "done" and second["returned"] is None and "alone" not in second
    assert first["alone"] == (torch.ones(1), range(5), 0)
    assert first["buffers"] == [0.0, 0.0, 0.0, 0.0] and second["buffers"] == [0.0, 0.0, 0.0, 1.0]
    assert first["not shared"] == (0, range(4), True) and second["not shared"] is None


def failures(rank: int) -> list[tuple[str, str]]:
    def at_once():
        raise KeyError("broken")

    def before_the_sum():
        if rank:
            raise UserError("choose another")
        share.summed(torch.ones(1))

    def at_the_end():
        share.summed(torch.ones(1))
        if rank:
            raise torch.OutOfMemoryError("full")

    def while_alone():
        share.go_on_alone()
        raise Disturbed("not restored")

    def apart():
        return share.summed(torch.ones(1)) if rank else share.gathered([torch.ones(1)])

    def only_the_second():
        if rank:
            raise RuntimeError("a bug")
        time.sleep(0.2)

    found = []
    for study in (at_once, before_the_sum, at_the_end, while_alone, apart, only_the_second, lambda: share.gathered([])):
        try:
            share.together(study)
        except Exception as error:
            found.append((type(error).__name__, str(error)))
    assert share.together(lambda: share.summed(torch.ones(1)).item()) == 2.0  # as if nothing had been
    return found


def test_what_one_raises_all_raise(tmp_path):
    first, second = on_processes(2, failures, tmp_path, seconds=60)
    kinds = ["KeyError", "UserError", "OutOfMemoryError", "Disturbed", PeerFailed.__name__, PeerFailed.__name__]
    assert [kind for kind, _ in first] == [*kinds, "ValueError"]
    assert [kind for kind, _ in second] == ["PeerFailed", *kinds[1:5], "RuntimeError", "PeerFailed"]
    assert second[0][1] == "KeyError: 'broken' (on process 0)" and first[1][1] == "choose another (on process 1)"
    assert (
        "at different places: tensors, sum of (1,)" in first[4][1]
        and first[5][1] == "RuntimeError: a bug (on process 1)"
    )


def limited(rank: int) -> list[str]:
    def hanging():
        with time_limit(0.3):
            if rank:
                time.sleep(60)
            return share.summed(torch.ones(1))

    found = []
    for _ in range(2):
        with pytest.raises((TimeoutError, PeerFailed)) as caught:
            share.together(hanging)
        found.append(str(caught.value))
    return [*found, str(share.together(lambda: share.summed(torch.ones(1)).item()))]


def test_a_time_limit_does_not_cut_an_exchange_in_two(tmp_path):
    """The limit of the one that waits is reached as well, amid the exchange."""
    first, second = on_processes(2, limited, tmp_path, seconds=60)
    assert first == ["TimeoutError: took longer than 0.3 seconds (on process 1)"] * 2 + ["2.0"]
    assert second == ["took longer than 0.3 seconds"] * 2 + ["2.0"]


def unmergeable(rank: int) -> str:
    def study():
        share.folded(torch.ones(5_000_000), lambda first, second: torch.cat([first, second[None]]))

    with pytest.raises(RuntimeError) as caught:
        share.together(study)
    return str(caught.value)


def test_what_the_first_cannot_merge_leaves_no_other_waiting_to_send(tmp_path):
    first, *others = on_processes(3, unmergeable, tmp_path, seconds=60)
    assert "same number of dimensions" in first and others == [f"RuntimeError: {first} (on process 0)"] * 2


def interrupted(rank: int) -> list[tuple[str, int]]:
    """SIGTERM, which would end it at once, hits the second process: while it studies, waits for the first, or ends."""
    signal.signal(signal.SIGTERM, interrupt)

    def studying():
        if rank:
            os.kill(os.getpid(), signal.SIGTERM)
        share.summed(torch.ones(1))

    def waiting():
        if rank == 0:
            time.sleep(0.2)
            os.kill(other, signal.SIGTERM)
            time.sleep(0.2)
        for _ in range(2):
            share.summed(torch.ones(1))

    other, ends = share.together(lambda: share.everyones(os.getpid()))[1], []
    for study in (studying, waiting):
        with pytest.raises(KeyboardInterrupt) as caught, held_back():
            share.together(study)
        ends.append(signal_of(caught.value))
    return [*ends, share.together(lambda: share.summed(torch.ones(1)).item())]


def test_a_signal_to_one_ends_a_study_on_all(tmp_path):
    assert on_processes(2, interrupted, tmp_path, seconds=60) == [[signal.SIGTERM, signal.SIGTERM, 2.0]] * 2


def left(rank: int, where: str) -> tuple[str, float]:
    if where == "the end":
        share.from_first(rank, seconds=2.0)
    if rank == 2:
        time.sleep(4)
        return "", 0.0
    began = time.monotonic()
    with pytest.raises(ProcessLost) as caught:
        share.together(lambda: None, name="study", seconds=2.0)
    return str(caught.value), time.monotonic() - began


@pytest.mark.parametrize("where", ["the start", "the end"])
def test_nobody_waits_longer_than_the_limit_for_a_process_that_hangs(tmp_path, where):
    first, second, _ = on_processes(3, left, tmp_path, where, seconds=60)
    assert "process 2 did not come within 2 seconds: it hangs" in first[0]
    assert "process 2 did" in second[0] or "process 0 " in second[0]  # which waits for 2 itself
    assert max(first[1], second[1]) < 3.9 and "(study" in first[0]


def killed(rank: int) -> str:
    share.from_first(rank)
    if rank:
        time.sleep(0.3)
        os._exit(0)
    with pytest.raises(ProcessLost) as caught:
        share.together(lambda: share.summed(torch.ones(1)))
    return str(caught.value)


def test_a_process_that_is_gone_is_named_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"1\.pt"):  # as it returned nothing
        on_processes(2, killed, tmp_path, seconds=60)
    assert "process 1 is gone" in torch.load(tmp_path / "0.pt", weights_only=False)
