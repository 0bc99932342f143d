"""How far a factorisation can be trusted: against chance, against the optimum, and against other starts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.factorization.nmf import nmf
from interp.factorization.reducers import factorise, prepared, random_start, reduce
from interp.factorization.start import svd_floor
from interp.vectors import correlations, matched

SAMPLE = 4096  # rows are enough, and bound the cost


@dataclass(frozen=True)
class Trust:
    """What stands beside a factorisation; errors are relative, 0 to 1."""

    null_error: float  # of the same count of groups on the same values, each channel shuffled over the positions
    floor_error: float  # that no factorisation into so many factors of any sign can undercut (Eckart & Young)
    restart_stability: float  # correlation of each group's map with its best match from a random start, mean; 0 to 1
    restart_worst: float  # the same of the group that does worst


@torch.no_grad()
def trust(
    rows: Tensor, groups: int, restarts: int = 5, seed: int = 0, *, solver: str = "hals", negative: str = "error"
) -> Trust:
    """Compare the factorisation of `rows` (N, C) into `groups` with a shuffled null, the SVD floor and random starts.

    By the `solver` and with what is done about `negative` rows as in `factorise`; `restarts` random starts. Of more
    than 4,096 rows a random sample is taken. The random numbers come from `seed` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = rows.float()
    if len(rows) > SAMPLE:
        rows = rows[torch.randperm(len(rows), generator=generator)[:SAMPLE].sort().values.to(rows.device)]
    if negative == "rectify" and solver != "pca":
        rows = rows.clamp_min(0)
    keys = torch.rand(rows.shape, generator=generator).to(rows.device)
    null = factorise(rows.gather(0, keys.argsort(dim=0)), groups, solver, negative, tolerance=1e-3)
    mine = factorise(rows, groups, solver, negative)
    others = _restarted(rows if solver == "pca" else prepared(rows, negative), groups, solver, restarts, generator)
    matched = torch.stack([matched_correlation(mine.spatial, other) for other in others])
    floor = float(svd_floor(rows[None], groups))
    return Trust(float(null.relative_error), floor, float(matched.mean()), float(matched.mean(dim=0).min()))


def _restarted(rows: Tensor, groups: int, solver: str, restarts: int, generator: torch.Generator) -> Tensor:
    """Spatial factors (R, N, K) from as many random starts."""
    if solver == "hals":  # all at once
        starts = torch.stack([random_start(rows, groups, generator) for _ in range(restarts)])
        return nmf(rows.expand(restarts, -1, -1), groups, start=starts).spatial
    seeds = torch.randint(2**31, (restarts,), generator=generator).tolist()
    return torch.stack([reduce(rows, groups, solver, seed=number).spatial for number in seeds])


def matched_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation (K,) of each column of `first` (N, K) with its partner in `second` (N, K), matched one to one."""
    correlation = correlations(first.T, second.T).cpu()
    return correlation.gather(1, matched(correlation)[1][:, None])[:, 0]


def choose_groups(
    rows: Tensor, least_gain: float = 0.02, most: int = 16, *, solver: str = "hals", negative: str = "rectify"
) -> tuple[int, Tensor]:
    """The smallest K after which one more group would explain less than `least_gain` of the energy of `rows` (N, C).

    Energy is the sum of squares. Also the curve (most,) float64 of the relative errors of 1 to `most` groups by the
    `solver`; where every step gains more, K is `most`. Of more than 4,096 rows a fixed random sample decides.
    """
    if len(rows) > SAMPLE:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:SAMPLE].to(rows.device)]
    most = min(most, *rows.shape)
    errors = [factorise(rows, groups, solver, negative, tolerance=1e-3).relative_error for groups in range(1, most + 1)]
    curve = torch.stack(errors).cpu().double()
    enough = (-curve.square().diff() < least_gain).nonzero().flatten()
    return (int(enough[0]) + 1 if len(enough) else most), curve
