"""What a study found: a frozen dataclass of tensors that shows itself as numbers and pictures."""

import hashlib
import json
import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from interp.files import MOST, regular, replacing
from interp.parts import attempt
from interp.storage import pack, unpack

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

    left_out: tuple[str, ...] = field(default=(), kw_only=True)  # parts that could not be made, and why: for captions

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                # A copy, since training goes on with the weights before this is drawn; contiguous, as it is read back:
                # sums over other layouts differ in the last bit.
                own = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
                object.__setattr__(self, name, own)

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

    def save(self, folder: Path, **about: Any) -> None:
        """Write `result.safetensors` and `result.json` into `folder`; `about` (epoch, step, ...) goes into the JSON.

        Tensors are stored in as few bytes as hold them to the last bit (`interp.storage`). The JSON is written last:
        where it lies, the result is whole; it holds the digest of all fields. Raises OSError.
        """
        from safetensors.torch import save_file

        tensors, forms = pack({n: v for n, v in vars(self).items() if isinstance(v, Tensor)})
        others = {n: _packed(v) for n, v in vars(self).items() if not isinstance(v, Tensor)}
        with replacing(folder / "result.safetensors") as path:
            save_file(tensors, path, metadata={"stored": json.dumps(forms)})
            about |= {"sha256": _digest(path, others)}
        about |= {"class": _public_name(type(self))}  # to draw it again from the files
        captions = attempt([], "captions", self.captions) or {}  # what is wrong with them is told when it is drawn
        text = json.dumps({**about, "scalars": self.scalars(), "captions": captions, "fields": others}, indent=1)
        with replacing(folder / "result.json") as path:
            path.write_text(text)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote for a result of this class.

        A field with a default may be missing: it came with a later version. Raises FileNotFoundError where it is not
        whole, ValueError where it does not match its digest (results of before have none).
        """
        path = regular(Path(folder) / "result.safetensors")
        about = json.loads(regular(Path(folder) / "result.json", MOST).read_text(encoding="utf-8"))
        others, digest = about["fields"], about.get("sha256")
        if digest is None:
            values = {n: tuple(v) if isinstance(v, list) else v for n, v in others.items()}
        elif digest == _digest(path, others):
            values = {n: _unpacked(v) for n, v in others.items()}
        else:
            raise ValueError(f"{folder} is damaged: result.safetensors and the fields do not match their digest")
        values = cls.renewed(values | _tensors(path))
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


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors that a file of `Result.save` holds, as they were before they were packed."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        return unpack(stored, json.loads((file.metadata() or {}).get("stored", "{}")))


def _digest(tensors: Path, others: dict[str, Any]) -> str:
    """The SHA-256 of the file of the tensors and of the other fields as JSON."""
    with tensors.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(others).encode())
    return digest.hexdigest()


def _packed(value: Any) -> Any:
    """What JSON gives back as it is: a tuple as {"tuple": [...]}, a dictionary with other keys than texts as pairs."""
    if isinstance(value, list | tuple):
        items = [_packed(item) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if not isinstance(value, dict):
        return value
    if all(isinstance(key, str) for key in value) and [*value] not in (["tuple"], ["pairs"]):
        return {key: _packed(item) for key, item in value.items()}
    return {"pairs": [[_packed(key), _packed(item)] for key, item in value.items()]}


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if [*value] == ["tuple"]:
        return tuple(_unpacked(item) for item in value["tuple"])
    if [*value] == ["pairs"]:
        return {_unpacked(key): _unpacked(item) for key, item in value["pairs"]}
    return {key: _unpacked(item) for key, item in value.items()}


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
