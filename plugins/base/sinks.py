"""Pictures and widgets of a result to its folder and to every Lightning logger that takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from interp.draw.policy import guarded
from interp.files import readable, replacing
from interp.lit.guard import Guard
from interp.parts import reason
from interp.result import Cell, Result


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
    showing = _Showing(result, folder, name, loggers, epoch, step, set() if files is None else files)
    showing.show_pictures()
    showing.show_widgets()
    showing.show_tables()
    showing.show_own()
    if failed := showing.failed:
        text = "; ".join(f"{part}: {reason(error)}" for part, error in failed.items())
        raise RuntimeError(text) from next(iter(failed.values()))


@dataclass
class _Showing:
    """A result on its way into its folder and to the loggers, with what has failed so far."""

    result: Result
    folder: Path
    name: str
    loggers: list
    epoch: int
    step: int
    files: set[str]

    def __post_init__(self) -> None:
        self.failed: dict[str, Exception] = {}
        self.attempt = Guard(note=self.failed.__setitem__).attempt  # what is the result's
        self.send = Guard().attempt  # what is a logger's

    def show_pictures(self) -> None:
        """Each to W&B, to the other loggers that take pictures, and into the folder."""
        from torchvision.transforms.v2.functional import to_pil_image

        pictures = self.attempt("pictures", self.result.pictures) or {}
        images = {key: self.attempt(f"picture {key}", to_pil_image, pictures[key]) for key in pictures}
        images = {key: image for key, image in images.items() if image}
        captions = self.attempt("captions", self.result.captions) or {}
        for key, image in images.items():
            self.to_wandb(key, "picture", partial(_wandb_image, image, captions.get(key)))
        for logger in self.loggers:
            if not isinstance(logger, WandbLogger) and hasattr(logger, "log_image"):
                self.to_logger(logger, images, captions)
        for key, image in images.items():
            self.attempt(f"picture {key}", _save, image, self.folder, key)
        self.files |= {f"{key}.png" for key in images}

    def to_logger(self, logger: Any, images: dict[str, Any], captions: dict[str, str]) -> None:
        """Pictures to a logger other than W&B's."""
        for key, image in images.items():
            named = f"{self.name}/{key}"
            caption = {"caption": [captions[key]]} if captions.get(key) else {}
            complaint = f"{type(logger).__name__} could not take the picture {named}"
            self.send(complaint, logger.log_image, key=named, images=[image], step=self.step, **caption)

    def show_widgets(self) -> None:
        """Each into the folder and to W&B."""
        for key, html in (self.attempt("widgets", self.result.widgets) or {}).items():
            self.attempt(f"widget {key}", self.show_widget, key, html)
            self.files.add(f"{key}.html")

    def show_widget(self, key: str, text: str) -> None:
        html = readable(text)
        with replacing(self.folder / f"{_file_name(key)}.html") as path:
            path.write_text(guarded(html), encoding="utf-8")
        self.to_wandb(key, "widget", partial(_wandb_html, html))

    def show_tables(self) -> None:
        """Each to W&B."""
        for key, table in (self.attempt("tables", self.result.tables) or {}).items():
            self.to_wandb(key, "table", partial(_wandb_table, *table))

    def show_own(self) -> None:
        """What only one kind of logger shows."""
        for logger in self.loggers:
            complaint = f"{type(logger).__name__} could not take what only it shows of {self.name}"
            if isinstance(logger, TensorBoardLogger):
                self.send(complaint, self.own_to_tensorboard, logger)
            elif isinstance(logger, WandbLogger):
                self.send(complaint, self.own_to_wandb, logger)

    def own_to_tensorboard(self, logger: TensorBoardLogger) -> None:
        self.result.to_tensorboard(logger.experiment, self.name, self.step)

    def own_to_wandb(self, logger: WandbLogger) -> None:
        if values := self.result.to_wandb():
            named = {f"{self.name}/{key}": value for key, value in values.items()}
            logger.log_metrics({**named, "epoch": self.epoch}, step=self.step)

    def to_wandb(self, key: str, kind: str, make: Callable[[], Any]) -> None:
        """Log what `make` makes on a row with the epoch, along which W&B's own slider moves."""

        def send(logger: WandbLogger) -> None:
            logger.log_metrics({f"{self.name}/{key}_{kind}": make(), "epoch": self.epoch}, step=self.step)

        for logger in self.loggers:
            if isinstance(logger, WandbLogger):
                self.send(f"{type(logger).__name__} could not take the {kind} {self.name}/{key}", send, logger)


def _save(image: Any, folder: Path, key: str) -> None:
    with replacing(folder / f"{_file_name(key)}.png") as path:
        image.save(path, format="PNG")


def _file_name(key: str) -> str:
    if key != Path(key).name or key.startswith("."):
        raise ValueError(f"{key!r} is no name of a picture or widget: it would be a file elsewhere")
    return key


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
    images = {key: wandb.Image(to_pil_image(picture)) for key, picture in pictures.items()}
    return wandb.Table(columns=[*columns], data=[[images.get(id(cell), cell) for cell in row] for row in rows])
