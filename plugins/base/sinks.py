"""Pictures and widgets of a result to its folder and to every Lightning logger that takes them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from interp.draw.policy import guarded
from interp.files import readable, replacing
from interp.lit.guard import Guard
from interp.lit.terminal import visible
from interp.parts import drawn, reason
from interp.result import Cell, Result

T = TypeVar("T")
_guard = Guard()


def show(
    result: Result, folder: Path, name: str, loggers: list, *, epoch: int, step: int, files: set[str] | None = None
) -> None:
    """Draw `result`, write `<picture>.png` and `<widget>.html` into `folder`, log each picture as `<name>/<picture>`.

    `files` gets the names of what is written.

    A logger that raises is reported and does not keep the others from theirs. Widgets and tables go to W&B alone: no
    other logger takes them. As W&B keeps one kind of value under a key, there it is `<name>/<picture>_picture`, and
    `_widget` and `_table`. What cannot be drawn or written costs no other picture, widget or table; RuntimeError is
    raised after all, and names it.
    """
    to_wandb = partial(_to_wandb, [logger for logger in loggers if isinstance(logger, WandbLogger)], name, epoch, step)
    failed: dict[str, Exception] = {}
    files = set() if files is None else files
    files |= _show_pictures(result, folder, name, loggers, step, to_wandb, failed)
    for key, html in (_made(failed, "widgets", result.widgets) or {}).items():
        _made(failed, f"widget {key}", partial(_show_widget, key, html, folder, to_wandb))
        files.add(f"{key}.html")
    for key, table in (_made(failed, "tables", result.tables) or {}).items():
        to_wandb(key, "table", partial(_wandb_table, *table))
    _show_own(result, name, loggers, epoch, step)
    if failed:
        text = "; ".join(f"{what}: {reason(error)}" for what, error in failed.items())
        raise RuntimeError(text) from next(iter(failed.values()))


def _made(failed: dict[str, Exception], what: str, make: Callable[[], T]) -> T | None:
    """What `make` returns; None where it raises, which `failed` notes."""
    try:
        return make()
    except Exception as error:
        failed[what] = error
        return None


def print_tables(result: Result, name: str) -> None:
    """Print the tables of `result` to the terminal without their pictures, the first 60 rows of each.

    One that cannot be printed is reported and costs no other.
    """
    drawn("table", {f"{name}/{key}": partial(_print, f"{name}/{key}", *own) for key, own in result.tables().items()})


def _print(title: str, columns: list[str], rows: list[list[Cell]]) -> None:
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    told = [at for at in range(len(columns)) if not any(isinstance(row[at], Tensor) for row in rows)]
    caption = f"{len(rows) - 60} more" if len(rows) > 60 else None
    shown = Table(*(visible(columns[at]) for at in told), title=visible(title), caption=caption)
    for row in rows[:60]:
        cells = (f"{row[at]:.4g}" if isinstance(row[at], float) else str(row[at]) for at in told)
        shown.add_row(*(Text(visible(cell)) for cell in cells))
    get_console().print(shown)


def _show_pictures(
    result: Result,
    folder: Path,
    name: str,
    loggers: list,
    step: int,
    to_wandb: Callable[..., None],
    failed: dict[str, Exception],
) -> set[str]:
    from torchvision.transforms.v2.functional import to_pil_image

    pictures = _made(failed, "pictures", result.pictures) or {}
    images = {key: _made(failed, f"picture {key}", partial(to_pil_image, pictures[key])) for key in pictures}
    images = {key: image for key, image in images.items() if image}
    captions = _made(failed, "captions", result.captions) or {}
    for key, image in images.items():
        to_wandb(key, "picture", partial(_wandb_image, image, captions.get(key)))
    for logger in loggers:
        if isinstance(logger, WandbLogger) or not hasattr(logger, "log_image"):
            continue
        for key, image in images.items():
            caption = {"caption": [captions[key]]} if captions.get(key) else {}
            send = partial(logger.log_image, key=f"{name}/{key}", images=[image], step=step, **caption)
            _guard.attempt(f"{type(logger).__name__} could not take the picture {name}/{key}", send)
    for key, image in images.items():
        _made(failed, f"picture {key}", partial(_save, image, folder, key))
    return {f"{key}.png" for key in images}


def _save(image: Any, folder: Path, key: str) -> None:
    with replacing(folder / f"{_file_name(key)}.png") as path:
        image.save(path, format="PNG")


def _show_widget(key: str, text: str, folder: Path, to_wandb: Callable[..., None]) -> None:
    html = readable(text)
    with replacing(folder / f"{_file_name(key)}.html") as path:
        path.write_text(guarded(html), encoding="utf-8")
    to_wandb(key, "widget", partial(_wandb_html, html))


def _file_name(key: str) -> str:
    if key != Path(key).name or key.startswith("."):
        raise ValueError(f"{key!r} is no name of a picture or widget: it would be a file elsewhere")
    return key


def _show_own(result: Result, name: str, loggers: list, epoch: int, step: int) -> None:
    """What only one kind of logger shows."""
    for logger in loggers:
        complaint = f"{type(logger).__name__} could not take what only it shows of {name}"
        if isinstance(logger, TensorBoardLogger):
            _guard.attempt(complaint, _to_tensorboard, result, logger, name, step)
        elif isinstance(logger, WandbLogger):
            _guard.attempt(complaint, _own_to_wandb, result, logger, name, epoch, step)


def _to_tensorboard(result: Result, logger: TensorBoardLogger, name: str, step: int) -> None:
    result.to_tensorboard(logger.experiment, name, step)


def _own_to_wandb(result: Result, logger: WandbLogger, name: str, epoch: int, step: int) -> None:
    if own := result.to_wandb():
        logger.log_metrics({**{f"{name}/{key}": value for key, value in own.items()}, "epoch": epoch}, step=step)


def _to_wandb(
    loggers: list[WandbLogger], name: str, epoch: int, step: int, key: str, kind: str, make: Callable[[], Any]
) -> None:
    """Log what `make` makes on a row with the epoch, along which W&B's own slider moves."""

    def send(logger: WandbLogger) -> None:
        logger.log_metrics({f"{name}/{key}_{kind}": make(), "epoch": epoch}, step=step)

    for logger in loggers:
        _guard.attempt(f"{type(logger).__name__} could not take the {kind} {name}/{key}", send, logger)


def _wandb_image(image: Any, caption: str | None) -> Any:
    import wandb

    return wandb.Image(image, caption=caption)


def _wandb_html(html: str) -> Any:
    import wandb

    # Not injected: W&B would add a style sheet from its own server.
    return wandb.Html(html, inject=False, data_is_not_path=True)


def _wandb_table(columns: list[str], rows: list[list[Cell]]) -> Any:
    """W&B's table; a picture that stands in several cells is kept once."""
    import wandb
    from torchvision.transforms.v2.functional import to_pil_image

    pictures = {id(cell): cell for row in rows for cell in row if isinstance(cell, Tensor)}
    shown = {key: wandb.Image(to_pil_image(picture)) for key, picture in pictures.items()}
    return wandb.Table(columns=[*columns], data=[[shown.get(id(cell), cell) for cell in row] for row in rows])
