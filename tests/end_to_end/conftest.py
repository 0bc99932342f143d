"""One run of the main job as a user starts it, which several tests look at."""

import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass
class Job:
    """A finished command: its working folder, run folder, terminal output, and who it tried to reach."""

    folder: Path
    run: Path
    output: str
    home: Path
    attempts: list[str]


class Trap:
    """A proxy that answers nobody and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                client = self.server.accept()[0]
            except OSError:
                return
            with client:
                self.asked.append(client.recv(200).decode(errors="replace"))


def command(folder: Path, *arguments: str, script: str = "train.py", check: bool = True, before=(), **environment: str):
    """Run an entry point from `folder` (`before` it another command); returns the finished process with its output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "RUN_STAMP"}
    done = subprocess.run(
        [*before, sys.executable, ROOT / script, *arguments],
        capture_output=True, text=True, cwd=folder, timeout=900, env={**clean, "COLUMNS": "120", **environment},
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def main_job(tmp_path_factory) -> Job:
    """`python train.py +plugin=nmf`, in an empty folder, with an empty home and a network that is watched."""
    folder, home, trap = tmp_path_factory.mktemp("job"), tmp_path_factory.mktemp("home"), Trap()
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), trap.address)
    matplotlib = str(tmp_path_factory.mktemp("matplotlib"))
    done = command(
        folder, "+plugin=nmf", HOME=str(home), MPLCONFIGDIR=matplotlib, no_proxy="127.0.0.1,localhost", **proxies
    )
    (run,) = (folder / "outputs" / "train").iterdir()
    return Job(folder, run, done.stdout + done.stderr, home, trap.asked)
