"""What goes through the filter of the logs."""

import io
import logging

from interp.lit.secrets import InLogs


def test_a_faulty_message_of_a_library_is_logged_and_ends_nothing():
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.addFilter(InLogs())
    for arguments in (("%d of %s, token=abc", "one"), ("%s of %s, token=abc", 1, 2)):
        handler.handle(logging.LogRecord("library", logging.WARNING, "", 0, arguments[0], arguments[1:], None))
    first, second = said.getvalue().splitlines()
    assert first == "%d of %s, token=(hidden) (TypeError in the arguments of this message)"
    assert second == "1 of 2, token=(hidden)"
