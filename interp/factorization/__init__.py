"""Non-negative matrix factorisation of activations into neuron groups."""

from interp.factorization.encode import Basis, encode
from interp.factorization.groups import NeuronGroups, fitted_groups, match_groups, match_maps, neuron_groups
from interp.factorization.nmf import Factors, nmf
from interp.factorization.trust import Trust, trust

__all__ = [
    "Basis", "Factors", "NeuronGroups", "Trust", "encode", "fitted_groups", "match_groups", "match_maps",
    "neuron_groups", "nmf", "trust",
]  # fmt: skip
