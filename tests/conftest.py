"""Networks, data and runs that the tests share."""

import gc
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from interp.lit.hydra_versions import BASE

torch.set_num_threads(min(2, torch.get_num_threads()))
os.environ["RUN_STAMP"] = "test"
SHARED = Path(__file__).parents[2] / "shared"


if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, as do the commands that they start
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A training switches deterministic algorithms on for its whole process, and tests run in any order."""
    torch.use_deterministic_algorithms(False)


@dataclass
class Run:
    """A finished training: its folder, the objective and the LightningModule's checkpoint."""

    folder: Path
    objective: float | None

    def checkpoint(self, name: str = "last") -> dict:
        return torch.load(self.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def identical(first: object, second: object) -> bool:
    """Bit by bit, through dictionaries and lists."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(identical(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(identical, first, second))
    return first == second


@pytest.fixture(scope="session")
def train() -> Callable[..., Run]:
    """Train in this process: `train(folder, "override", ...)`; small and quick unless told otherwise."""
    from hydra import compose, initialize_config_dir
    from lightning import seed_everything

    import train as entry
    from conf.arguments import arranged

    def run(folder: Path, *overrides: str, quick: bool = True) -> Run:
        small = (
            ["trainer.max_epochs=2", "trainer.limit_train_batches=4", "data.size=16", "logger=none"] if quick else []
        )
        still = ["callbacks.progress_bar=null", "callbacks.model_summary=null"]
        still += [f"+trainer.enable_{bar}=false" for bar in ("progress_bar", "model_summary")]
        with initialize_config_dir(str(Path(entry.__file__).parent / "conf"), **BASE):
            cfg = compose("train", [f"output={folder}", *arranged([*small, *still, *overrides])])
        seed_everything(0, verbose=False)
        return Run(folder, entry.train.__wrapped__.__wrapped__(cfg))

    return run


@pytest.fixture(scope="session")
def digits():
    """The default data, 16 x 16."""
    from interp.lit.data import ImageData
    from interp.lit.data.digits import digits

    return ImageData(digits, size=16, batch_size=32)


@pytest.fixture
def net(digits):
    """An untrained small network for the digits, in training mode."""
    from interp.lit.models import small_cnn

    torch.manual_seed(0)
    return small_cnn(digits, widths=(8, 16, 16))


@pytest.fixture
def mounted(tmp_path):
    """Mount a disk of its own, `mounted("size=400k")`, where this is allowed; returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root can mount a disk")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def wandb_server(monkeypatch):
    """A W&B server on this machine, and an environment in which W&B knows nothing else."""
    import wandb

    from interp.lit.wandb import end as wandb_end
    from interp.lit.wandb import logger as wandb_logger
    from tests.fake_wandb import FakeWandb

    before, server = dict(os.environ), FakeWandb()
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        del os.environ[name]
    os.environ |= server.environment
    for name, seconds in {"END_SECONDS": 60.0, "UNHEARD": 20.0, "PROBE": 0.2}.items():
        monkeypatch.setattr(wandb_end, name, seconds)
    wandb.teardown()  # which forgets the environment of others
    yield server
    wandb_logger.close_wandb()
    wandb.teardown()
    server.go_away()
    os.environ.clear()
    os.environ.update(before)
    with warnings.catch_warnings(action="ignore"):  # W&B leaves the folders of artifacts to the collector, which warns
        gc.collect()
