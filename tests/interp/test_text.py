"""Names in pictures: all scripts, odd characters, too long ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import features

from interp.draw import text
from interp.draw.charts import chart, label, lines
from interp.draw.grid import _text, grid, note
from interp.draw.text import clusters, one_line, shortened, width, wrapped

LETTERS = {
    "accented Latin": "éüłżşőắ", "Greek": "αΩή", "Cyrillic": "Жяґ", "Armenian": "Քա", "Georgian": "ქა", "Hebrew": "חל",
    "Arabic": "قطپ", "Devanagari": "बल", "Bengali": "বল", "Tamil": "தல", "Telugu": "తల", "Thai": "แว", "Lao": "ລາ",
    "Ethiopic": "አማ", "simplified": "猫车", "traditional": "貓車", "Japanese": "ねコ", "Korean": "고양",
    "emoji": "🐱🐶", "symbols": "→✓",
}  # fmt: skip


def drawn(name: str) -> bytes:
    return _text(name, 60, 22).numpy().tobytes()


@pytest.mark.parametrize("script", LETTERS)
def test_every_letter_has_a_glyph_of_its_own(script):
    pictures = {drawn(letter) for letter in LETTERS[script]}
    assert len(pictures) == len(LETTERS[script]) and drawn(" ") not in pictures
    assert all(shortened(letter, 60) == letter for letter in LETTERS[script])


def test_what_no_font_has_is_written_as_its_code():
    assert shortened("ខ cat \udc80\x07", 300) == "<U+1781> cat <U+DC80><U+0007>"
    assert drawn("ខ") != drawn("ក")


def test_without_the_package_other_scripts_are_codes(monkeypatch):
    monkeypatch.setattr(text, "find_spec", lambda _: None)
    text.font_files.cache_clear()
    assert [path.name for path in text.font_files()] == ["DejaVuSans.ttf"]
    text._units.cache_clear()
    assert shortened("né 猫", 200) == "né <U+732B>"
    text._units.cache_clear(), text.font_files.cache_clear()


def test_names_are_one_line_without_invisible_characters():
    assert one_line(" a\n\nb\tc\u2028d\u200b\ufeff\u202e ") == "a b c d"
    assert one_line("e\u0301") == "é" and one_line("ب\u200dب") == "ب\u200dب"
    assert len(one_line("x" * 10**6)) < 10_100


def test_letters_with_marks_and_emoji_are_never_cut():
    family, flag, wave, syllable = "👩‍👩‍👧‍👦", "🇫🇷", "👋🏽", "ति"
    assert clusters(f"a{family}{flag}{flag}{wave}{syllable}x\u0323") == [
        "a",
        family,
        flag,
        flag,
        wave,
        syllable,
        "x\u0323",
    ]
    for most in range(20, 200, 9):
        assert set(clusters(shortened((family + "x\u0323") * 30, most))) <= {family, "x\u0323", "…"}


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow found no FriBiDi")
def test_arabic_and_indic_letters_are_joined():
    assert width("بببب") < 4 * width("ب") and width("क्ष") < width("क") + width("ष")


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60), st.integers(40, 200))
def test_whatever_is_written_fits(name, most):
    short = shortened(name, most)
    assert width(short) <= most + 1 and "\n" not in short
    assert all(width(line) <= most + 1 for line in wrapped(name, most, 3)) and len(wrapped(name, most, 3)) <= 3
    if width(name) <= most:
        assert "…" not in short or "…" in name


def test_long_names_that_differ_at_either_end_stay_distinct():
    names = [f"{first} name that is much longer than there is room for {last}" for first in "ab" for last in (1, 2)]
    assert len({shortened(name, 120) for name in names}) == 4
    assert len({_text(name, 120, 40).numpy().tobytes() for name in names}) == 4
    assert shortened("picture 0.000528", 86).endswith(" 0.000528")
    assert wrapped("_snake_case_names too", 90, 3) == ["_snake_case_", "names too"]


def test_long_names_leave_the_cells_their_room():
    cells = torch.rand(1, 2, 3, 32, 32)
    plain, long = grid(cells, ["a"], ["a", "b"]), grid(cells, ["a" * 500], ["a", "b" * 500])
    assert long.shape[1] == plain.shape[1] + 16 and long.shape[2] < plain.shape[2] + 250
    assert torch.equal(long[:, -36:, -72:], plain[:, -36:, -72:])
    assert note([("猫" * 50, torch.ones(3))], 64).shape == (3, 64, 64)


@pytest.mark.parametrize("name", ["猫 hund", "$unclosed_{", "a\nb", "_hidden", "ខ", "قطة", "हिन्दी", "x" * 300])
def test_charts_write_any_name(name):
    def draw(axes):
        lines(axes[0, 0], {name: [0.0, 1.0]}, [name, "b"], ["black"])
        axes[0, 0].legend()
        axes[0, 0].set_title(label(name))
        assert axes[0, 0].get_legend().get_texts()[0].get_text().strip() == shortened(name, 157)

    assert chart(draw).shape == (3, 220, 960)
