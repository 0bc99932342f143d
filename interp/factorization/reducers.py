"""Ways to factorise rows of any sign: NMF, and others by scikit-learn to show what non-negativity brings."""

from dataclasses import replace

import torch
from torch import Tensor

from interp.errors import unknown
from interp.factorization.nmf import Factors, check_fit, nmf
from interp.processes.share import summed

SOLVERS = ("hals", "sklearn", "pca", "kmeans")
NEGATIVE = ("error", "rectify", "split")
BLOCK = 4096  # rows whose residual is in memory at once


def factorise(
    rows: Tensor,
    groups: int,
    solver: str = "hals",
    negative: str = "error",
    *,
    signed: bool = False,
    shared: bool = False,
    **options,
) -> Factors:
    """Factorise `rows` (N, C) of any sign into `groups` K factors; what becomes of negatives is said in `prepared`.

    With "split" the channel factors (K, C) are signed, and the error is that of these factors against the rows: those
    of the two signs leave out less, but share their spatial factors. `signed`: some rows are negative, if not here. The
    rest is that of `reduce`.
    """
    if solver == "pca":
        return reduce(rows, groups, solver, shared=shared, **options)
    factors = reduce(prepared(rows, negative, signed), groups, solver, shared=shared, **options)
    count = rows.shape[1]
    if factors.channel.shape[1] == count:
        return factors
    channel = factors.channel[:, :count] - factors.channel[:, count:]
    length = channel.norm(dim=1)
    spatial, channel = factors.spatial * length, channel / length.clamp_min(1e-30)[:, None]
    blocks = list(zip(rows.split(BLOCK), spatial.split(BLOCK), strict=True))
    sums = rows.new_zeros(2, dtype=torch.float64)
    for x, spatial_of_block in blocks:
        sums += torch.stack([(x - spatial_of_block @ channel).double().square().sum(), x.double().square().sum()])
    left, total = summed(sums) if shared else sums
    error = (left / total).sqrt() if total > 0 else total
    basis = factors.channel if factors.basis is None else factors.basis
    return replace(factors, spatial=spatial, channel=channel, relative_error=error, basis=basis)


def prepared(rows: Tensor, negative: str, signed: bool = False) -> Tensor:
    """`rows` (N, C) as NMF takes them: (N, C), or (N, 2 C) with "split" where some are negative, or `signed` says so.

    "rectify" drops negatives, "split" puts both signs side by side, "error" leaves them, for NMF to refuse. Raises
    UserError for another word.
    """
    if negative not in NEGATIVE:
        raise unknown("way to treat negative activations", negative, NEGATIVE)
    if negative == "error" or not (signed or (rows < 0).any()):
        return rows
    return rows.clamp_min(0) if negative == "rectify" else torch.cat([rows.clamp_min(0), (-rows).clamp_min(0)], dim=1)


def reduce(
    rows: Tensor,
    groups: int,
    solver: str = "hals",
    *,
    sweeps: int = 200,
    tolerance: float = 1e-4,
    shared: bool = False,
    seed: int | None = None,
) -> Factors:
    """Factorise `rows` (N, C) into `groups` K factors by one of `SOLVERS`.

    hals: `interp.factorization.nmf`, on the rows' device, also of rows that processes have `shared`. sklearn: NMF by
    coordinate descent from NNDSVD, on the CPU. pca: principal components without centring, so signed, each with its
    stronger side positive. kmeans: each row belongs to one group, with its projection on the group's centre. With
    `seed` they begin at random. Raises UserError as `nmf` does and for an unknown solver.
    """
    if solver == "hals":
        start = None if seed is None else random_start(rows, groups, torch.Generator().manual_seed(seed))
        return nmf(rows, groups, sweeps=sweeps, tolerance=tolerance, shared=shared, start=start)
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    check_fit(len(rows), rows.shape[1], groups, sweeps)
    matrix = rows.detach().float().cpu()
    by = {"sklearn": _sklearn, "pca": _pca, "kmeans": _kmeans}[solver]
    spatial, channel, done = by(matrix, groups, sweeps, tolerance, seed)
    basis = channel.to(rows.device) if solver == "kmeans" else None
    length = channel.norm(dim=1)
    spatial, channel = spatial * length, torch.where(length[:, None] > 0, channel / length[:, None], 0)
    total = matrix.double().norm()
    error = (matrix - spatial @ channel).double().norm() / total if total > 0 else total
    return Factors(spatial.to(rows.device), channel.to(rows.device), error.to(rows.device), done, basis)


def random_start(rows: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Channel factors (K, C) uniform between 0 and the mean of the non-negative `rows` (N, C)."""
    return torch.rand(groups, rows.shape[1], generator=generator).to(rows.device) * rows.mean(dim=0)


def _sklearn(rows: Tensor, groups: int, sweeps: int, tolerance: float, seed: int | None) -> tuple[Tensor, Tensor, int]:
    import warnings

    from sklearn.decomposition import NMF

    begin = "nndsvd" if seed is None else "random"
    solver = NMF(groups, init=begin, max_iter=sweeps, tol=tolerance, random_state=seed or 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Maximum number of iterations")  # `sweeps` is what the user chose
        spatial = torch.from_numpy(solver.fit_transform(rows.numpy()))
    return spatial, torch.from_numpy(solver.components_), solver.n_iter_


def _pca(rows: Tensor, groups: int, sweeps: int, tolerance: float, seed: int | None) -> tuple[Tensor, Tensor, int]:
    from sklearn.decomposition import TruncatedSVD

    solver = TruncatedSVD(groups, random_state=seed or 0)
    spatial = torch.from_numpy(solver.fit_transform(rows.numpy()))
    sign = torch.where(spatial.clamp_min(0).norm(dim=0) >= spatial.clamp_max(0).norm(dim=0), 1.0, -1.0)
    return spatial * sign, torch.from_numpy(solver.components_.copy()) * sign[:, None], 1


def _kmeans(rows: Tensor, groups: int, sweeps: int, tolerance: float, seed: int | None) -> tuple[Tensor, Tensor, int]:
    import warnings

    from sklearn.cluster import KMeans

    solver = KMeans(groups, random_state=seed or 0, n_init=1, max_iter=sweeps, tol=tolerance)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters")  # groups that stay empty are shown
        solver.fit(rows.numpy())
    centres = torch.from_numpy(solver.cluster_centers_).float()
    belongs = torch.nn.functional.one_hot(torch.from_numpy(solver.labels_).long(), groups)
    squared = centres.square().sum(dim=1).clamp_min(1e-30)
    return belongs * (rows @ centres.T) / squared, centres, solver.n_iter_
