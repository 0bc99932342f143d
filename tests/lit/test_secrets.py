"""Keys and passwords: whatever their name, form and quoting, nothing that goes out holds them."""

import html
import io
import json
import logging
import sys
from urllib.parse import quote

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from interp.lit.safety import secrets
from interp.lit.safety.secret_forms import SAYS_NOTHING
from interp.lit.safety.secrets import (
    InLogs,
    hidden,
    hidden_arguments,
    hide,
    hide_in_files,
    hide_in_streams,
    remember,
    remember_all,
    remember_arguments,
    remember_configuration,
)

WORDS = ["password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "tokens", "credentials", "api_key",
         "apikey", "api-key", "access_key", "secret_key", "private_key", "ssh_key", "secret_access_key", "db_pass",
         "Authorization", "proxy_authorization", "cookie", "signature", "auth", "pw", "password2", "privateKey",
         "dbPwd", "creds", "github_pat", "refreshToken", "AccountKey"]  # fmt: skip
FORMS = ["{}={}", "{}='{}'", '{}="{}" x=1', "+{}={} +y=2", "{}: {}", "{{{}: {}, size: 3}}", "['x=1', '{}={}']",
         '{{"{}": "{}"}}', "see {}={}.", "?x=1&{}={}&y=2", "  {}: {}\n  size: 3\n", "x={{y: {{{}: [{}, b]}}}}",
         '{{\\"{}\\": \\"{}\\"}}', "f({}=b'{}', x=1)", "{} := {}", "{} => {}", "{}:\n- {}\n- b\nsize: 3",
         "a:\n  {}: |\n    {}\n    more\n  size: 3", "{}:\n  n: 1\n  value: {}\n", "--{} {} go",
         'Error executing job with overrides: ["{}={} it\'s"]']  # fmt: skip
NAMES = st.builds(
    lambda prefix, word, case: prefix + getattr(str, case)(word),
    st.sampled_from(["", "data.", "logger.wandb.", "my_", "x-", "a/b."]),
    st.sampled_from(WORDS),
    st.sampled_from(["lower", "upper", "title"]),
)
ASCII = st.characters(min_codepoint=33, max_codepoint=126)
SIMPLE = st.text(
    st.characters(min_codepoint=48, max_codepoint=122, categories=["Nd", "Lu", "Ll"]), min_size=3, max_size=20
)
LONG = st.text(ASCII | st.sampled_from(" é日,()[]{}'\"\\=&@/:%"), min_size=8, max_size=30).filter(
    lambda text: text == text.strip() and not SAYS_NOTHING.fullmatch(text)
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is remembered from elsewhere."""
    monkeypatch.setattr(secrets, "_remembered", set())


def gone(secret: str, text: str) -> None:
    assert "(hidden)" in text and secret not in text.replace("(hidden)", "")


@given(
    name=NAMES,
    secret=SIMPLE.filter(
        lambda text: "hidden" not in text and text.lower() not in ("null", "none", "true", "false", "x3x")
    ),
)
def test_a_value_after_such_a_name_is_hidden_in_any_text(name, secret):
    if "token" in name.lower() and secret.isdigit():
        secret += "x"
    secret = f"S{secret}"
    for form in FORMS:
        text = form.format(name.replace("/", "-"), secret)
        gone(secret, hide(text))


@given(
    user=st.sampled_from(["", "u", "me.you", "a+b"]),
    secret=st.text(ASCII, min_size=3, max_size=20).filter(lambda t: not set(t) & set("'\"<>")),
    scheme=st.sampled_from(["redis", "postgresql+psycopg", "https", "amqp"]),
    host=st.sampled_from(["h", "h.org:5432/db?x=1", "[::1]/0"]),
)
def test_a_password_in_an_address_is_hidden(user, secret, scheme, host):
    secret = f"S{secret}T"
    for text in ("{}", "storage={}", "'{}'", "see {}.", "a: {}, b", "[{}]", "http://x.org,{}"):
        gone(secret, hide(text.format(f"{scheme}://{user}:{secret}@{host}")))


def escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in ",()[]{}: =\\" else c for c in text)


WRITTEN = [str, repr, json.dumps, html.escape, quote, escaped, lambda s: quote(s, safe=""), lambda s: repr(repr(s)),
           lambda s: json.dumps(s, ensure_ascii=False), lambda s: html.escape(json.dumps(s)),
           lambda s: escaped(repr(s)), lambda s: yaml.safe_dump({"x": [s]}),
           lambda s: yaml.safe_dump({"x": [s]}, allow_unicode=True)]  # fmt: skip


@given(secret=LONG)
def test_a_remembered_value_is_hidden_however_it_is_written(secret):
    secrets._remembered.clear()
    remember(secret)
    for form in WRITTEN:
        text = form(secret)
        shown = hide(f"before {text} behind")
        assert "(hidden)" in shown and "before" in shown and "behind" in shown
        assert form(secret).strip("'\"\n ") not in shown and secret not in shown


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(name=NAMES, secret=LONG, quoting=st.sampled_from(["'", '"', "", "\\"]))
def test_what_the_command_line_gives_is_remembered_as_hydra_reads_it(monkeypatch, name, secret, quoting):
    secrets._remembered.clear()
    text = secret.replace("\\", "").replace("$", "")
    given = text.replace(quoting, "").join(quoting * 2) if quoting in ("'", '"') else escaped(text) if quoting else text
    argument = f"+{name.replace('/', '.').replace('-', '_')}={given}"
    remember_arguments([argument, "seed=1,2"])
    monkeypatch.setattr(sys, "argv", ["train.py", argument])
    with hidden_arguments():
        assert given not in sys.argv[1] and sys.argv[1].endswith("(hidden)")
    if len(text.replace(quoting or "\0", "")) >= 8 and quoting != "\\":
        gone(text.replace(quoting or "\0", ""), hide(f"it said {text.replace(quoting or chr(0), '')!s}; and more"))


def test_sweeps_nested_settings_and_addresses_of_the_command_line_are_remembered():
    remember_arguments(["x.token=first-one,'second, one',3", "+y={headers: {Authorization: Bearer third-one}, n: 4}",
                        "s.storage=redis://:fourth-one@h", "z.password=choice(fifth-one,b)", "broken.token=sixth(one",
                        "+l=[{api_key: seventh-one}]"])  # fmt: skip
    text = "first-one; second, one; third-one; fourth-one; fifth-one; sixth(one; seventh-one; 3; 4; b"
    assert hide(text) == "(hidden); (hidden); " + "(hidden); " * 5 + "3; 4; b"


def test_a_configuration_s_secrets_are_remembered_with_their_references(monkeypatch):
    monkeypatch.setenv("PLAIN_NAME", "kept-elsewhere")
    nested = {"a": {"token": "${oc.env:PLAIN_NAME}", "n": 5}, "b": "redis://:in-an-address@h", "lost": "${nowhere}",
              "credentials": {"user": "someone-else", "value": 12345678}, "size": 12345679}  # fmt: skip
    remember_configuration(OmegaConf.create({k: v for k, v in nested.items() if k != "lost"}))
    said = "kept-elsewhere someone-else 12345678 in-an-address 5 12345679"
    assert hide(said) == "(hidden) (hidden) (hidden) (hidden) 5 12345679"
    secrets._remembered.clear()
    remember_configuration(OmegaConf.create(nested))  # of which a reference leads nowhere
    assert hide("someone-else in-an-address") == "(hidden) (hidden)"


def test_short_values_and_ordinary_words_are_hidden_by_their_place_alone():
    remember_all({"token": "train", "password": "abc1", "secret": 0.001, "pwd": "s3cr3"})
    assert hide("train/loss 0.001 abc1 s3cr3 s3cr3ts") == "train/loss 0.001 abc1 (hidden) s3cr3ts"
    assert hide("token=train password=abc1") == "token=(hidden) password=(hidden)"


PLAIN = ["num_tokens=128 class_token: true", "the author: me; monkey: banana; compass: north; tokenizer: bpe; key: x",
         "https://host.org:8080/a@b http://localhost:80/x@y mailto:me@x.org", "x.token=${oc.env:X} y.password=null",
         "2026-11-28 12:30:45 epoch 3: val/accuracy 0.93 at 12:30:45", "token: ???", "see http://h:80 by a@b",
         "secret_file=a public_key=b keys=c", "passing=3 bypass=4 authored=5 design: x",
         "state_key=a sort_key=b"]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text):
    assert hide(text) == text


def test_what_stands_below_a_name_goes_and_what_stands_beside_it_stays():
    text = (
        "a:\n- token: |\n    one\n    two\n  size: 3\nsecrets:\n- four\n- x: five\nb: 6\n  password: seven\nc:\n  8\n"
    )
    told = "a:\n- token: (hidden)\n  size: 3\nsecrets: (hidden)\nb: 6\n  password: (hidden)\nc:\n  8\n"
    assert hide(text) == told


def test_a_password_with_spaces_in_an_address_is_hidden_without_being_remembered():
    assert hide("+data.url=redis://:my own secret@h/0 and me@x") == "+data.url=redis://:(hidden)@h/0 and me@x"
    assert hidden(["url=amqp://u:my own@h"]) == ["url=amqp://u:(hidden)@h"]


def test_private_keys_headers_and_bearers_are_hidden():
    key = "-----BEGIN RSA PRIVATE KEY-----\nabcd\nefgh\n-----END RSA PRIVATE KEY-----"
    assert hide(f"a {key} b") == "a (hidden) b" and hide(key[:40]) == "(hidden)"
    assert hide("curl -H 'Authorization: Bearer abcdefghij' x") == "curl -H 'Authorization: (hidden)' x"
    assert hide("sent Bearer abcdefghij.klm to x") == "sent Bearer (hidden) to x"


def test_nested_settings_and_files_hold_none(tmp_path):
    nested = {"a": {"tokens": ["x", "y"], "pwd": 1234, "n": [{"api_key": "k", "kind": "z"}]},
              "o": ["+a.token=b c, d=e f"], "credentials": {"user": "u"}, "url": "postgresql://u:p/q@h",
              "ref": {"token": "${oc.env:X}", "auth": None}}  # fmt: skip
    told = {"a": {"tokens": "(hidden)", "pwd": "(hidden)", "n": [{"api_key": "(hidden)", "kind": "z"}]},
            "o": ["+a.token=(hidden)"], "credentials": "(hidden)", "url": "postgresql://u:(hidden)@h",
            "ref": {"token": "${oc.env:X}", "auth": None}}  # fmt: skip
    assert hidden(nested) == told and hidden(told) == told
    (tmp_path / "a.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(nested)))
    hide_in_files(tmp_path / "a.yaml", tmp_path / "none.yaml")
    assert yaml.safe_load((tmp_path / "a.yaml").read_text()) == told


def logged(*records: logging.LogRecord) -> str:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.addFilter(InLogs())
    for record in records:
        handler.handle(record)
    return said.getvalue()


def test_a_faulty_message_of_a_library_is_logged_and_ends_nothing():
    given = (("%d of %s, token=abc", "one"), ("%s of %s, token=abc", 1, 2))
    said = logged(*(logging.LogRecord("x", logging.WARNING, "", 0, text[0], text[1:], None) for text in given))
    first, second = said.splitlines()
    assert first == "%d of %s, token=(hidden) (TypeError in the arguments of this message)"
    assert second == "1 of 2, token=(hidden)"


def test_control_characters_in_a_log_are_written_out():
    said = logged(logging.LogRecord("x", logging.WARNING, "", 0, "a \x1b[2J\x9b31m \u202e\ud800 class", (), None))
    assert said == "a \\x1b[2J\\x9b31m \\u202e\\ud800 class\n"


def test_whatever_is_printed_goes_through_it_also_where_somebody_wraps_the_stream_after(monkeypatch):
    stream, copy = io.StringIO(), []
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    hide_in_streams()
    inner = stream.write
    stream.write = lambda text: (copy.append(text), inner(text))[1]  # as W&B does
    hide_in_streams()
    hide_in_streams()
    print("token=abc", "and more", file=sys.stdout)
    assert stream.getvalue() == "token=(hidden) and more\n" and copy == ["token=(hidden)", " ", "and more", "\n"]
