"""A result as a notebook shows it: pictures with captions, widgets in frames of their own, scalars in a table."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from interp.draw.policy import guarded
from interp.draw.widget import data_url
from interp.files import readable
from interp.parts import attempt

if TYPE_CHECKING:
    from interp.result import Result

HERE = Path(__file__).parent


def html(result: "Result") -> str:
    """One piece of HTML that holds all it shows. Texts are escaped; what cannot be drawn is named in its place.

    A widget lies in a frame with the report's sandbox and content policy: it runs its own inline scripts alone, loads
    nothing, and reaches neither the notebook nor what the notebook's page knows.
    """
    import jinja2

    left_out: list[str] = []
    captions = attempt(left_out, "captions", result.captions, settings=False) or {}
    pictures = attempt(left_out, "pictures", result.pictures, settings=False) or {}
    sources = {key: attempt(left_out, key, lambda p=picture: _source(p)) for key, picture in pictures.items()}  # type: ignore[misc]
    widgets = attempt(left_out, "widgets", result.widgets, settings=False) or {}
    scalars = attempt(left_out, "scalars", result.scalars, settings=False) or {}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("notebook.html").render(
        name=" ".join(filter(None, [type(result).__name__, result.study])),
        pictures=[(key, source, captions.get(key, "")) for key, source in sources.items() if source],
        widgets=[(key, guarded(readable(text)), captions.get(key, "")) for key, text in widgets.items()],
        scalars=[(key, f"{value:.4g}") for key, value in scalars.items()], left_out=left_out,
    )  # fmt: skip
    return readable(page)


def _source(picture: Tensor) -> str:
    from torchvision.transforms.v2.functional import to_pil_image

    return data_url(to_pil_image(picture))
