"""The workspace and the report that lay out what runs logged, built and serialised without a network."""

import itertools
import json
import re
import sys

import pytest

from interp.lit.wandb.workspace import main, report, sections, specification, workspace

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")  # theirs, when it is imported
SCALARS = [
    "train/loss", "val/loss", "val/accuracy", "nmf/groups", "nmf/seconds", "nmf/failed", "dissection/detectors",
    "dissection/detectors/colour", "dissection/seconds", "dissection/failed", "trainer/global_step", "epoch",
]  # fmt: skip
LOGGED = dict.fromkeys(SCALARS, "scalar") | {
    "nmf/groups_picture": "image-file", "nmf/emergence_picture": "image-file", "nmf/explore_widget": "html-file",
    "dissection/units_table": "table-file", "dissection/units_picture": "images/separated",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No login, and no network to ask for one."""
    pytest.importorskip("wandb_workspaces", reason="pip install -e '.[wandb]'")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))


def shown(panel: dict) -> list[str]:
    """The keys that a panel of a specification shows."""
    config = panel["config"]
    tables = re.findall(r'"val": "([^"]+/[^"]+)"', json.dumps(config.get("panel2Config", {})))
    return config.get("mediaKeys", []) + config.get("metrics", []) + tables


def test_everything_that_was_logged_has_one_panel():
    made = specification(workspace("me", "mine", LOGGED))
    assert (made["entity"], made["project"]) == ("me", "mine")
    found = {part["name"]: part["panels"] for part in made["spec"]["section"]["panelBankConfig"]["sections"]}
    assert list(found) == ["Training", "dissection", "nmf", "Cost"]
    keys = [key for panels in found.values() for panel in panels for key in shown(panel)]
    assert sorted(keys) == sorted(LOGGED.keys() - {"epoch", "trainer/global_step"})
    together = [sorted(shown(panel)) for panels in found.values() for panel in panels if len(shown(panel)) > 1]
    assert ["train/loss", "val/loss"] in together and [
        "dissection/detectors",
        "dissection/detectors/colour",
    ] in together
    assert ["dissection/seconds", "nmf/seconds"] in together and len(together) == 4
    assert [panel["config"]["chartTitle"] for panel in found["nmf"]] == ["emergence", "groups", "explore", "groups"]


def test_everything_stands_against_the_epoch():
    made = specification(workspace("me", "mine", LOGGED))["spec"]["section"]
    for settings in (made["settings"], *(part["localPanelSettings"] for part in made["panelBankConfig"]["sections"])):
        assert settings["xAxis"] == "epoch" and settings["xAxisActive"]
    panels = [panel for part in made["panelBankConfig"]["sections"] for panel in part["panels"]]
    axes = {panel["config"]["xAxis"] for panel in panels if "metrics" in panel["config"]}
    assert axes == {"epoch"}


def test_wandbs_own_reader_understands_it():
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    made = workspace("me", "mine", LOGGED)
    again = ws.Workspace._from_model(made._to_model())
    assert [(part.name, len(part.panels)) for part in again.sections] == [
        (name, len(panels)) for name, panels in sections(LOGGED).items()
    ]
    told = wr.Report._from_model(report("me", "mine", LOGGED)._to_model())
    assert [block.text for block in told.blocks if isinstance(block, wr.H1)] == list(sections(LOGGED))


def test_panels_of_a_report_do_not_cover_each_other():
    made = specification(report("me", "mine", LOGGED))
    grids = [block for block in made["spec"]["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == 4
    for grid in grids:
        for one, other in itertools.combinations(grid["metadata"]["panelBankSectionConfig"]["panels"], 2):
            a, b = one["layout"], other["layout"]
            apart = [a[at] + a[size] <= b[at] or b[at] + b[size] <= a[at] for at, size in (("x", "w"), ("y", "h"))]
            assert any(apart), (shown(one), shown(other))


def test_what_cannot_be_done_is_said(tmp_path, capsys, monkeypatch):
    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as raised:
            main([*arguments])
        assert raised.value.code == 2
        return capsys.readouterr().err

    assert "'mine' is no ENTITY/PROJECT, such as me/epochscope" in said("mine", str(tmp_path))
    assert f"no W&B run in {tmp_path}: train with logger=wandb" in said("me/mine", str(tmp_path))
    run = tmp_path / "wandb" / "offline-run-20260101_000000-abcd"
    run.mkdir(parents=True)
    (run / "run-abcd.wandb").write_bytes(b"")
    assert "no W&B login: `wandb login`, or --json FILE" in said("me/mine", str(tmp_path))
    assert "logged nothing to lay out" in said("me/mine", str(tmp_path), "--json", "made.json")
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert "pip install -e '.[wandb]'" in said("me/mine", str(tmp_path), "--json", "made.json")
