"""Non-negative matrix factorisation of activations into neuron groups."""

from interp.factorization.groups import NeuronGroups, match_groups, match_maps, neuron_groups
from interp.factorization.nmf import Factors, nmf
from interp.factorization.trust import Trust, trust

__all__ = ["Factors", "NeuronGroups", "Trust", "match_groups", "match_maps", "neuron_groups", "nmf", "trust"]
