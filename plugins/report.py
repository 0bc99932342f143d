"""The page of a run again, from its results alone: python -m plugins.report RUN_FOLDER"""

import argparse
import json
import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from conf.check import clear_errors
from interp.errors import UserError
from interp.files import MOST, inside, regular
from interp.lit.report.page import write
from interp.lit.run_folder.files import DAMAGED, LINK
from interp.lit.safety.secrets import hide_in_logs
from interp.lit.safety.yaml_file import plain, read_yaml
from interp.lit.terminal import visible
from interp.looks import looks
from plugins.base.sinks import show
from plugins.results import load

log = logging.getLogger(__name__)


def report(folder: str | Path, title: str = "", trust: Collection[str] = ()) -> Path:
    """Draw what is missing of the results that `study(net, probe).save(folder)` has kept; the page, report.html.

    `title` is the folder's name where it is not given; `trust` names modules with result classes of your own that are
    not imported. Raises UserError where there are no results, OSError where the page cannot be written.
    """
    run = Path(folder).absolute()
    if not (run / "results").is_dir():
        raise UserError(f"no results/ in {run}: save some there, study(net, probe).save({str(folder)!r})")
    draw(run, trust=trust)
    write(run, **settings(run) | ({"title": title} if title else {}))
    return run / "report.html"


def undrawn(run: Path) -> Iterator[Path]:
    """The folders under results/ whose result is whole but without pictures, or without some that have a caption."""
    for folder in (path for study in studies(run) for path in study):
        drawn_names = {beside.stem for beside in folder.glob("[!.]*") if beside.suffix in (".png", ".html")}
        try:
            captions = set(json.loads(regular(folder / "result.json", MOST).read_text(encoding="utf-8"))["captions"])
        except DAMAGED:
            continue  # the page says so
        if not drawn_names or captions - drawn_names:
            yield folder


def draw(run: Path, again: bool = False, trust: Collection[str] = ()) -> int:
    """Draw what is missing, or `again` everything; how many results were drawn. What cannot be is reported."""
    return _draw(run, (path for study in studies(run) for path in study) if again else undrawn(run), trust)


def draw_last(run: Path) -> int:
    """Draw the last look of every study: a kill can have come before its pictures were done, or amid them."""
    return _draw(run, (study[-1] for study in studies(run) if study))


def studies(run: Path) -> Iterator[list[Path]]:
    """The looks of each study, in the order of the epochs."""
    for study in sorted(run.glob("results/*")):
        yield [folder for _, folder in looks(study)]


def _draw(run: Path, folders: Iterable[Path], trust: Collection[str] = ()) -> int:
    count = 0
    for folder in folders:
        try:
            if not all(inside(folder / f"result.{kind}", run) for kind in ("json", "safetensors")):
                raise UserError(LINK)
            show(load(folder, trust), folder, folder.parent.name, loggers=[], epoch=0, step=0)
            count += 1
        except Exception as error:  # of one result, which may be anybody's code: the others are drawn
            log.warning("%s/%s is not drawn: %s: %s", folder.parent.name, folder.name, type(error).__name__, error)
    return count


def settings(run: Path) -> dict[str, Any]:
    """What the run's configuration says of its page."""
    path = run / ".hydra" / "config.yaml"
    config = read_yaml(path) if path.is_file() else None
    title, embed = (plain(config, f"logger.report.{key}") for key in ("title", "embed"))
    said = {"title": title} if isinstance(title, str) else {}
    return said | ({"embed": embed} if embed in (True, False, "auto") else {})


def main(arguments: list[str] | None = None) -> None:
    """Draw missing pictures of a run and write its report.html."""
    parser = argparse.ArgumentParser(prog="python -m plugins.report", description=__doc__)
    parser.add_argument("run_folder", type=Path, help="the folder in which results/ lies")
    parser.add_argument("--redraw", action="store_true", help="draw all pictures again, also those that are there")
    embed = "pictures inside the page or beside it (default: as in the run's configuration, else inside up to 25 MB)"
    parser.add_argument("--embed", action=argparse.BooleanOptionalAction, help=embed)
    trusted = "module with result classes of your own, which is imported; may be given several times"
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE", help=trusted)
    given = parser.parse_args(arguments)
    run = given.run_folder.absolute()
    if not (run / "results").is_dir():
        what = f"no results/ in {run}: give the folder of one run (of a sweep: python -m interp.lit.sweep)"
        parser.error(visible(what))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    hide_in_logs()
    count = draw(run, given.redraw, given.trust)
    embedded = write(run, **settings(run) | ({} if given.embed is None else {"embed": given.embed}))
    where = "which can be passed on alone" if embedded else "with its figures beside it in results/ (--embed: inside)"
    print(visible(f"{count} results drawn; {run / 'report.html'}, {where}"))


if __name__ == "__main__":
    with clear_errors():
        main()
