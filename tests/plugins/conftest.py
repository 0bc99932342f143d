"""A trained network that several studies look at."""

import fcntl
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from interp.lit.classifier import load_weights
from interp.lit.data import ImageData
from interp.lit.data.digits import digits as digits_data
from interp.lit.models import small_cnn
from interp.probe import Probe


@pytest.fixture(scope="session")
def trained(train, tmp_path_factory) -> tuple[nn.Module, Probe]:
    """A network after three epochs on the digits, 16 x 16, and the probe; trained once for all workers."""
    base: Path = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            train(folder, "trainer.max_epochs=3", "logger=none", "data.size=16", quick=False)
    data, checkpoint = ImageData(digits_data, size=16), torch.load(folder / "checkpoints" / "last.ckpt")
    net = small_cnn(data)
    load_weights(net, data.class_names, checkpoint)
    return net.eval(), data.probe
