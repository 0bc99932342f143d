"""What a training of many processes does with signals once all know of them, and with the processes it has started."""

import atexit
import os
import signal
import subprocess
from types import SimpleNamespace

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from interp.lit.processes import ending
from interp.lit.processes.ending import EndTogether

TRAINER = {"world_size": 2, "local_rank": 0, "strategy": SimpleNamespace(launcher=None)}


@pytest.fixture
def connector():
    trainer = SimpleNamespace(**TRAINER, _signal_connector=None)
    EndTogether().setup(trainer, None, "fit")
    EndTogether().setup(trainer, None, "test")
    return trainer._signal_connector


def test_lightnings_handlers_only_note_until_all_processes_know(connector, monkeypatch):
    queued, here = [], connector
    monkeypatch.setattr(_SignalConnector, "_slurm_sigusr_handler_fn", lambda self, number, frame: queued.append(number))
    monkeypatch.setattr(ending, "anywhere", lambda numbers: {*numbers, *elsewhere})
    connector._slurm_sigusr_handler_fn(signal.SIGUSR1, None)
    connector._sigterm_notifier_fn(signal.SIGTERM, None)
    assert not queued and not connector.received_sigterm
    elsewhere = set()
    connector.obey()
    assert queued == [signal.SIGUSR1] and connector.received_sigterm and not here.noted.numbers
    elsewhere = {signal.SIGINT}
    with pytest.raises(KeyboardInterrupt):
        connector.obey()


def test_one_process_is_left_to_lightning():
    trainer = SimpleNamespace(**TRAINER | {"world_size": 1}, _signal_connector=None)
    EndTogether().setup(trainer, None, "fit")
    assert trainer._signal_connector is None


def test_processes_that_do_not_end_by_themselves_are_ended_with_the_run(monkeypatch):
    monkeypatch.setattr(ending, "LEAVE", 0.2)
    at_exit = []
    monkeypatch.setattr(atexit, "register", lambda *call: at_exit.append(call))
    with subprocess.Popen(["sleep", "60"]) as hanging, subprocess.Popen(["true"]) as ended:
        launcher = SimpleNamespace(procs=[hanging, ended])
        EndTogether().on_exception(SimpleNamespace(strategy=SimpleNamespace(launcher=launcher)), None, ValueError())
        assert launcher.procs == [] and hanging.poll() is None  # out of the hands that kill this process with them
        ((end, processes),) = at_exit
        end(processes)
        assert hanging.wait(10) == -signal.SIGKILL and ended.wait(10) == 0


def test_a_study_notices_a_process_that_is_gone_before_lightning_kills_all():
    with subprocess.Popen(["false"]) as gone:
        gone.wait(10)
        launcher = SimpleNamespace(procs=[gone])
        observer = _ChildProcessObserver(os.getpid(), launcher.procs)
        with ending.unobserved(SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))):
            assert not observer._run()  # it would have ended this process
        assert launcher.procs == [gone]


def test_a_signal_in_a_look_still_reaches_the_processes_that_lightning_has_started():
    with subprocess.Popen(["sleep", "60"]) as other:
        launcher = _SubprocessScriptLauncher(SimpleNamespace(), 2, 1)
        launcher.procs = [other]
        with ending.unobserved(SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))):
            launcher.kill(signal.SIGTERM)  # as Lightning's own handler does
        assert other.wait(10) == -signal.SIGTERM
