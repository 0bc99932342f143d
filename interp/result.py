"""What a study found: a frozen dataclass of tensors that shows itself as numbers and pictures."""

import json
import logging
import sys
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from interp.files import MOST, regular, replacing
from interp.looks import look_folder, looks
from interp.parts import attempt
from interp.storage import digest, pack, packed, read_tensors, unpacked
from interp.words import brief

log = logging.getLogger(__name__)
FRAMES = 12  # of a film strip, at most
Cell = str | float | Tensor  # of a table: text, a number, or a picture uint8 (3, H, W)


@dataclass(frozen=True)
class Result:
    """Base of all results. Fields are tensors (copied to the CPU, without a graph) or what JSON can hold, and tuples.

    A subclass states the shape beside each tensor field. What it has to show is in a module apart, its `view`, whose
    functions are named as the methods here from `pictures` on and take the result; a small one overrides these methods
    instead. What they return depends on the fields alone, so that a result drawn again from its files gives the same
    pictures.
    """

    view: ClassVar[Any] = None
    study: ClassVar[str] = ""  # of a result that a study which was called has returned, its name

    left_out: tuple[str, ...] = field(default=(), kw_only=True)  # parts that could not be made, and why: for captions

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                # A copy, since training goes on with the weights before this is drawn; contiguous, as it is read back:
                # sums over other layouts differ in the last bit.
                own = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
                object.__setattr__(self, name, own)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = cls.__repr__  # type: ignore[method-assign] # else `dataclass` writes one that prints all tensors

    def __repr__(self) -> str:
        shown = (f"{f.name}={brief(getattr(self, f.name))}" for f in fields(self) if f.name != "left_out")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: pictures with captions, widgets and scalars."""
        from interp.draw.notebook import html

        return html(self)

    def of_study(self, study: str) -> Self:
        """The same result, which knows the name of its study: `save` keeps it as one of the study's looks."""
        object.__setattr__(self, "study", study)
        return self

    def scalars(self) -> dict[str, float]:
        """Finite numbers to log, by name (without the plugin's name)."""
        return {}

    def pictures(self) -> dict[str, Tensor]:
        """Pictures to show, by name: uint8 (3, H, W)."""
        return self._in_view("pictures")

    def captions(self) -> dict[str, str]:
        """One or two sentences under the picture of the same name: what it shows and how far to trust it."""
        return self._in_view("captions")

    def widgets(self) -> dict[str, str]:
        """Interactive figures as self-contained HTML, by names that no picture has; they load nothing from elsewhere.

        Scripts in them run in a sandbox of the report, and nothing but their inline text is allowed there.
        """
        return self._in_view("widgets")

    def tables(self) -> dict[str, tuple[list[str], list[list[Cell]]]]:
        """Tables to show, by name: column names and rows; a column holds text, numbers or pictures.

        W&B shows all of it, to filter and sort; the terminal shows no pictures.
        """
        return self._in_view("tables")

    def to_wandb(self) -> dict[str, Any]:
        """What W&B alone can show beyond pictures, by name: its own plots and media."""
        return self._in_view("to_wandb")

    def to_tensorboard(self, writer: Any, name: str, step: int) -> None:
        """Log what TensorBoard alone can show beyond pictures under `name`; `writer` is its SummaryWriter."""
        self._in_view("to_tensorboard", writer, name, step)

    def _in_view(self, what: str, *given: Any) -> Any:
        show = getattr(self.view, what, None)
        return show(self, *given) if show else {}

    def following(self, previous: Self) -> Self:
        """The same result with its parts in the order of the `previous` epoch's, where they can be told apart.

        Called before the result is kept, so that a colour, an index and a row mean the same thing in every epoch.
        """
        return self

    @classmethod
    def compared(cls, results: "dict[str, Self]") -> dict[str, tuple[Tensor, str]]:
        """Pictures with captions, by name, of how networks differ: their results of one study, by the networks' names.

        What every result shows of itself is set side by side anyway, unless a picture here has its name.
        """
        show = getattr(cls.view, "compared", None)
        return show(results) if show else {}

    def save(self, folder: str | Path, **about: Any) -> Path:
        """Write `result.safetensors` and `result.json` into `folder`; `about` (epoch, step, ...) goes into the JSON.

        What `study(net, probe)` has returned goes to `folder`/results/<study>/epoch=NNNN, where `plugins.report.report`
        finds it, following the look before (colours, films); without an `epoch` it is the one after the last there.
        Returns where it lies, from where `plugins.results.load` reads it.

        Tensors are stored in as few bytes as hold them to the last bit (`interp.storage`). The JSON is written last:
        where it lies, the result is whole; it holds the digest of all fields. Raises OSError.
        """
        if self.study:
            return self._save_look(Path(folder) / "results" / self.study, **about)
        from safetensors.torch import save_file

        folder, values = Path(folder), {f.name: getattr(self, f.name) for f in fields(self)}
        tensors, forms = pack({n: v for n, v in values.items() if isinstance(v, Tensor)})
        others = {n: packed(v) for n, v in values.items() if not isinstance(v, Tensor)}
        with replacing(folder / "result.safetensors") as path:
            save_file(tensors, path, metadata={"stored": json.dumps(forms)})
            about |= {"sha256": digest(path, others)}
        about |= {"class": _public_name(type(self))}  # to draw it again from the files
        captions = attempt([], "captions", self.captions) or {}  # what is wrong with them is told when it is drawn
        text = json.dumps({**about, "scalars": self.scalars(), "captions": captions, "fields": others}, indent=1)
        with replacing(folder / "result.json") as path:
            path.write_text(text)
        return folder

    def _save_look(self, history: Path, **about: Any) -> Path:
        """Keep it as the look of its study at an epoch, in place of an earlier one there and of its pictures."""
        epochs = [number for number, _ in looks(history)]
        about["epoch"] = epoch = max(epochs, default=-1) + 1 if about.get("epoch") is None else int(about["epoch"])
        folder = look_folder(history, epoch)
        for drawing in (path for path in folder.glob("[!.]*") if path.suffix in (".png", ".html")):
            drawing.unlink()
        return replace(self.continued(history, epoch)).save(folder, plugin=self.study, **about)

    def continued(self, history: Path, epoch: int) -> Self:
        """The result following the last one before `epoch` that the folder `history` keeps, if there is one."""
        for folder in (path for number, path in reversed(looks(history)) if number < epoch):
            try:
                return self.following(type(self).load(folder))
            except Exception as error:  # of files that may be torn or anybody's
                log.warning("plugin %s: %s cannot be read (%s), looking further back", history.name, folder, error)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote for a result of this class.

        A field with a default may be missing: it came with a later version. Raises FileNotFoundError where it is not
        whole, ValueError where it does not match its digest (results of before have none).
        """
        path = regular(Path(folder) / "result.safetensors")
        about = json.loads(regular(Path(folder) / "result.json", MOST).read_text(encoding="utf-8"))
        others, known = about["fields"], about.get("sha256")
        if known is None:
            values = {n: tuple(v) if isinstance(v, list) else v for n, v in others.items()}
        elif known == digest(path, others):
            values = {n: unpacked(v) for n, v in others.items()}
        else:
            raise ValueError(f"{folder} is damaged: result.safetensors and the fields do not match their digest")
        values = cls.renewed(values | read_tensors(path))
        wanted = [f.name for f in fields(cls) if f.name in values or f.default is f.default_factory is MISSING]
        return cls(**{name: values[name] for name in wanted})

    @classmethod
    def renewed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields that `load` has read; where an earlier version kept others, these as the fields of this one."""
        return values


def _public_name(kind: type) -> str:
    """The full name of a class, in its package where this names it, too."""
    package = kind.__module__.rpartition(".")[0]
    known = getattr(sys.modules.get(package), kind.__qualname__, None) is kind
    return f"{package if known else kind.__module__}.{kind.__qualname__}"


def longer_film(film: Tensor, looks: tuple[int, ...], frame: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """A film strip (E, ...) of the looks with these numbers, and the `frame` (1, ...) of the next look at its end.

    Of more than `FRAMES` every other one goes, never the first.
    """
    following = looks[-1] + 1
    if len(looks) >= FRAMES:
        film, looks = film[::2], looks[::2]
    return torch.cat([film, frame]), (*looks, following)


def finite(tensor: Tensor, what: str) -> Tensor:
    """Return `tensor`; raises ValueError that counts its NaN and infinite values if there are any."""
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"{what} hold {bad} NaN or infinite values of {tensor.numel()}")
    return tensor
