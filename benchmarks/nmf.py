"""NMF against scikit-learn, and torchnmf where it is installed, at equal error: python benchmarks/nmf.py

Time to within 1% of the converged error, start included, on one thread: each solver gets the fewest sweeps that reach
it, and only that run counts. The floor is two products of the rows with a factor: one sweep that does nothing else.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from measure import activation_rows, report, seconds
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.factorization import nmf

Solver = Callable[[Tensor, int, int], float]  # rows, groups, sweeps -> relative error


def ours(rows: Tensor, groups: int, sweeps: int) -> float:
    return float(nmf(rows, groups, sweeps=sweeps, tolerance=0).relative_error.mean())


def scikit_learn(rows: Tensor, groups: int, sweeps: int) -> float:
    from sklearn.decomposition import NMF

    matrices = rows if rows.ndim == 3 else rows[None]
    errors = []
    for matrix in matrices.numpy():
        solver = NMF(groups, init="nndsvd", max_iter=sweeps, tol=0, random_state=0).fit(matrix)
        errors.append(solver.reconstruction_err_ / np.linalg.norm(matrix))
    return float(np.mean(errors))


def torchnmf(rows: Tensor, groups: int, sweeps: int) -> float:
    from torchnmf.nmf import NMF

    torch.manual_seed(0)
    net = NMF(rows.shape, rank=groups)
    net.fit(rows, beta=2, max_iter=sweeps, tol=0)
    return float((net() - rows).norm() / rows.norm())


def floor(rows: Tensor, groups: int) -> float:
    matrices = rows if rows.ndim == 3 else rows[None]
    spatial, channel = (torch.rand(len(matrices), groups, side) for side in matrices.shape[1:])
    return seconds(lambda: (channel @ matrices.mT, spatial @ matrices))


def to_within_one_percent(solver: Solver, rows: Tensor, groups: int, target: float, most: int) -> tuple[float, int]:
    """CPU seconds and sweeps, or infinity where `most` sweeps do not reach the target."""
    for sweeps in [n for n in (*range(1, 21), 24, 28, 34, 40, 80, 160, 320) if n <= most]:
        if solver(rows, groups, sweeps) <= 1.01 * target:
            return seconds(partial(solver, rows, groups, sweeps), repeats=1 if rows.numel() > 2e7 else 3), sweeps
    return float("inf"), most


def cases(full: bool) -> dict[str, tuple[Tensor, int]]:
    rows, about = activation_rows(12_544, 528)
    many, about_many = activation_rows(200_000 if full else 40_000, 512)
    return {
        f"{about}: 12,544 x 528": (rows, 16),
        f"{about_many}: {len(many):,} x 512": (many, 32),
        "64 images, each 196 x 528": (rows.reshape(64, 196, 528), 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the default: a minute")
    parser.add_argument("--full", action="store_true", help="200,000 rows and torchnmf: several minutes")
    full = parser.parse_args().full
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Maximum number of iterations")
    table, ratios, floors = [], {}, {}
    with threadpool_limits(1):
        for name, (rows, groups) in cases(full).items():
            converged = ours(rows, groups, 60)
            peers: dict[str, Solver] = {"scikit-learn": scikit_learn}
            if full and find_spec("torchnmf") and rows.numel() < 1e7 and rows.ndim == 2:
                peers["torchnmf"] = torchnmf
            mine, sweeps = to_within_one_percent(ours, rows, groups, converged, 60)
            floors[name] = mine / floor(rows, groups)
            for peer, solver in peers.items():
                theirs, steps = to_within_one_percent(
                    solver, rows, groups, converged, 320 if peer == "torchnmf" else 40
                )
                ratios[f"{name}, {peer}"] = theirs / mine
                table.append((name, groups, peer, theirs, steps, mine, sweeps, theirs / mine, floors[name]))
    columns = ("rows", "K", "peer", "its s", "sweeps", "our s", "sweeps", "ratio to peer", "ratio to floor")
    report("NMF to within 1% of the converged error", columns, table,
           ratio_to_peer=min(v for k, v in ratios.items() if "scikit" in k), ratio_to_floor=max(floors.values()),
           peers=ratios, floors=floors)  # fmt: skip


if __name__ == "__main__":
    main()
