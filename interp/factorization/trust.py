"""How far a factorisation can be trusted: against chance, against the optimum, and against other starts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.factorization.nmf import nmf
from interp.factorization.start import svd_floor

SAMPLE = 4096  # rows are enough, and bound the cost


@dataclass(frozen=True)
class Trust:
    """What stands beside a factorisation; errors are relative, 0 to 1."""

    null_error: float  # of the same count of groups on the same values, each channel shuffled over the positions
    floor_error: float  # that no factorisation into so many factors of any sign can undercut (Eckart & Young)
    restart_stability: float  # correlation of each group's map with its best match from a random start, mean; 0 to 1
    restart_worst: float  # the same of the group that does worst


@torch.no_grad()
def trust(rows: Tensor, groups: int, restarts: int = 5, seed: int = 0) -> Trust:
    """Compare NMF of `rows` (N, C) >= 0 into `groups` with a shuffled null, the SVD floor and `restarts` random starts.

    Of more than 4,096 rows a random sample is taken. The random numbers come from `seed` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = rows.float()
    if len(rows) > SAMPLE:
        rows = rows[torch.randperm(len(rows), generator=generator)[:SAMPLE].sort().values.to(rows.device)]
    keys = torch.rand(rows.shape, generator=generator).to(rows.device)
    null = nmf(rows.gather(0, keys.argsort(dim=0)), groups, tolerance=1e-3)
    mine = nmf(rows, groups)
    starts = torch.rand(restarts, groups, rows.shape[1], generator=generator).to(rows.device) * rows.mean(dim=0)
    others = nmf(rows.expand(restarts, -1, -1), groups, start=starts)
    matched = torch.stack([matched_correlation(mine.spatial, other) for other in others.spatial])
    floor = float(svd_floor(rows[None], groups))
    return Trust(float(null.relative_error), floor, float(matched.mean()), float(matched.mean(dim=0).min()))


def matched_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation (K,) of each column of `first` (N, K) with its partner in `second` (N, K), matched one to one."""
    from scipy.optimize import linear_sum_assignment

    columns = [torch.nn.functional.normalize(part - part.mean(dim=0), dim=0) for part in (first, second)]
    correlation = (columns[0].T @ columns[1]).cpu()
    return correlation.gather(1, torch.from_numpy(linear_sum_assignment(-correlation.numpy())[1])[:, None])[:, 0]


def choose_groups(rows: Tensor, least_gain: float = 0.02, most: int = 16) -> tuple[int, Tensor]:
    """The smallest K after which one more group would explain less than `least_gain` of the energy of `rows` (N, C).

    Energy is the sum of squares. Also the curve (most,) float64 of the relative errors of 1 to `most` groups; where
    every step gains more, K is `most`. Of more than 4,096 rows a fixed random sample decides.
    """
    if len(rows) > SAMPLE:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:SAMPLE].to(rows.device)]
    most = min(most, *rows.shape)
    curve = torch.stack([nmf(rows, groups, tolerance=1e-3).relative_error for groups in range(1, most + 1)]).cpu()
    enough = (-curve.square().diff() < least_gain).nonzero().flatten()
    return (int(enough[0]) + 1 if len(enough) else most), curve
