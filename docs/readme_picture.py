"""Make docs/neuron_groups.png from a run with +plugin=nmf: python docs/readme_picture.py RUN_FOLDER"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.io import write_png

sys.path.insert(0, str(Path(__file__).parents[1]))
from plugins.nmf import NMFResult


def side_by_side(run: Path, rows: slice = slice(0, 6)) -> torch.Tensor:
    """The groups at the first and the last epoch, uint8 (3, H, W)."""
    folders = sorted((run / "results" / "nmf").iterdir())
    pictures = []
    for result in (NMFResult.load(folder) for folder in (folders[0], folders[-1])):
        few = {name: getattr(result, name)[rows] for name in ("images", "labels", "spatial")}
        few |= {"drawn": torch.zeros(0), "icons": result.icons[:, :1]}
        pictures.append(replace(result, **few).pictures()["groups"])
    gap = torch.full((3, pictures[0].shape[1], 28), 255, dtype=torch.uint8)
    return torch.cat([pictures[0], gap, pictures[1]], dim=2)


if __name__ == "__main__":
    write_png(side_by_side(Path(sys.argv[1])), str(Path(__file__).with_name("neuron_groups.png")))
