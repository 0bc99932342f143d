"""Pictures and widgets of a result to its folder and to every Lightning logger that takes them."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from interp.files import replacing
from interp.result import Cell, Result

log = logging.getLogger(__name__)
Medium = tuple[str, str, Callable[[], Any]]  # picture, widget or table; its name; what makes it


def show(result: Result, folder: Path, name: str, loggers: list, *, epoch: int, step: int) -> None:
    """Draw `result`, write `<picture>.png` and `<widget>.html` into `folder`, log each picture as `<name>/<picture>`.

    A logger that raises is reported and does not keep the others from theirs. Widgets and tables go to W&B alone: no
    other logger takes them. As W&B keeps one kind of value under a key, there it is `<name>/<picture>_picture`, and
    `_widget` and `_table`. Raises OSError where the folder cannot be written to.
    """
    from torchvision.transforms.v2.functional import to_pil_image

    images = {key: to_pil_image(picture) for key, picture in result.pictures().items()}
    widgets, captions = result.widgets(), result.captions()
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _to_wandb(_wandb_media(result, images, widgets), result, logger, name, epoch, step)
        elif hasattr(logger, "log_image"):
            _to_image_logger(images, captions, logger, name, step)
        if isinstance(logger, TensorBoardLogger):
            send = partial(result.to_tensorboard, logger.experiment, name, step)
            _try(send, f"{type(logger).__name__} could not take what only it shows of {name}")
    for key, image in images.items():
        with replacing(folder / f"{key}.png") as path:
            image.save(path, format="PNG")
    for key, html in widgets.items():
        with replacing(folder / f"{key}.html") as path:
            path.write_text(html, encoding="utf-8")


def print_tables(result: Result, name: str) -> None:
    """Print the tables of `result` to the terminal without their pictures, the first 60 rows of each."""
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    for key, (columns, rows) in result.tables().items():
        told = [at for at in range(len(columns)) if not any(isinstance(row[at], Tensor) for row in rows)]
        caption = f"{len(rows) - 60} more" if len(rows) > 60 else None
        shown = Table(*(columns[at] for at in told), title=f"{name}/{key}", caption=caption)
        for row in rows[:60]:
            shown.add_row(*(Text(f"{row[at]:.4g}" if isinstance(row[at], float) else str(row[at])) for at in told))
        get_console().print(shown)


def _to_image_logger(images: dict[str, Any], captions: dict[str, str], logger: Any, name: str, step: int) -> None:
    for key, image in images.items():
        caption = {"caption": [captions[key]]} if captions.get(key) else {}
        send = partial(logger.log_image, key=f"{name}/{key}", images=[image], step=step, **caption)
        _try(send, f"{type(logger).__name__} could not take the picture {name}/{key}")


def _to_wandb(media: list[Medium], result: Result, logger: WandbLogger, name: str, epoch: int, step: int) -> None:
    """Log each on a row with the epoch, along which W&B's own slider moves, and what W&B alone can show."""

    def send(key: str, make: Callable[[], Any]) -> None:
        logger.log_metrics({f"{name}/{key}": make(), "epoch": epoch}, step=step)

    def send_own() -> None:
        for key, value in result.to_wandb().items():
            send(key, partial(lambda value: value, value))

    for kind, key, make in media:
        _try(partial(send, f"{key}_{kind}", make), f"{type(logger).__name__} could not take the {kind} {name}/{key}")
    _try(send_own, f"{type(logger).__name__} could not take what only it shows of {name}")


def _wandb_media(result: Result, images: dict[str, Any], widgets: dict[str, str]) -> list[Medium]:
    """Pictures, widgets and tables, made when they are sent."""
    import wandb

    captions = result.captions()
    # Not injected: W&B would add a style sheet from its own server.
    html = partial(wandb.Html, inject=False, data_is_not_path=True)
    return [
        *(("picture", key, partial(wandb.Image, image, caption=captions.get(key))) for key, image in images.items()),
        *(("widget", key, partial(html, text)) for key, text in widgets.items()),
        *(("table", key, partial(_wandb_table, *table)) for key, table in result.tables().items()),
    ]


def _wandb_table(columns: list[str], rows: list[list[Cell]]) -> Any:
    """W&B's table; a picture that stands in several cells is kept once."""
    import wandb
    from torchvision.transforms.v2.functional import to_pil_image

    pictures = {id(cell): cell for row in rows for cell in row if isinstance(cell, Tensor)}
    shown = {key: wandb.Image(to_pil_image(picture)) for key, picture in pictures.items()}
    return wandb.Table(columns=[*columns], data=[[shown.get(id(cell), cell) for cell in row] for row in rows])


def _try(send: Callable[[], None], complaint: str) -> None:
    try:
        send()
    except Exception as error:
        log.warning("%s: %s", complaint, error, exc_info=error)
