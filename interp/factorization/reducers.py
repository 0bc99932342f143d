"""Other ways to factorise rows, by scikit-learn: to compare with, and to show what non-negativity brings."""

import torch
from torch import Tensor

from interp.errors import unknown
from interp.factorization.nmf import Factors, nmf

SOLVERS = ("hals", "sklearn", "pca", "kmeans")


def reduce(
    rows: Tensor,
    groups: int,
    solver: str = "hals",
    *,
    sweeps: int = 200,
    tolerance: float = 1e-4,
    shared: bool = False,
) -> Factors:
    """Factorise `rows` (N, C) into `groups` K factors by one of `SOLVERS`.

    hals: `interp.factorization.nmf`, on the rows' device, also of rows that processes have `shared`. sklearn: NMF by
    coordinate descent from NNDSVD, on the CPU. pca: principal components without centring, so signed, each with its
    stronger side positive. kmeans: each row belongs to one group, with its projection on the group's centre. Raises
    UserError as `nmf` does and for an unknown solver.
    """
    if solver == "hals":
        return nmf(rows, groups, sweeps=sweeps, tolerance=tolerance, shared=shared)
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    nmf(rows[:1].clamp_min(0).expand(len(rows), -1), groups, sweeps=1)  # refuses what does not fit
    matrix = rows.detach().float().cpu()
    by = {"sklearn": _sklearn, "pca": _pca, "kmeans": _kmeans}[solver]
    spatial, channel, done = by(matrix, groups, sweeps, tolerance)
    length = channel.norm(dim=1)
    spatial, channel = spatial * length, torch.where(length[:, None] > 0, channel / length[:, None], 0)
    total = matrix.double().norm()
    error = (matrix - spatial @ channel).double().norm() / total if total > 0 else total
    return Factors(spatial.to(rows.device), channel.to(rows.device), error.to(rows.device), done)


def _sklearn(rows: Tensor, groups: int, sweeps: int, tolerance: float) -> tuple[Tensor, Tensor, int]:
    import warnings

    from sklearn.decomposition import NMF

    solver = NMF(groups, init="nndsvd", max_iter=sweeps, tol=tolerance, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Maximum number of iterations")  # `sweeps` is what the user chose
        spatial = torch.from_numpy(solver.fit_transform(rows.numpy()))
    return spatial, torch.from_numpy(solver.components_), solver.n_iter_


def _pca(rows: Tensor, groups: int, sweeps: int, tolerance: float) -> tuple[Tensor, Tensor, int]:
    from sklearn.decomposition import TruncatedSVD

    solver = TruncatedSVD(groups, random_state=0)
    spatial = torch.from_numpy(solver.fit_transform(rows.numpy()))
    sign = torch.where(spatial.clamp_min(0).norm(dim=0) >= spatial.clamp_max(0).norm(dim=0), 1.0, -1.0)
    return spatial * sign, torch.from_numpy(solver.components_.copy()) * sign[:, None], 1


def _kmeans(rows: Tensor, groups: int, sweeps: int, tolerance: float) -> tuple[Tensor, Tensor, int]:
    from sklearn.cluster import KMeans

    solver = KMeans(groups, random_state=0, n_init=1, max_iter=sweeps, tol=tolerance).fit(rows.numpy())
    centres = torch.from_numpy(solver.cluster_centers_).float()
    belongs = torch.nn.functional.one_hot(torch.from_numpy(solver.labels_).long(), groups)
    squared = centres.square().sum(dim=1).clamp_min(1e-30)
    return belongs * (rows @ centres.T) / squared, centres, solver.n_iter_
