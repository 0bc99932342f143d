"""A training in a process of its own that a signal hits at a chosen moment; started by fork from a warm interpreter."""

import io
import os
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from threading import Timer

import train

EPOCHS = 3
OPTIONS = (
    "data.size=16", "model.dropout=0.3", "trainer=cpu", f"trainer.max_epochs={EPOCHS}", "trainer.limit_train_batches=4",
    "data.augment=[{_target_: torchvision.transforms.v2.RandomRotation, degrees: 10}]", "logger=report",
    "+plugin=nmf", "plugin.nmf.icon_steps=0", "plugin.nmf.restarts=0", "plugin.nmf.sweeps=20",
    "+plugin.study={_target_: tests.studies.ConfidencePlugin}",
    "callbacks.progress_bar=null", "callbacks.model_summary=null",
    "+trainer.enable_progress_bar=false", "+trainer.enable_model_summary=false",
)  # fmt: skip
HEAVY = ("build", "console", "data.digits", "checkpoints.earlier", "checkpoints.resume", "models", "report.logger",
         "run_folder.start")  # fmt: skip
for module in (*(f"interp.lit.{name}" for name in HEAVY), "plugins.nmf", "tests.studies"):
    import_module(module)  # once, before the fork
WARM = get_context("forkserver")
WARM.set_forkserver_preload(["tests.end_to_end.killed_run"])


@dataclass(frozen=True)
class Shot:
    """A signal, and when it comes: at the n-th event of writing files (0: the start), or some seconds after it."""

    signal: signal.Signals
    event: int
    delay: float = 0.0


def warm_up() -> None:
    """Import everything once, in the process that the others are forked from."""
    process = WARM.Process(target=int)
    process.start()
    process.join()


def start(folder: Path, checkpoint: Path | None, shot: Shot | None) -> int:
    """Train into `folder`, resuming `checkpoint`; the exit code (of a signal: minus its number)."""
    process = WARM.Process(target=_train, args=(folder, checkpoint, shot))
    process.start()
    process.join(300)
    assert process.exitcode is not None, f"{folder} hangs after {shot}"
    return process.exitcode


def _train(folder: Path, checkpoint: Path | None, shot: Shot | None) -> None:
    folder.mkdir(exist_ok=True)
    output = os.open(folder.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resume = [] if checkpoint is None else [f"checkpoint={checkpoint}"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell started in the background
    sys.argv = ["train.py", *OPTIONS, *resume, f"output={folder}"]
    events = Events(shot)
    train.launch(train.train)
    events.write(folder.with_suffix(".events"))


class Events:
    """Counts what happens while files are written, and sends the shot's signal at the moment it names."""

    def __init__(self, shot: Shot | None) -> None:
        import torch

        self.shot, self.names = shot, []
        self.save, self.fsync, self.rename = torch.save, os.fsync, Path.replace
        torch.save, os.fsync, Path.replace = self.half, self.flushed, lambda path, to: self.renamed(path, to)
        self.fire()

    def happens(self, name: str) -> None:
        self.names.append(name)
        self.fire()

    def fire(self) -> None:
        if self.shot and self.shot.event == len(self.names):
            kill = Timer(self.shot.delay, os.kill, (os.getpid(), self.shot.signal))
            kill.daemon = True
            kill.start() if self.shot.delay else kill.run()

    def half(self, content: object, file) -> None:
        """torch.save in two halves, with an event between them."""
        whole = io.BytesIO()
        self.save(content, whole)
        data = whole.getvalue()
        file.write(data[: len(data) // 2])
        file.flush()
        self.happens("half a checkpoint")
        file.write(data[len(data) // 2 :])

    def flushed(self, descriptor: int) -> None:
        self.happens("before flushing")
        self.fsync(descriptor)

    def renamed(self, path: Path, to: Path) -> None:
        self.rename(path, to)
        self.happens(f"renamed {Path(to).name}")

    def write(self, path: Path) -> None:
        path.write_text("\n".join(self.names))
