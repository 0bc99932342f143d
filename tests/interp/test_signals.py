"""Time limits and work on a thread that hangs."""

import os
import signal
import threading
import time

import pytest

from interp.background import Background
from interp.signals import held_back, time_limit


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


def test_what_hangs_is_given_up_and_what_waits_behind_it_is_done():
    background, hold = Background("test"), threading.Event()
    stuck, waiting = background.submit(hold.wait), background.submit(int, "7")
    assert background.outcome(waiting, 0.05) is None and waiting.result() == 7
    assert isinstance(background.outcome(stuck, 0.05), TimeoutError)
    assert isinstance(background.outcome(background.submit(int, "x"), 5), ValueError)
    hold.set()
    assert stuck.result(5) is True
