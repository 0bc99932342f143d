"""What a notebook shows of a result."""

import re
from base64 import b64decode
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interp.comparison import SideBySide
from interp.draw.policy import guarded
from interp.result import Result

EVIL = "<script>alert(1)</script>\"'&"


@dataclass(frozen=True)
class Shown(Result):
    values: Tensor  # (n,)
    names: tuple[str, ...] = ()
    note: str = EVIL

    def scalars(self) -> dict[str, float]:
        return {"mean": float(self.values.mean()), "odd" + EVIL: float("nan")}

    def pictures(self) -> dict[str, Tensor]:
        return {"bars" + EVIL: (self.values.expand(3, 8, -1) * 255).byte(), "broken": torch.zeros(5)}

    def captions(self) -> dict[str, str]:
        return {"bars" + EVIL: "Bars. " + EVIL, "explorer": "To explore."}

    def widgets(self) -> dict[str, str]:
        return {"explorer": "<!doctype html><html><head></head><p>é</p><script>let widget = '\"</p>'</script></html>"}


@dataclass(frozen=True)
class Whole(Shown):
    def pictures(self) -> dict[str, Tensor]:
        return {"bars": (self.values.expand(3, 8, -1) * 255).byte()}


@dataclass(frozen=True)
class Broken(Result):
    def pictures(self) -> dict[str, Tensor]:
        raise ZeroDivisionError("no " + EVIL)


class Tags(HTMLParser):
    """The tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += f"{data}\n"

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


RESULT = Shown(torch.linspace(0, 1, 10))


def test_pictures_captions_widgets_and_scalars_are_there_and_nothing_runs():
    page = Tags(RESULT._repr_html_())
    assert not page.of("script") and not [a for _, known in page.tags for a in known if a.startswith("on")]
    (image,) = page.of("img")
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/png;base64" and image["alt"] == "bars" + EVIL
    picture = np.asarray(Image.open(BytesIO(b64decode(data))))
    assert np.array_equal(picture, RESULT.pictures()["bars" + EVIL].permute(1, 2, 0).numpy())
    assert "Bars. " + EVIL in page.text and "To explore." in page.text and "Shown" in page.text
    assert [row for row in re.findall(r"[\w.]+", page.text) if row in ("mean", "0.5", "nan")] == ["mean", "0.5", "nan"]
    assert "Not shown: broken (" in page.text


def test_a_widget_lies_in_a_sandbox_with_the_policy_of_the_report():
    (frame,) = Tags(RESULT._repr_html_()).of("iframe")
    assert frame["sandbox"] == "allow-scripts" and frame["title"] == "explorer"
    assert frame["srcdoc"] == guarded(RESULT.widgets()["explorer"]) and "Content-Security-Policy" in frame["srcdoc"]
    assert unescape(frame["srcdoc"]).count("<script>") == 1


def test_what_fails_is_named_and_a_comparison_shows_both():
    page = Broken()._repr_html_()
    assert "Not shown: pictures (ZeroDivisionError: no &lt;script&gt;" in page and "<script" not in page
    both = Tags(SideBySide(dict.fromkeys("ab", Whole(torch.rand(9))))._repr_html_())
    assert len(both.of("img")) == 1 and "mean/b" in both.text


def test_a_result_is_told_in_one_short_line():
    assert repr(RESULT) == f"Shown(values=float32[10], names=(), note={EVIL!r})"
    large = Shown(torch.zeros(10, 4000), names=tuple(map(str, range(1000))), note="x" * 1000)
    assert repr(large) == "Shown(values=float32[10, 4000], names=tuple of 1000, note=str of 1000)"
    assert len(repr(SideBySide({"a": large, "b": large}))) < 80
