"""Tables of a result on the terminal."""

from functools import partial

from torch import Tensor

from interp.lit.terminal import visible
from interp.parts import drawn
from interp.result import Cell, Result


def print_tables(result: Result, name: str) -> None:
    """Print the tables of `result` to the terminal without their pictures, the first 60 rows of each.

    One that cannot be printed is reported and costs no other.
    """
    drawn(
        "table", {f"{name}/{key}": partial(_print, f"{name}/{key}", *table) for key, table in result.tables().items()}
    )


def _print(title: str, columns: list[str], rows: list[list[Cell]]) -> None:
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    of_text = [at for at in range(len(columns)) if not any(isinstance(row[at], Tensor) for row in rows)]
    caption = f"{len(rows) - 60} more" if len(rows) > 60 else None
    table = Table(*(visible(columns[at]) for at in of_text), title=visible(title), caption=caption)
    for row in rows[:60]:
        cells = (f"{row[at]:.4g}" if isinstance(row[at], float) else str(row[at]) for at in of_text)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    get_console().print(table)
