"""Pictures and widgets of a result to its folder and to every Lightning logger that takes them."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from interp.files import replacing
from interp.result import Result

log = logging.getLogger(__name__)


def show(result: Result, folder: Path, name: str, loggers: list, step: int) -> None:
    """Draw `result`, write `<picture>.png` and `<widget>.html` into `folder`, log each as `<name>/<picture>`.

    A logger that raises is reported and does not keep the others from theirs. Widgets and tables go to W&B alone: no
    other logger takes them. Raises OSError where the folder cannot be written to.
    """
    _show_pictures(result, folder, name, loggers, step)
    _show_widgets(result, folder, name, loggers, step)
    _show_own(result, name, loggers, step)
    for key, (columns, rows) in result.tables().items():
        for logger in [logger for logger in loggers if hasattr(logger, "log_table")]:
            send = partial(logger.log_table, key=f"{name}/{key}", columns=columns, data=rows, step=step)
            _try(send, f"{type(logger).__name__} could not take the table {name}/{key}")


def print_tables(result: Result, name: str) -> None:
    """Print the tables of `result` to the terminal, the first 60 rows of each."""
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    for key, (columns, rows) in result.tables().items():
        shown = Table(*columns, title=f"{name}/{key}", caption=f"{len(rows) - 60} more" if len(rows) > 60 else None)
        for row in rows[:60]:
            shown.add_row(*(Text(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in row))
        get_console().print(shown)


def _show_pictures(result: Result, folder: Path, name: str, loggers: list, step: int) -> None:
    from torchvision.transforms.v2.functional import to_pil_image

    images = {key: to_pil_image(picture) for key, picture in result.pictures().items()}
    captions = result.captions()
    for logger in [logger for logger in loggers if hasattr(logger, "log_image")]:
        for key, image in images.items():
            caption = {"caption": [captions[key]]} if captions.get(key) else {}
            send = partial(logger.log_image, key=f"{name}/{key}", images=[image], step=step, **caption)
            _try(send, f"{type(logger).__name__} could not take the picture {name}/{key}")
    for key, image in images.items():
        with replacing(folder / f"{key}.png") as path:
            image.save(path, format="PNG")


def _show_widgets(result: Result, folder: Path, name: str, loggers: list, step: int) -> None:
    for key, html in result.widgets().items():
        with replacing(folder / f"{key}.html") as path:
            path.write_text(html, encoding="utf-8")
        for logger in [logger for logger in loggers if isinstance(logger, WandbLogger)]:
            send = partial(_log_html, logger, f"{name}/{key}", html, step)
            _try(send, f"{type(logger).__name__} could not take the widget {name}/{key}")


def _show_own(result: Result, name: str, loggers: list, step: int) -> None:
    """What only one kind of logger shows."""
    for logger in loggers:
        complaint = f"{type(logger).__name__} could not take what only it shows of {name}"
        if isinstance(logger, TensorBoardLogger):
            _try(partial(_to_tensorboard, result, logger, name, step), complaint)
        elif isinstance(logger, WandbLogger):
            _try(partial(_to_wandb, result, logger, name, step), complaint)


def _to_tensorboard(result: Result, logger: TensorBoardLogger, name: str, step: int) -> None:
    result.to_tensorboard(logger.experiment, name, step)


def _to_wandb(result: Result, logger: WandbLogger, name: str, step: int) -> None:
    if own := result.to_wandb():
        logger.log_metrics({f"{name}/{key}": value for key, value in own.items()}, step=step)


def _log_html(logger: WandbLogger, key: str, html: str, step: int) -> None:
    import wandb

    # Not injected: W&B would add a style sheet from its own server.
    media: dict[str, Any] = {key: wandb.Html(html, inject=False, data_is_not_path=True)}
    logger.log_metrics(media, step=step)


def _try(send: Callable[[], None], complaint: str) -> None:
    try:
        send()
    except Exception as error:
        log.warning("%s: %s", complaint, error, exc_info=error)
