"""Results of any study, read back from the folders of their looks: results.load(RUN_FOLDER/results/nmf/epoch=0003)"""

import json
from collections.abc import Collection
from pathlib import Path

from interp.comparison import SideBySide
from interp.errors import UserError
from interp.files import MOST, regular
from interp.lit.safety.foreign import result_class
from interp.looks import looks
from interp.result import Result


def load(folder: str | Path, trust: Collection[str] = ()) -> Result:
    """The result kept in results/<plugin>/epoch=NNNN, of the class that its result.json names, which is imported.

    Raises UserError where no class is named, or one that is neither ours nor in a module of `trust`, OSError,
    ValueError, KeyError and IndexError where files are missing or damaged.
    """
    folder = Path(folder)
    content = json.loads(regular(folder / "result.json", MOST).read_text(encoding="utf-8"))
    if names := content.get("networks"):
        last = {name: looks(folder.parents[1] / f"{folder.parent.name}.{name}")[-1][1] for name in names}
        return SideBySide({name: load(path, trust) for name, path in last.items()})
    if "class" not in content:
        raise UserError(f"{folder}/result.json names no class: it was written by an earlier version; run analyze.py")
    return result_class(content["class"], trust).load(folder)
