"""One output folder for the processes that torchrun starts: Hydra names it before they know each other."""

import os
import sys


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
        sys.argv += ["hydra.output_subdir=null", f"hydra.job.name=train_process_{rank}"]
    os.environ["RUN_STAMP"] = store.get(key).decode()
