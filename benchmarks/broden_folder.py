"""A folder in the Broden format of any size, from generated shapes."""

from pathlib import Path

import numpy as np
from PIL import Image

from interp.dissection import Broden

Table = dict[str, list[tuple[int, str, float]]]


def write_broden(root: Path, images: int, concepts: int) -> Broden:
    """Shapes with their five categories, and patches of further labels up to `concepts` L of them."""
    from interp.lit.data.shapes import CONCEPT_NAMES, generate

    made = generate(images, 0, size=224)
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    rows, first = [], 1
    numbered: dict[str, np.ndarray] = {}
    table: Table = {}
    for category, names in CONCEPT_NAMES.items():
        maps = made.concepts[category][:, 1::2, 1::2].numpy().astype(int)
        numbered[category] = np.where(maps > 0, maps + first - 1, 0)
        table[category] = [(first + place, name, 1.0) for place, name in enumerate(names[1:])]
        first += len(names) - 1
    numbered["patch"] = rng.integers(first, concepts + 1, (images, 4, 4)).repeat(28, 1).repeat(28, 2)
    table["patch"] = [(number, f"patch {number}", 1.0) for number in range(first, concepts + 1)]
    for place, image in enumerate(made.images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / "images" / f"{place}.jpg", quality=92)
        files = [_write_map(root / "images", f"{place}_{name}.png", maps[place]) for name, maps in numbered.items()]
        rows.append(f"{place}.jpg,val,224,224,112,112,{','.join(files)}")
    (root / "index.csv").write_text(f"image,split,ih,iw,sh,sw,{','.join(table)}\n" + "\n".join(rows) + "\n")
    _write_tables(root, table)
    return Broden(root)


def _write_map(folder: Path, name: str, numbers: np.ndarray) -> str:
    Image.fromarray(np.stack([numbers % 256, numbers // 256, 0 * numbers], 2).astype(np.uint8)).save(folder / name)
    return name


def _write_tables(root: Path, table: Table) -> None:
    (root / "category.csv").write_text("name\n" + "\n".join(table) + "\n")
    lines = [f"{number},{name}" for labels in table.values() for number, name, _ in labels]
    (root / "label.csv").write_text("number,name\n" + "\n".join(lines) + "\n")
    for category, labels in table.items():
        lines = [f"{number},{coverage}" for number, _, coverage in labels]
        (root / f"c_{category}.csv").write_text("number,coverage\n" + "\n".join(lines) + "\n")
