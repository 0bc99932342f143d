"""Text of other people on a terminal: what stands there is all that it does."""

import re

# Control characters but tab and newline, those that turn the direction of writing, line ends of Unicode's own, and
# halves of characters, which cannot be printed.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""`text` with control characters, which could clear, colour or retitle a terminal, written out.

    >>> visible("a class\x1b[2J\tname")
    'a class\\x1b[2J\tname'
    """
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
