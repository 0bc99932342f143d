"""Look at a network without disturbing it: `with quiet(net):` (`block`) undoes what is done within.

What is `kept` for that: the `state` of the network, and the `switches` that are everybody's.
"""

from interp.network.quiet.block import Disturbed, quiet

__all__ = ["Disturbed", "quiet"]
