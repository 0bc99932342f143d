"""Content policies of HTML: what a browser lets a document load and run (https://www.w3.org/TR/CSP3/)."""

import base64
import hashlib
import re

SCRIPT = re.compile(r"(?is)<script.*?>(.*?)</script")
ATTRIBUTES = r"""(?:"[^"]*"|'[^']*'|[^'">])*"""
HEAD = re.compile(rf"(?i)\s*(?:<!doctype{ATTRIBUTES}>)?\s*(?:<html\b{ATTRIBUTES}>)?\s*(?:<head\b{ATTRIBUTES}>)?")


def digest(code: str) -> str:
    """The source expression that allows one inline script or style: the SHA-256 of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def scripts(html: str) -> list[str]:
    """The texts of the inline scripts of a document, each once."""
    return list(dict.fromkeys(SCRIPT.findall(html)))


def guarded(html: str) -> str:
    """The same document with a policy before all else: its own inline scripts and styles, data URLs, nothing more.

    It keeps the document from loading or sending anything also where no page around it does: opened by itself, or in
    the frame of a page that shows it as a file.

    >>> guarded("<!doctype html><html><head><title>x</title>")
    '<!doctype html><html><head><meta http-equiv="Content-Security-Policy" content="default-src \\'none\\'; \
img-src data:; media-src data:; font-src data:; style-src \\'unsafe-inline\\'; script-src \\'none\\'; \
base-uri \\'none\\'; form-action \\'none\\'"><title>x</title>'
    """
    allowed = " ".join(map(digest, scripts(html))) or "'none'"
    policy = (
        "default-src 'none'; img-src data:; media-src data:; font-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )
    place = found.end() if (found := HEAD.match(html)) else 0
    return f'{html[:place]}<meta http-equiv="Content-Security-Policy" content="{policy}">{html[place:]}'
