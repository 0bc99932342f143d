"""Names in pictures: letters of all scripts, in one line, shortened in the middle where they do not fit.

DejaVu Sans, which matplotlib brings, has Latin, Greek, Cyrillic, Arabic and Hebrew; Kurinto Sans of the package
weblate-fonts most others. What neither has (Khmer, Burmese, Tibetan, rare Chinese characters) is written as its code,
<U+1780>. Arabic and Indic letters are joined where Pillow finds the library FriBiDi, otherwise they stand alone.
"""

import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

SIZE = 11  # pixels; the fonts beside DejaVu Sans have smaller letters and are set in one more
LINE = 16  # pixels from one line to the next
KURINTO = "static/weblate_fonts/kurinto/ttf"  # inside the package
MOST = 10_000  # characters of a name that are looked at
JOINERS = "\u200c\u200d"  # invisible, but they shape letters and emoji
BREAKS = " _-/"  # after these a line may break


@lru_cache
def font_files() -> tuple[Path, ...]:
    """The font files in the order in which they are asked for a letter."""
    import matplotlib as mpl

    package = find_spec("weblate_fonts")
    folders = [Path(folder, KURINTO) for folder in (package.submodule_search_locations or () if package else ())]
    kurinto = [folder / f"KurintoSans{script}-Rg.ttf" for folder in folders for script in ("", "SC", "JP", "KR", "TC")]
    return (Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), *filter(Path.is_file, kurinto))


@lru_cache
def families() -> list[str]:
    """The names of the same fonts, which matplotlib then knows and tries in this order."""
    from matplotlib.font_manager import fontManager

    for path in font_files()[1:]:
        fontManager.addfont(path)
    return [face.family_name for face in _faces()]


@lru_cache
def _faces() -> tuple[Any, ...]:
    from matplotlib.ft2font import FT2Font

    return tuple(FT2Font(str(path)) for path in font_files())


@lru_cache
def _fonts() -> tuple["FreeTypeFont", ...]:
    from PIL import ImageFont

    return tuple(ImageFont.truetype(str(path), SIZE + (place > 0)) for place, path in enumerate(font_files()))


def one_line(text: str) -> str:
    """`text` without line breaks and invisible characters, its accents composed.

    >>> one_line("cafe\\u0301\\n  au\\tlait \\u202e")
    'café au lait'
    """
    if len(text) > MOST:
        text = f"{text[: MOST // 2]}…{text[-MOST // 2 :]}"
    kept = [c for c in " ".join(text.split()) if unicodedata.category(c) != "Cf" or c in JOINERS]
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def clusters(text: str) -> list[str]:
    """`text` in parts that must not be cut: a letter with its accents and vowel signs, an emoji with its modifiers."""
    parts: list[str] = []
    for char in text:
        if parts and len(parts[-1]) < 12 and (_joins(char) or _open(parts[-1], char)):
            parts[-1] += char
        else:
            parts.append(char)
    return parts


def _joins(char: str) -> bool:
    modifier = "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f"
    return unicodedata.category(char).startswith("M") or char in JOINERS or modifier


def _open(part: str, char: str) -> bool:
    """Whether `char` completes an emoji sequence or a flag."""
    flags = [("\U0001f1e6" <= c <= "\U0001f1ff") for c in (part[-1], char)]
    return part[-1] == "\u200d" or (all(flags) and len(part) == 1)


@lru_cache(maxsize=4096)
def _units(text: str) -> tuple[tuple[str, int], ...]:
    """The clusters of a name in one line, each with the number of its font; those that no font has as their codes."""
    characters, numbers = clusters(one_line(text)), range(len(font_files()))
    for number in numbers:  # one for the whole name, if there is one
        if _has(number, "".join(characters)):
            return tuple((part, number) for part in characters)
    units = list[tuple[str, int]]()
    for part in characters:
        first = next((number for number in numbers if _has(number, part)), None)
        units += [(part, first)] if first is not None else [(f"<U+{ord(char):04X}>", 0) for char in part]
    return tuple(units)


def _has(number: int, text: str) -> bool:
    if number == 0 and text.isascii() and text.isprintable():
        return True
    letters = {ord(char) for char in text if char not in JOINERS and not "\ufe00" <= char <= "\ufe0f"}
    return all(map(_faces()[number].get_char_index, letters))


def _runs(text: str) -> list[tuple[str, "FreeTypeFont"]]:
    """The parts of a line with their fonts, from left to right; each is ordered within by Pillow."""
    numbered = groupby(_units(text), key=lambda unit: unit[1])
    return [("".join(part for part, _ in run), _fonts()[number]) for number, run in numbered]


@lru_cache
def _direction() -> str | None:
    """Lines run from left to right, as ours begin in Latin letters; names within them run as they do."""
    from PIL import features

    return "ltr" if features.check("raqm") else None


def width(text: str) -> int:
    """Pixels that a name takes in one line."""
    return int(sum(font.getlength(run) for run, font in _runs(text))) + 1


def shortened(text: str, most: int) -> str:
    """`text` in one line of at most `most` pixels: of a longer one an ellipsis takes the place of the middle.

    The last word, often a number, stays whole where it leaves a third of the room.

    >>> shortened("a name that is too long 1", 90), shortened("a name that is too long 2", 90)
    ('a nam… long 1', 'a nam… long 2')
    """
    parts = [part for part, _ in _units(text)]
    if width(text) <= most:
        return "".join(parts)
    end = max((place for place, part in enumerate(parts) if part == " "), default=0)
    last = "".join(parts[end:])
    if end and width(last) <= most * 2 / 3:
        return _without_middle(parts[:end], last, most)
    return _without_middle(parts, "", most)


def _without_middle(parts: list[str], last: str, most: int) -> str:
    """As many of the `parts`, from both ends, as `most` pixels hold together with `last`."""

    def cut(kept: int) -> str:
        return f"{''.join(parts[: (kept + 1) // 2])}…{''.join(parts[len(parts) - kept // 2 :])}{last}"

    fits, fails = 0, min(len(parts), most)
    while fails - fits > 1:
        kept = (fits + fails) // 2
        fits, fails = (kept, fails) if width(cut(kept)) <= most else (fits, kept)
    return cut(fits)


def wrapped(text: str, most: int, rows: int) -> list[str]:
    """`text` in at most `rows` lines of `most` pixels, broken at spaces and the like; the last one is `shortened`."""
    lines, parts = list[str](), [part for part, _ in _units(text)]
    while len(lines) < rows - 1 and width("".join(parts)) > most:
        fits = next(n for n in range(min(len(parts), most), 0, -1) if n == 1 or width("".join(parts[:n])) <= most)
        cut = next((n for n in range(fits, fits // 2, -1) if parts[n - 1] in BREAKS), fits)
        lines.append(shortened("".join(parts[:cut]), most))
        parts = parts[cut:]
    return [*lines, shortened("".join(parts), most)]


def write(pen: "ImageDraw", place: tuple[float, float], text: str, fill: tuple[int, ...], anchor: str = "l") -> None:
    """Write `text` in one line at x, which is its left end, middle or right end (l, m, r), and y halfway up."""
    x, y = place
    ascent, descent = _fonts()[0].getmetrics()
    x, y = round(x - {"l": 0, "m": 0.5, "r": 1}[anchor] * width(text)), round(y + (ascent - descent) / 2)
    for run, font in _runs(text):
        pen.text((x, y), run, fill=fill, font=font, anchor="ls", direction=_direction())
        x += font.getlength(run)
