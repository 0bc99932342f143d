"""The looks of a study on disk, results/<plugin>/epoch=NNNN: their order, and which of many are kept."""

import json
import re
import shutil
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from interp.files import MOST, regular

RESULT = frozenset({"result.json", "result.safetensors"})
GONE = "removed"  # what the name of a folder ends with while it is being removed


def look_folder(study: Path, epoch: int) -> Path:
    """Where the look of a study at an epoch is kept: `results/<plugin>/epoch=0003`."""
    return study / f"epoch={epoch:04d}"


def looks(study: Path) -> list[tuple[int, Path]]:
    """Epoch and folder of every look in `results/<plugin>`, in the order of the epochs.

    What is named otherwise, such as `epoch=0003_keep`, is somebody's own and is left out.
    """
    numbers = {path: re.fullmatch("epoch=([0-9]{1,9})", path.name) for path in study.glob("epoch=*")}
    return sorted((int(number[1]), path) for path, number in numbers.items() if number and path.is_dir())


def evenly(epochs: Sequence[int], most: int) -> list[int]:
    """Of ascending epochs the first, the last, and those between that lie a stride apart: at most `most`, 2 or more.

    The stride is that of the earlier epochs, doubled until they are few enough. So it works on what the calls before
    have left, as looks come one by one and nobody knows how many there will be.

    >>> evenly([0, 1, 2, 3, 4], 4), evenly([0, 2, 4, 6, 7], 4)
    ([0, 2, 4], [0, 4, 7])
    """
    gaps = [later - earlier for earlier, later in pairwise(epochs)]
    thinned = 2 * len(epochs) > most  # else they have never been too many, and a wide gap is a look that failed
    stride = min(gaps[:-3] or gaps[:1], default=1) if thinned else 1  # the last looks were spared so far
    while len(kept := _apart(epochs[:-1], stride)) >= most:
        stride *= 2
    return [*kept, *epochs[-1:]]


def _apart(epochs: Sequence[int], stride: int) -> list[int]:
    kept = list(epochs[:1])
    for epoch in epochs[1:]:
        if epoch - kept[-1] >= stride:
            kept.append(epoch)
    return kept


def thin(
    folder: Path, plugin: str, most: int, last: int, drawn: Collection[str] = (), *, training: bool = False
) -> None:
    """Remove looks of `plugin` from its `folder`, results/<plugin>, so that `most` up to the epoch `last` stay.

    They are spread `evenly`. While `training` goes on the look before the last stays beside them: a run that is resumed
    from the checkpoint before the last look follows it. `drawn` names the files of the plugin's pictures and widgets.
    What is not known as a look of this plugin, or holds any other file, is not touched. Raises OSError.
    """
    for leftover in folder.glob(f".epoch=*.{GONE}"):  # of a process that was killed here
        shutil.rmtree(leftover)
    ours = {epoch: path for epoch, path in looks(folder) if epoch <= last and _is_of(plugin, epoch, path)}
    kept = {*evenly(sorted(ours), most), *(sorted(ours)[-2:] if training else ())}
    for epoch in ours.keys() - kept:
        if _holds_nothing_else(ours[epoch], drawn):
            gone = folder / f".{ours[epoch].name}.{GONE}"
            ours[epoch].rename(gone)  # at once: half a look would be read as a damaged one
            shutil.rmtree(gone)


def _is_of(plugin: str, epoch: int, path: Path) -> bool:
    """Whether `path` is the look of `plugin` at `epoch`, and not what a person has renamed."""
    if path.is_symlink() or path != look_folder(path.parent, epoch):
        return False
    about = _about(path)
    return (about.get("plugin"), about.get("epoch")) == (plugin, epoch)


def _about(look: Path) -> dict[str, Any]:
    path = look / "result.json"
    try:
        about = {} if path.is_symlink() else json.loads(regular(path, MOST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _holds_nothing_else(look: Path, drawn: Collection[str]) -> bool:
    captions = _about(look).get("captions")
    known = {*RESULT, *drawn, *(f"{name}.png" for name in (captions if isinstance(captions, dict) else ()))}
    return all(
        path.is_file() and not path.is_symlink() and (path.name in known or re.fullmatch(r"\..*\.part", path.name))
        for path in look.iterdir()
    )
