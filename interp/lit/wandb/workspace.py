"""A W&B workspace that lays out what runs logged: python -m interp.lit.wandb.workspace ENTITY/PROJECT RUN_FOLDER"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.lit.terminal import visible
from interp.lit.wandb.file import files, kinds

TRAINING = ("train", "val", "test")
COST = ("failed", "seconds", "share_of_epoch", "peak_memory_gb")  # what the harness logs of every plugin
NAME = "Epochscope"


def sections(logged: dict[str, str]) -> dict[str, list[Any]]:
    """Panels by section: the training, each plugin, and what the plugins cost.

    `logged` says what runs logged under each key, as `interp.lit.wandb.file.kinds` does.
    """
    logged = dict(sorted(logged.items()))
    prefixes = dict.fromkeys(key.partition("/")[0] for key in logged if "/" in key)
    plugins = [name for name in prefixes if name not in (*TRAINING, "trainer")]
    panels_of = {"Training": _lines(key for key in logged if key.partition("/")[0] in TRAINING)}
    for plugin in plugins:
        kind_of = {key: kind for key, kind in logged.items() if key.startswith(f"{plugin}/")}
        scalars = (key for key, kind in kind_of.items() if kind == "scalar" and key.rpartition("/")[2] not in COST)
        panels_of[plugin] = [*_media(kind_of), *_lines(scalars)]
    costs = (f"{plugin}/{name}" for plugin in plugins for name in COST)
    panels_of["Cost"] = _lines(key for key in costs if key in logged)
    return {name: panels for name, panels in panels_of.items() if panels}


def _media(kind_of: dict[str, str]) -> list[Any]:
    """Pictures, then widgets, then tables; W&B's slider moves them along the epochs."""
    import wandb_workspaces.reports.v2 as wr

    def named(*wanted: str) -> list[tuple[str, str]]:
        return [(key, key.partition("/")[2].rpartition("_")[0]) for key, kind in kind_of.items() if kind in wanted]

    titled = [*named("image-file", "images/separated"), *named("html-file")]
    size: dict[str, Any] = {"w": 12, "h": 12}  # of the 24 columns of a report
    return [
        *(wr.MediaBrowser(title=title, media_keys=[k], num_columns=1, layout=wr.Layout(**size)) for k, title in titled),
        *(wr.WeavePanelSummaryTable(table_name=key, layout=wr.Layout(w=24, h=12)) for key, _ in named("table-file")),
    ]


def _lines(keys: Iterable[str]) -> list[Any]:
    """Charts over the epochs; scalars of one name, such as train/loss and val/loss or a/b and a/b/c, share one."""
    import wandb_workspaces.reports.v2 as wr

    charts: dict[str, list[str]] = {}
    for key in keys:
        charts.setdefault(key.split("/")[1], []).append(key)
    return [wr.LinePlot(title=title.replace("_", " "), x="epoch", y=[*curves]) for title, curves in charts.items()]


def workspace(entity: str, project: str, logged: dict[str, str]) -> Any:
    """The workspace: a section a plugin, everything against the epoch; raises UserError where nothing was logged."""
    import wandb_workspaces.workspaces as ws

    if not (panels_of := sections(logged)):
        raise UserError("these runs logged nothing to lay out")
    axis, wide = ws.SectionPanelSettings(x_axis="epoch"), ws.SectionLayoutSettings(columns=2, rows=3)
    laid = [
        ws.Section(name=name, panels=panels, is_open=True, panel_settings=axis, layout_settings=wide)
        for name, panels in panels_of.items()
    ]
    return ws.Workspace(entity, project, name=NAME, sections=laid, settings=ws.WorkspaceSettings(x_axis="epoch"))


def report(entity: str, project: str, logged: dict[str, str]) -> Any:
    """The same as a report, to write beside and to pass on; it shows the runs of its own project."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [wr.P("What the networks of this project learn, epoch by epoch."), wr.TableOfContents()]
    for name, panels in sections(logged).items():
        blocks += [wr.H1(name), wr.PanelGrid(runsets=[wr.Runset(name="Runs")], panels=panels)]
    return wr.Report(project, entity, title=NAME, blocks=blocks, width="fluid")


def specification(made: Any) -> dict[str, Any]:
    """What W&B is sent of a workspace or a report; neither shows it itself."""
    return json.loads(made._to_model().model_dump_json(by_alias=True, exclude_none=True))


def main(arguments: list[str] | None = None) -> None:
    """Lay out what the runs in some folders logged, and send it, or write it down."""
    parser = argparse.ArgumentParser(prog="python -m interp.lit.wandb.workspace", description=__doc__)
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="whose it is, and the name of the project in W&B")
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="of a run, or with runs below it")
    parser.add_argument("--report", action="store_true", help="make a report as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write down what would be sent; needs no login")
    given = parser.parse_args(arguments)
    entity, slash, project = given.project.partition("/")
    if not (entity and slash and project) or "/" in project:
        parser.error(f"{given.project!r} is no ENTITY/PROJECT, such as me/epochscope")
    if not (paths := [path for folder in given.folders for path in files(folder)]):
        parser.error(visible(f"no W&B run in {', '.join(map(str, given.folders))}: train with logger=wandb"))
    from interp.lit.wandb.logger import logged_in

    if not given.json and not logged_in():
        parser.error("no W&B login: `wandb login`, or --json FILE to write down what would be sent")
    logged = {key: kind for path in paths for key, kind in kinds(path).items()}
    try:
        views = [make(entity, project, logged) for make in (workspace, *([report] if given.report else []))]
    except ModuleNotFoundError as error:
        parser.error(f"{error}: pip install -e '.[wandb]'")
    except UserError as error:
        parser.error(str(error))
    if given.json:
        given.json.write_text(json.dumps([specification(view) for view in views], indent=1), encoding="utf-8")
    print(given.json or "\n".join(view.save().url for view in views))


if __name__ == "__main__":
    main()
