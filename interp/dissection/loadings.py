"""Is a concept one unit or a combination? The leading direction of its activations and how much one unit carries."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.dissection.concepts.data import ConceptData, Labels
from interp.errors import UserError
from interp.network.layers import Layer


@dataclass(frozen=True)
class Loadings:
    """The leading direction of one concept's activations."""

    loadings: Tensor  # (U,) float64 in [0, 1], absolute, of squares that sum to 1
    energy: float  # share of the rows' sum of squares along that direction, 0 to 1
    largest: float  # the largest squared loading: what one unit carries
    by_chance: Tensor  # (R,) float64, the same of as many random rows
    one_unit: bool  # largest exceeds the share asked for, and 95% of `by_chance`

    @property
    def verdict(self) -> str:
        """'one unit' or 'a combination'."""
        return "one unit" if self.one_unit else "a combination"


def standardise(rows: Tensor) -> Tensor:
    """Each unit of `rows` (N, U) with mean 0 and deviation 1 over the data, float64; a constant unit becomes 0."""
    rows = rows.double()
    centred = rows - rows.mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    # the mean of equal numbers may round, so that zero deviation is relative to the size of the numbers
    constant = deviation <= 1e-12 * rows.abs().amax(dim=0)
    return torch.where(constant, 0.0, centred / deviation.masked_fill(constant, 1.0))


def concept_loadings(
    rows: Tensor, members: Tensor, *, share: float = 0.5, repeats: int = 20, seed: int = 0
) -> Loadings:
    """Loadings of one concept: `rows` (N, U) are all activations (of positions, or pooled of images), `members` (N,)
    bool says which show the concept.

    Standardised over all rows; the SVD of the members, not centred again, gives the leading right singular vector.
    `repeats` random choices of as many rows give the level of chance. Raises UserError for NaN or without a member.
    """
    if not members.any() or not rows.isfinite().all():
        raise UserError("loadings need a row of the concept" if not members.any() else "the rows hold NaN or infinity")
    rows = standardise(rows)
    leading, energy = _leading(rows[members])
    generator = torch.Generator().manual_seed(seed)
    count = int(members.sum())
    draws = (torch.randperm(len(rows), generator=generator)[:count].to(rows.device) for _ in range(repeats))
    by_chance = torch.tensor(
        [float(_leading(rows[chosen])[0].square().amax()) for chosen in draws], dtype=torch.float64
    )
    largest = float(leading.square().amax())
    chance = float(by_chance.quantile(0.95)) if repeats else 0.0
    return Loadings(leading, energy, largest, by_chance, largest > max(share, chance))


def _leading(rows: Tensor) -> tuple[Tensor, float]:
    """The absolute leading right singular vector (U,) of `rows` (N, U), and its share of the sum of squares.

    From the Gram matrix, the smaller of the two.
    """
    tall = rows.shape[0] >= rows.shape[1]
    values, vectors = torch.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    leading = vectors[:, -1] if tall else rows.T @ vectors[:, -1]
    return (leading / leading.norm().clamp_min(1e-300)).abs(), float(values[-1] / values.sum().clamp_min(1e-300))


@torch.no_grad()
def concept_rows(net: nn.Module, data: ConceptData, layer: str, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """Activations (N, U) of every position of every image, and which concepts lie there, (N, L) bool, on the CPU.

    For a probe: it holds all of them in memory.
    """
    rows, present = [], []
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    at = Layer.named(net, data.image(0)[None].to(device), layer)
    for indices in torch.arange(len(data)).split(batch_size):
        images = torch.stack([data.image(index) for index in indices.tolist()]).to(device)
        values = at.activations(net, images, batch_size).float().cpu()
        rows.append(values.permute(0, 2, 3, 1).flatten(0, 2))
        grid = values.shape[2:]
        present += [concept_positions(data.labels(index), len(data.concepts), *grid) for index in indices.tolist()]
    return torch.cat(rows), torch.cat(present)


def concept_positions(labels: Labels, concepts: int, height: int, width: int) -> Tensor:
    """Which of the `concepts` L lie at the centre of each position: (height * width, L) bool, the nearest label."""
    maps = labels.maps.cpu()  # those of a probe without a data set lie where it does
    down, across = maps.shape[1:]
    rows = ((torch.arange(height) + 0.5) * down / height).long()
    columns = ((torch.arange(width) + 0.5) * across / width).long()
    at = maps[:, rows][:, :, columns].flatten(1).long().clamp_min(-1) + 1  # (P, positions)
    present = torch.zeros(height * width, concepts + 1, dtype=torch.bool)
    return present.scatter_(1, at.T, True)[:, 1:]
