"""Studies of a package that is not ours: a tiny one, and those that go wrong."""

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from interp.errors import UserError
from interp.probe import Probe
from interp.processes import exchange
from interp.processes.share import gathered, is_first, place
from interp.result import Result
from plugins.base import Plugin


@dataclass(frozen=True)
class Confidence(Result):
    highest: Tensor  # (B,) probability of the predicted class

    def scalars(self) -> dict[str, float]:
        return {"mean": float(self.highest.mean())}

    def pictures(self) -> dict[str, Tensor]:
        bars = self.highest[None, None, :].expand(3, 8, -1)
        return {"bars": (bars * 255).byte()}


@dataclass(frozen=True)
class Explorable(Confidence):
    """Has a widget, too."""

    def widgets(self) -> dict[str, str]:
        return {"explorer": f"<p>{len(self.highest)} values</p>"}


@dataclass(kw_only=True)
class ConfidencePlugin(Plugin):
    """How sure the network is of each probe image."""

    temperature: float = 1.0

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        return Confidence((net(probe.images) / self.temperature).softmax(dim=1).amax(dim=1))


@dataclass(kw_only=True)
class Failing(ConfidencePlugin):
    """Raises from the epoch `after` on."""

    after: int = 1
    looks: int = 0

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        self.looks += 1
        if self.looks > self.after:
            raise RuntimeError("the study broke")
        return super().analyze(net, probe)


@dataclass(kw_only=True)
class FailsOnOne(ConfidencePlugin):
    """Divides its work, and raises from the epoch `after` on where it is not the first process."""

    shares: ClassVar[bool] = True

    after: int = 1
    looks: int = 0

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        self.looks += 1
        if self.looks > self.after and not is_first():
            raise RuntimeError("the study broke")
        parts = [net(images).softmax(dim=1).amax(dim=1) for images, _ in probe.batches(self.batch_size)]
        return Confidence(gathered(parts))


@dataclass(kw_only=True)
class WrongSetting(ConfidencePlugin):
    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        raise UserError("temperature=0: choose more")


@dataclass(kw_only=True)
class Hungry(ConfidencePlugin):
    """Runs out of memory above 16 images at once."""

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        if self.batch_size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().analyze(net, probe)


@dataclass(kw_only=True)
class Meddling(ConfidencePlugin):
    """Does what a study must not do."""

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        torch.manual_seed(7)
        net.train()
        found = super().analyze(net, probe)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(1.0)
        net.register_forward_hook(lambda *_: None)
        return found


@dataclass(kw_only=True)
class Vandal(ConfidencePlugin):
    """Does everything at once that a study must not do, the trainer's own loaders included."""

    def setup(self, trainer, pl_module, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.trainer = trainer

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        found = super().analyze(net, probe)
        for loader in (self.trainer.train_dataloader, self.trainer.val_dataloaders):
            next(iter(loader or []), None)
        random.seed(7), np.random.seed(7), torch.manual_seed(7)  # noqa: NPY002
        net.train()
        net(probe.images).sum().backward()
        with torch.no_grad():
            for tensor in (*net.parameters(), *net.buffers()):
                tensor.zero_()
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        for module in net.modules():
            module.register_forward_hook(lambda module, inputs, output: output * 0)
        torch.set_default_dtype(torch.float64), torch.set_num_threads(7), torch.set_grad_enabled(False)
        torch.backends.mkldnn.enabled = False
        return found


@dataclass(kw_only=True)
class Interrupted(ConfidencePlugin):
    """Stops the process at the end of the epoch `epoch`, after the checkpoint of the one before."""

    epoch: int = 2

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if trainer.current_epoch + 1 == self.epoch:
            raise ConnectionAbortedError("the machine went away")


@dataclass(kw_only=True)
class Killed(ConfidencePlugin):
    """The process is gone where the seed is 2."""

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        if self.seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().analyze(net, probe)


@dataclass(kw_only=True)
class Slow(ConfidencePlugin):
    """Writes its process's number to `flag` and its rank, and studies for some `seconds`; the process `stop` or `kill`
    hangs or is gone then.
    """

    shares: ClassVar[bool] = True

    flag: str
    seconds: float
    shared: bool = True
    grace: float | None = None  # seconds that processes wait for each other beyond `timeout`
    stop: int | None = None
    kill: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shares = self.shared
        exchange.GRACE = self.grace or exchange.GRACE

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        rank, _ = place()
        Path(f"{self.flag}{rank}.part").write_text(str(os.getpid()))
        Path(f"{self.flag}{rank}.part").rename(f"{self.flag}{rank}")
        if rank in (self.stop, self.kill):
            os.kill(os.getpid(), signal.SIGSTOP if rank == self.stop else signal.SIGKILL)
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            time.sleep(0.05)
        return Confidence(gathered([super().analyze(net, probe).highest]))


@dataclass(kw_only=True)
class DiesOnce(ConfidencePlugin):
    """The process is gone at its third look, unless torchrun has started it again."""

    looks: int = 0

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        self.looks += 1
        if self.looks == 3 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().analyze(net, probe)


@dataclass(frozen=True)
class Undrawable(Confidence):
    def pictures(self) -> dict[str, Tensor]:
        raise OSError(28, "No space left on device", os.fspath("groups.png"))


@dataclass(kw_only=True)
class FullDisk(ConfidencePlugin):
    """Its pictures cannot be written."""

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        return Undrawable(super().analyze(net, probe).highest)


@dataclass(kw_only=True)
class Hanging(ConfidencePlugin):
    """Never comes back from the epoch `epoch`, whatever goes wrong in it."""

    epoch: int = 1
    looks: int = 0

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        self.looks += 1
        while self.looks == self.epoch + 1:
            try:
                time.sleep(60)
            except Exception:
                continue
        return super().analyze(net, probe)


@dataclass(kw_only=True)
class Wordless(ConfidencePlugin):
    """Forgets to return what it found."""

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        net(probe.images)


@dataclass(frozen=True)
class Unlogged(Confidence):
    """Some of its scalars are not finite, and its tables cannot be made."""

    def scalars(self) -> dict[str, float]:
        return {**super().scalars(), "ratio": float("nan"), "peak": float("inf")}

    def tables(self) -> dict:
        raise ZeroDivisionError("no rows")


@dataclass(kw_only=True)
class NotANumber(ConfidencePlugin):
    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        return Unlogged(super().analyze(net, probe).highest * float("nan"))


@dataclass(frozen=True)
class Undrawing(Confidence):
    def pictures(self) -> dict[str, Tensor]:
        time.sleep(60)
        return {}


@dataclass(kw_only=True)
class HangingPictures(ConfidencePlugin):
    """Its pictures are never done."""

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        return Undrawing(super().analyze(net, probe).highest)


@dataclass(kw_only=True)
class Filling(ConfidencePlugin):
    """Fills the disk at `folder` at its second look."""

    folder: str
    looks: int = 0

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        self.looks += 1
        with Path(self.folder, "filling").open("ab") as file:
            while self.looks == 2:
                file.write(bytes(4096))
                file.flush()
        return super().analyze(net, probe)


@dataclass(kw_only=True)
class Signalled(ConfidencePlugin):
    """Gets the signal `number` while the weights are not what they were."""

    number: int = signal.SIGUSR1

    def analyze(self, net: nn.Module, probe: Probe) -> Confidence:
        weight = next(net.parameters()).data
        before = weight.clone()
        weight.add_(1.0)
        for _ in range(3):
            os.kill(os.getpid(), self.number)
            time.sleep(0.01)
        weight.copy_(before)
        return super().analyze(net, probe)


class Unreachable(CSVLogger):
    """A sink behind a network that is gone."""

    def log_metrics(self, metrics, step=None) -> None:
        raise ConnectionError("no route to host")

    def after_save_checkpoint(self, checkpoint_callback) -> None:
        raise ConnectionError("no route to host")
