"""Looks of studies that failed, kept in results/failures.json of a run: by study the reasons by epoch."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from interp.files import replacing
from interp.lit.run_folder.files import Points, json_object
from interp.looks import looks

FILE = "failures.json"


def keep(results: Path, study: str, epoch: int, reason: str) -> None:
    """Note in a run's folder `results` why the look of a study at `epoch` failed, '' where it did not.

    What stood there of this epoch and of later ones, before the run was resumed, goes. Raises OSError.
    """
    kept = json_object(results / FILE, [], results)
    now = {number: text for number, text in _looks(kept.get(study)).items() if number < epoch}
    now |= {epoch: reason} if reason else {}
    if now != _looks(kept.get(study)):
        with replacing(results / FILE) as path:
            path.write_text(json.dumps(kept | {study: now}, indent=1))


def read(
    run: Path, notes: list[str], metrics: Mapping[str, Points] = MappingProxyType({})
) -> dict[str, dict[int, str]]:
    """Of each study of a run why its looks failed, '' for those that did not, by epoch.

    `metrics` are the run's, which know of looks that are no longer kept.
    """
    failed = json_object(run / "results" / FILE, notes, run)
    outcomes: dict[str, dict[int, str]] = {study: {} for study in failed}
    for epoch, path in (look for study in run.glob("results/*") for look in looks(study)):
        outcomes.setdefault(path.parent.name, {})[epoch] = ""
    for study in outcomes:
        epochs = (epoch for _, epoch in metrics.get(f"{study}/failed", {}))
        outcomes[study] |= {int(epoch): "" for epoch in epochs if epoch is not None}
    return {study: outcomes[study] | _looks(failed.get(study)) for study in sorted(outcomes)}


def _looks(kept: object) -> dict[int, str]:
    """What the file has of one study: whoever has written it, reasons by epoch."""
    known = kept if isinstance(kept, dict) else {}
    return {int(epoch): str(reason) for epoch, reason in known.items() if str(epoch).isdecimal()}


def told(studies: Mapping[str, Mapping[int, str]]) -> str:
    """What to say of studies and their looks, as `read` gives them: those that failed, how often and why at last.

    >>> told({"nmf": {0: "", 1: ""}, "saliency": {0: "", 1: "RuntimeError: no", 2: "RuntimeError: still no"}})
    'studies that failed: saliency (2 of 3 looks: RuntimeError: still no)'
    """
    said = []
    for name, outcomes in studies.items():
        if reasons := [outcomes[epoch] for epoch in sorted(outcomes) if outcomes[epoch]]:
            said.append(f"{name} ({len(reasons)} of {len(outcomes)} looks: {reasons[-1]})")
    return f"studies that failed: {'; '.join(said)}" if said else ""
