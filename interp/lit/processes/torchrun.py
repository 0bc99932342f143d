"""Processes that torchrun starts: one output folder, which Hydra names before they know each other, shared studies."""

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore

CLAIMED = "epochscope/claimed"


def agree_on_folder(stamp: str) -> None:
    """Set RUN_STAMP to the first process's `stamp` in all of them; the others write no .hydra and a log of their own.

    Processes that are started again after a failure get the stamp of those before. Outside torchrun it does nothing:
    Lightning, where it starts the processes itself, sees to both.
    """
    if (store := _store()) is None:
        return
    rank, key = int(os.environ["RANK"]), "epochscope/stamp"
    if rank == 0:
        store.compare_set(key, "", os.environ.get("RUN_STAMP", stamp))
    else:
        sys.argv += ["hydra.output_subdir=null", f"hydra.job.name={Path(sys.argv[0]).stem}_process_{rank}"]
    os.environ["RUN_STAMP"] = store.get(key).decode()


def claimed() -> str | None:
    """The folder that the first process claimed before torchrun started all of them again; None if it did not."""
    store = _store() if int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) else None
    return store.get(CLAIMED).decode() if store and store.check([CLAIMED]) else None


def meet(folder: Path) -> None:
    """Let the other processes wait until the first has claimed `folder`.

    Started again, they get a store of their own to meet in: in the one of torchrun lie the addresses of those before.
    """
    if (store := _store()) is None:
        return
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    if int(os.environ["RANK"]) == 0:
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        store.set(CLAIMED, str(folder.resolve()))
        store.set(f"{CLAIMED}/{attempt}", str(port))
    port = store.get(f"{CLAIMED}/{attempt}").decode()
    if attempt != "0":
        os.environ |= {"MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "False"}


def _store() -> "TCPStore | None":
    """What the processes of torchrun share; it lives as long as torchrun."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import TCPStore

    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


def join() -> tuple[int, int]:
    """Let the processes of torchrun study together; this one's rank, and its rank on its machine (0 and 0 of one)."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 0
    from torch import distributed

    distributed.init_process_group("gloo")
    return distributed.get_rank(), int(os.environ["LOCAL_RANK"])
