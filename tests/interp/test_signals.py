"""Time limits, signals that wait or end a block, and work on a thread that hangs."""

import os
import signal
import subprocess
import threading
import time
from multiprocessing import get_context

import pytest

from interp.processes.background import Background
from interp.processes.signals import (
    Noted,
    held_back,
    interrupt,
    interrupt_if_noted,
    obey_parent,
    signal_of,
    time_limit,
    undivided,
    uninterrupted,
)


def test_what_takes_too_long_is_interrupted_even_if_it_swallows_everything():
    tries = 0
    with pytest.raises(TimeoutError, match="took longer than 0.05 seconds: more"), time_limit(0.05, ": more"):
        while True:
            try:
                time.sleep(10)
            except BaseException:
                if tries := tries + 1:
                    raise
    with time_limit(0.05):
        pass
    time.sleep(0.1)  # nothing rings afterwards
    assert tries == 1 and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_another_timer_goes_on_afterwards():
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with time_limit(5):
            time.sleep(0.05)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.2
        time.sleep(0.3)
        assert rang == [True]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_that_is_swallowed_comes_after_the_block():
    before, reached = signal.signal(signal.SIGINT, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt), held_back():
            for _ in range(3):
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)
                except KeyboardInterrupt:
                    reached.append("interrupted")
            reached.append("end")
        assert reached == ["interrupted", "end"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def handled():
    """Put a handler over a signal until the test ends."""
    before = {}

    def put(number: int, handler) -> None:
        before.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)

    yield put
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_interrupts_ends_a_block_at_once_and_says_which_signal_it_was(handled, number):
    handled(number, interrupt)
    with pytest.raises(KeyboardInterrupt) as outside:
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt) as within, held_back():
        signal.raise_signal(number)
    assert signal_of(outside.value) == signal_of(within.value) == number and signal.getsignal(number) is interrupt
    assert signal_of(KeyboardInterrupt()) == signal.SIGINT
    handled(number, lambda *at: interrupt(*at))  # as Lightning calls the handler that was there: its own decides
    signal.raise_signal(number)


def test_a_noted_signal_ends_a_study_at_once_and_is_noted_for_the_others(handled):
    noted = Noted()
    handled(signal.SIGINT, noted)
    signal.raise_signal(signal.SIGINT)
    assert noted.numbers == {signal.SIGINT}
    with pytest.raises(KeyboardInterrupt):
        interrupt_if_noted()
    noted.numbers.clear()
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
    assert noted.numbers == {signal.SIGINT} and signal.getsignal(signal.SIGINT) is noted


def test_ctrl_c_in_an_exchange_comes_after_it_and_after_the_last_one_when_all_have_ended(handled):
    noted, reached = Noted(), []
    handled(signal.SIGINT, noted)
    with pytest.raises(KeyboardInterrupt), held_back(), undivided():
        signal.raise_signal(signal.SIGINT)
        reached.append("middle")
    noted.numbers.clear()
    with held_back():
        with uninterrupted(), undivided():
            signal.raise_signal(signal.SIGINT)
        reached.append("end")
    assert reached == ["middle", "end"] and noted.numbers == {signal.SIGINT}


def _work(ready, done) -> None:
    obey_parent()
    ready.set()
    done.wait(20)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not say who sends a signal")
def test_a_worker_outlives_signals_to_all_processes_but_not_its_parents():
    context = get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_work, args=(ready, context.Event()))
    worker.start()
    assert ready.wait(10)
    for name in ("TERM", "INT", "USR1"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    worker.join(0.3)
    assert worker.is_alive()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


def test_what_hangs_is_given_up_and_what_waits_behind_it_is_done():
    background, hold = Background("test"), threading.Event()
    stuck, waiting = background.submit(hold.wait), background.submit(int, "7")
    assert background.outcome(waiting, 0.05) is None and waiting.result() == 7
    assert isinstance(background.outcome(stuck, 0.05), TimeoutError)
    assert isinstance(background.outcome(background.submit(int, "x"), 5), ValueError)
    hold.set()
    assert stuck.result(5) is True
