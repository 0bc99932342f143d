"""Results of several networks side by side."""

import json
from dataclasses import dataclass

import torch

from interp.comparison import SideBySide
from interp.draw import stacked
from interp.factorization import match_maps
from interp.result import Result


@dataclass(frozen=True)
class Shade(Result):
    level: float
    odd: bool = False

    def scalars(self):
        return {"level": self.level} | ({"odd": 1.0} if self.odd else {})

    def pictures(self):
        return {"own": torch.full((3, 10, 20 + 10 * self.odd), int(255 * self.level), dtype=torch.uint8)}

    def captions(self):
        return {"own": f"level {self.level}"}

    @classmethod
    def compared(cls, results):
        first, second = (result.level for result in results.values())
        return {"difference": (torch.full((3, 4, 4), int(255 * (first - second)), dtype=torch.uint8), "first - second")}


BOTH = SideBySide({"dark": Shade(0.2), "light": Shade(0.1, odd=True)})


def test_pictures_are_stacked_and_differences_shown():
    shown = BOTH.pictures()
    assert shown["own"].shape[2] == 30 and (shown["own"] == 51).any() and (shown["own"] == 25).any()
    assert int(shown["difference"].unique()) == 25
    assert BOTH.captions() == {"own": "dark: level 0.2 light: level 0.1", "difference": "first - second"}


def test_scalars_say_of_which_network_and_the_table_leaves_gaps(tmp_path):
    assert BOTH.scalars() == {"level/dark": 0.2, "level/light": 0.1, "odd/light": 1.0}
    columns, rows = BOTH.tables()["scalars"]
    assert columns == ["scalar", "dark", "light"] and str(rows) == "[['level', 0.2, 0.1], ['odd', nan, 1.0]]"
    assert "<td" in BOTH.widgets()["scalars"]
    BOTH.save(tmp_path, epoch=3)
    about = json.loads((tmp_path / "result.json").read_text())
    assert about["networks"] == ["dark", "light"] and about["epoch"] == 3 and about["scalars"]["odd/light"] == 1


def test_stacked_pictures_keep_their_pixels():
    first, second = torch.zeros(3, 5, 9, dtype=torch.uint8), torch.full((3, 6, 4), 7, dtype=torch.uint8)
    sheet = stacked({"a": first, "b": second})
    assert torch.equal(sheet[:, 28:33, :9], first) and (sheet[:, 33:49] == 255).all()
    assert torch.equal(sheet[:, -22:-16, :4], second)


def test_groups_of_other_networks_are_found_by_where_they_fire():
    torch.manual_seed(0)
    reference = torch.rand(5, 3, 4, 4)
    order = torch.tensor([2, 0, 1])
    finer = (7 * reference[:, order]).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    extra = torch.cat([finer, torch.rand(5, 1, 8, 8)], dim=1)
    found, correlation = match_maps(extra, reference)
    assert found.tolist() == [1, 2, 0, 3]
    torch.testing.assert_close(correlation, torch.ones(3))
