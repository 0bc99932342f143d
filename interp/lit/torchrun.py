"""Processes that torchrun starts: one output folder, which Hydra names before they know each other, shared studies."""

import os
import sys
from pathlib import Path


def agree_on_folder(stamp: str) -> None:
    """Set RUN_STAMP to the first process's `stamp` in all of them; the others write no .hydra and a log of their own.

    Outside torchrun it does nothing: Lightning, where it starts the processes itself, sees to both.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    from torch.distributed import TCPStore

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    rank, key = int(os.environ["RANK"]), f"epochscope/{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    if rank == 0:
        store.set(key, os.environ.get("RUN_STAMP", stamp))
    else:
        sys.argv += ["hydra.output_subdir=null", f"hydra.job.name={Path(sys.argv[0]).stem}_process_{rank}"]
    os.environ["RUN_STAMP"] = store.get(key).decode()


def join() -> tuple[int, int]:
    """Let the processes of torchrun study together; this one's rank, and its rank on its machine (0 and 0 of one)."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 0
    from torch import distributed

    distributed.init_process_group("gloo")
    return distributed.get_rank(), int(os.environ["LOCAL_RANK"])
