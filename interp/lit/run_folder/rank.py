"""Which of the processes of a run this is, told before they know each other. Imports nothing heavy."""

import os

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # in the order in which Lightning looks


def first_process() -> bool:
    """Whether this is the process that writes, of those that torchrun, SLURM or Lightning start for one run."""
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    return rank == "0" and ("RANK" in os.environ or os.environ.get("NODE_RANK", "0") == "0")
