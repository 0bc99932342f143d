"""What keys and passwords look like in a text: after names such as api_key, in addresses, in private keys."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

HIDDEN = "(hidden)"
WORDS = """passwords? passwd passphrases? passcodes? pwd secrets? tokens? credentials? creds? authori[sz]ation cookies?
    signature""".split()  # noqa: SIM905
KINDS = """access account api auth aws client deploy encryption license master private rsa secret service session shared
    signing ssh storage subscription wandb""".split()  # noqa: SIM905
# How a name ends: a word, a kind of key, or a short word that stands alone; in lower case.
END = re.compile(
    rf"(?:{'|'.join(WORDS)}|(?:{'|'.join(KINDS)})[ _.-]?keys?|(?<![a-z])(?:auth|otp|pass|pat|pw|sig))\d*\Z"
)
NAMED = re.compile(r"(?<![\w.@/+~-])[+~]*(?P<name>[\w.@/-]++)(?P<separator>\\*[\"']?[ \t]*(?:=>|:=|==|[:=])[ \t]*)")
OPTION = re.compile(r"(?<![\w.-])--?(?P<name>[\w.-]++)(?P<separator>[ \t]+)(?!-)")
# What follows such a name where it begins a line: after ':' all that is indented below it, too, after '=' to the next
# setting; to the closing quote where an override stands in quotes; else one value, which after ':' may have spaces.
QUOTED = r"[bru]?(?:\"(?:\\.|[^\"\\\n])*+\"|'(?:\\.|''|[^'\\\n])*+')"
NESTED = r"\{[^{}\n]*+\}|\[[^\[\]\n]*+\]|\([^()\n]*+\)"
LINE = re.compile(r"\S.*?(?=[ \t]+[+~]*[\w.@/-]++=|$)", re.M)
IN_QUOTES = {mark: re.compile(rf"(?:\\.|[^{mark}\\\n])*+(?={mark})") for mark in "\"'"}
IN_MAPPING = re.compile(rf"{QUOTED}|{NESTED}|(?:\\.|\$\{{[^{{}}\n]*+\}}|[^,;}})\]\\\n\"'])++")
ONE = re.compile(
    rf"{QUOTED}|{NESTED}|(?:(?:basic|bearer|digest|token)[ \t]+)?"
    rf"(?:\\.|\$\{{[^{{}}\n]*+\}}|\([^()\s]*+\)|[^\s,;}})\]&\\\"'])++",
    re.I,
)
PRIVATE_KEY = re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)")
SCHEME = re.compile(r"(?i)(?P<before>\b(?:basic|bearer)[ \t]+)(?P<secret>[\w.~+/=-]{8,})")
ADDRESS = re.compile(r"(?i)(?P<before>//(?P<user>[^\s:/?#@\"'<>]{0,200}):)(?P<secret>[^\s\"'<>]{0,300})(?=@)")
WITH_SPACES = re.compile(r"(?P<before>//(?P<user>[^\s:/?#@\"'<>]{0,200}):)(?P<secret>[^\n\"'<>@]{1,200})(?=@[\w\[])")
KEY_AS_USER = re.compile(r"(?i)(?P<before>\bhttps?://)(?P<secret>[^\s:/?#@\"'<>]{16,300})(?=@)")
NO_SCHEME = re.compile(
    r"(?P<before>(?<![\w/:@.+-])(?!mailto:)[\w.+-]{1,100}:)(?P<secret>[^\s:@/\"'<>,(){}\[\]]{3,200})(?=@[\w-])"
)
WHOLE_ADDRESS = re.compile(r"(?is)\s*[a-z][a-z0-9+.-]*://[^:/?#@\s]*:(?P<secret>.*)@[^@]*")
SAYS_NOTHING = re.compile(r"(?i)[\"']?(?:null|none|true|false|\?\?\?|\(hidden\)|\$\{[\w.:]+\}|)[\"']?\s*")
COUNT = re.compile(r"\d{1,6}")


def is_secret(name: Any, value: Any) -> bool:
    """Whether a value is to be hidden for its name; not what says nothing, such as null, nor a count of tokens.

    >>> is_secret("aws.secret_access_key", "a b"), is_secret("num_tokens", 128), is_secret("token", None)
    (True, False, False)
    """
    return _is_secret_name(str(name)) and not _is_plain(str(name), str(value), str(value))


def _is_secret_name(name: str) -> bool:
    return END.search(name[-60:].lower()) is not None


def _is_plain(name: str, value: str, first: str) -> bool:
    """Whether a value says nothing, or its first word counts tokens."""
    return bool(SAYS_NOTHING.fullmatch(value) or (name.lower().endswith("tokens") and COUNT.fullmatch(first)))


def hide_forms(text: str) -> str:
    """`text` without what has the form of a secret."""
    text = PRIVATE_KEY.sub(HIDDEN, text) if "PRIVATE KEY" in text else text
    text = _named(_named(text, NAMED), OPTION)
    if "@" in text:
        for address in (ADDRESS, WITH_SPACES):
            text = address.sub(lambda match: match[0] if _is_port(match) else _covered(match), text)
        text = NO_SCHEME.sub(_covered, KEY_AS_USER.sub(_covered, text))
    return SCHEME.sub(_covered, text)


def _named(text: str, names: re.Pattern[str]) -> str:
    """`text` without the values that follow secret names."""
    pieces, at = [], 0
    while match := names.search(text, at):
        pieces.append(text[at : match.end()])
        at = match.end()
        value = _value(text, match) if _is_secret_name(match["name"]) else None
        if value and not _is_plain(match["name"], value[0], [*value[0].split(), ""][0]):
            pieces.append(f" {HIDDEN}" if value[0].startswith("\n") else HIDDEN)
            at = value.end()
    return "".join([*pieces, text[at:]])


def _value(text: str, name: re.Match[str]) -> re.Match[str] | None:
    """What stands behind a name, as far as it reaches."""
    start, mark = name.start(), text[name.start() - 1 : name.start()]
    if mark in IN_QUOTES and name["separator"] == "=":
        return IN_QUOTES[mark].match(text, name.end())
    line = text.rfind("\n", 0, start) + 1
    if not text[line:start].strip("\"' \t,-") and name["separator"][0] not in "\"'\\":
        return (_block(start - line) if ":" in name["separator"] else LINE).match(text, name.end())
    return (IN_MAPPING if ":" in name["separator"] else ONE).match(text, name.end())


@lru_cache(maxsize=64)
def _block(column: int) -> re.Pattern[str]:
    """What belongs to a name at this column as in YAML: the rest of its line, and lines that are indented deeper."""
    deeper = rf"\n[ \t]{{{column + 1},}}\S[^\n]*+"
    return re.compile(rf"\S[^\n]*+(?:{deeper})*+|(?:{deeper}|\n[ \t]{{{column}}}-[ \t][^\n]*+)++")


def _covered(match: re.Match[str]) -> str:
    return match[0] if SAYS_NOTHING.fullmatch(match["secret"]) else match["before"] + HIDDEN


def _is_port(match: re.Match[str]) -> bool:
    """Whether what stands between ':' and '@' is a port: https://host.org:8080/a@b, http://host:80 by a@b."""
    host = "." in match["user"] or match["user"].lower() == "localhost"
    return re.match(r"\d{1,5}[/?#\s]" if host else r"\d{1,5}\s", match["secret"]) is not None


def passwords(text: str) -> Iterator[str]:
    """The passwords in the addresses of a text, which as a whole may be one with spaces."""
    if "@" not in text:
        return
    if match := WHOLE_ADDRESS.fullmatch(text):
        yield match["secret"]
    for pattern in (ADDRESS, KEY_AS_USER, NO_SCHEME):
        yield from (
            match["secret"] for match in pattern.finditer(text) if pattern is not ADDRESS or not _is_port(match)
        )
