"""The frame of every widget: one self-contained HTML document, the same for W&B, the report and notebooks.

`widget.html`, `.css` and `.js` hold what they share: the document, light and dark, focus and arrow keys, the caption,
the data for the script, and what tells the page around it how tall it is. A widget `kind` fills them with `kind.html`,
which extends the frame, `kind.css` and, where it has a script, `kind.js`. They load nothing from elsewhere, which
`interp.draw.policy` holds a browser to.
"""

from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.files import readable

if TYPE_CHECKING:
    from PIL.Image import Image

HERE = Path(__file__).parent


def widget_page(kind: str, title: str, *, caption: str = "", role: str = "group", **fill: Any) -> str:
    """The document of the widget `kind`, with `fill` for its template, of which `data` is what its script reads.

    Whatever texts hold is shown as text.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    has_script = (HERE / f"{kind}.js").is_file()
    page = environment.get_template(f"{kind}.html").render(
        kind=kind, title=title, caption=caption, role=role, style=_text("widget.css") + _text(f"{kind}.css"),
        script=_script(kind) if has_script else "", **fill,
    )  # fmt: skip
    return readable(page)


def _script(kind: str) -> str:
    """The frame's script and the widget's own in one function, so that many may stand in one notebook."""
    return f'"use strict";\n(() => {{\n{_text("widget.js")}\n{_text(f"{kind}.js")}}})();'


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def data_url(picture: "Image", kind: str = "PNG", **options: Any) -> str:
    """A picture as the address that holds it, `kind` PNG or JPEG; `options` are those of PIL's `save`."""
    file = BytesIO()
    picture.save(file, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(file.getvalue()).decode()}"
