"""What one study found in several networks, side by side."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from interp.draw import stacked
from interp.draw.table import html_table
from interp.files import replacing
from interp.parts import drawn
from interp.result import Cell, Result


@dataclass(frozen=True)
class SideBySide(Result):
    """Results of one study, of one class, by the names of the networks; the first is what others are compared with."""

    results: dict[str, Result]

    @cached_property
    def _differences(self) -> dict[str, tuple[Tensor, str]]:
        first = next(iter(self.results.values()))
        return drawn("picture", {"of differences": lambda: type(first).compared(self.results)}).get(
            "of differences", {}
        )

    def scalars(self) -> dict[str, float]:
        return {f"{key}/{name}": v for name, result in self.results.items() for key, v in result.scalars().items()}

    def pictures(self) -> dict[str, Tensor]:
        of_all = drawn("pictures of", {name: result.pictures for name, result in self.results.items()})
        keys = dict.fromkeys(key for pictures in of_all.values() for key in pictures)
        side_by_side = {
            key: stacked({n: pictures[key] for n, pictures in of_all.items() if key in pictures}) for key in keys
        }
        return side_by_side | {key: picture for key, (picture, _) in self._differences.items()}

    def captions(self) -> dict[str, str]:
        texts_by_key: dict[str, dict[str, str]] = {}
        for name, result in self.results.items():
            for key, text in result.captions().items():
                texts_by_key.setdefault(key, {})[name] = text
        of_each = {
            key: " ".join(f"{name}: {text}" for name, text in texts.items()) for key, texts in texts_by_key.items()
        }
        return of_each | {key: text for key, (_, text) in self._differences.items()}

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        scalars = {name: result.scalars() for name, result in self.results.items()}
        keys = list(dict.fromkeys(key for values in scalars.values() for key in values))
        rows: list[list[Cell]] = [
            [key, *(values.get(key, float("nan")) for values in scalars.values())] for key in keys
        ]
        return {"scalars": (["scalar", *scalars], rows)}

    def widgets(self) -> dict[str, str]:
        columns, rows = self.tables()["scalars"]
        texts = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row] for row in rows]
        return {"scalars": html_table(columns, texts, "What the study measured in each network; nan: not measured.")}

    def save(self, folder: str | Path, **about: Any) -> Path:
        """Write `result.json` alone: the tensors lie with each network's own result."""
        text = {**about, "scalars": self.scalars(), "captions": self.captions(), "networks": list(self.results)}
        with replacing(Path(folder) / "result.json") as path:
            path.write_text(json.dumps(text, indent=1))
        return Path(folder)
