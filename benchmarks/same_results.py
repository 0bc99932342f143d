"""Whether two checkouts give the same results: python benchmarks/same_results.py OTHER_CHECKOUT [OVERRIDE ...]

Each trains on the digits with all studies (with other settings by overrides) and analyses both checkpoints. Results,
pictures, widgets, scalars and weights are compared byte by byte, but for seconds and the names of the folders.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parents[1]
SMALL = ("data.size=16", "model.widths=[8,16,16]", "trainer=cpu", "trainer.limit_train_batches=8",
         "trainer.max_epochs=2", "logger=report", "callbacks.progress_bar=null")  # fmt: skip
TIMES = ("/seconds", "/share_of_epoch")


def run(tree: Path, folder: Path, overrides: list[str]) -> None:
    """Train in the checkout `tree`, and analyse what came of it, into `folder`."""
    studies = f"+plugin=[{','.join(sorted(path.stem for path in (tree / 'conf' / 'plugin').glob('*.yaml')))}]"
    checkpoints = ",".join(f"{folder}/run/checkpoints/{name}.ckpt" for name in ("best", "last"))
    for command in (
        ["train.py", studies, *SMALL, *overrides, f"output={folder}/run"],
        ["analyze.py", studies, f"checkpoint=[{checkpoints}]", "accelerator=cpu", "logger=report",
         f"output={folder}/compared"],
    ):  # fmt: skip
        given = {name: value for name, value in os.environ.items() if name != "RUN_STAMP"} | {"PYTHONPATH": str(tree)}
        done = subprocess.run([sys.executable, *command], cwd=tree, env=given, text=True, stdout=subprocess.PIPE)
        print(f"{tree}: {done.stdout.strip().splitlines()[-1]}")
        done.check_returncode()


def content(folder: Path) -> dict[str, bytes]:
    """Whatever was found, by file, without what differs from run to run."""
    files = [path for path in sorted(folder.glob("*/results/**/*")) if path.is_file()]
    return {str(path.relative_to(folder)): _plain(path, folder) for path in files if path.name != "environment.json"}


def _plain(path: Path, folder: Path) -> bytes:
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        for row in rows:
            row["metrics"] = {name: value for name, value in row["metrics"].items() if not name.endswith(TIMES)}
        return json.dumps(rows).encode()
    return path.read_bytes().replace(str(folder).encode(), b"FOLDER")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of both checkpoints, by file and name."""
    paths = sorted(folder.glob("run/checkpoints/*.ckpt"))
    states = {path.name: torch.load(path, weights_only=True)["state_dict"] for path in paths}
    return {f"{file}: {name}": tensor for file, state in states.items() for name, tensor in state.items()}


def main(other: str, *overrides: str) -> int:
    """Compare this checkout with another; the number of files and weights that differ."""
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, "here"), Path(place, "other")]
        for tree, folder in zip((HERE, Path(other).resolve()), folders, strict=True):
            run(tree, folder, [*overrides])
        here, there = map(content, folders)
        differing = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
        trained, before = map(weights, folders)
        differing += [name for name in trained if name not in before or not torch.equal(trained[name], before[name])]
    print("\n".join(differing))
    print(f"{len(here)} files and {len(trained)} weights compared: {len(differing)} differ")
    return len(differing)


if __name__ == "__main__":
    if len(sys.argv) < 2 or not (Path(sys.argv[1]) / "train.py").is_file():
        raise SystemExit(f"give another checkout: {(__doc__ or '').splitlines()[0].partition(': ')[2]}")
    raise SystemExit(min(1, main(*sys.argv[1:])))
