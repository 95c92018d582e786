"""Words of others do nothing where they are shown."""

from __future__ import annotations

import errno
import io
import logging
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towerrec.mistakes import message
from towerrec.wording import LogFile, Printable, one_line, printable, reason_of, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]8;;http://x\x07link", "\\x1b]8;;http://x\\x07link"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\x08\x7f\x00", "a\\x0db\\x08\\x7f\\x00"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("a\u2028b\udcff", "a\\u2028b\\udcff"),
        ("视频 \U0001f468\u200d\U0001f469 שלום\ttab\nline", "视频 \U0001f468\u200d\U0001f469 שלום\ttab\nline"),
    ],
)
def test_what_acts_on_a_terminal_is_shown_and_the_rest_stays(text: str, shown: str):
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_whatever_comes_is_printable_and_of_one_line_where_that_is_asked_for(text: str):
    shown = printable(text)
    shown.encode()
    assert all(letter in "\n\t" or letter.isprintable() or ord(letter) >= 0xA0 for letter in shown)
    assert "\x1b" not in shown and printable(shown) == shown
    assert len(one_line(text).splitlines()) <= 1
    assert len(shortened("x" * 500 + text)) < 80


def test_the_reason_of_a_library_is_short_and_one_line():
    error = ValueError(
        "could not parse `" + "x" * 5_000 + "\x1b[0m` as dtype `i64` at column 'a'\n\nYou might want to try:\n- this"
    )
    said = reason_of(error)
    assert len(said) < 320 and said.endswith("as dtype `i64` at column 'a'") and "\n" not in said and "\x1b" not in said
    assert reason_of(ValueError()) == "ValueError"


def test_a_log_line_shows_what_a_name_would_do():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Printable("%(message)s"))
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "title \x1b]0;pwned\x07 of %s", ("\x1b[2J",), None))
    assert stream.getvalue() == "title \\x1b]0;pwned\\x07 of \\x1b[2J\n"


def test_a_log_on_a_full_disk_leaves_its_lines_out_and_other_errors_are_told(capsys: pytest.CaptureFixture[str]):
    handler = LogFile("/dev/full")  # a disk that is always full
    for words, arguments in (("no room", ()), ("a mistake of ours: %d", ("x",))):
        handler.handle(logging.LogRecord("a", logging.INFO, "", 0, words, arguments, None))
    said = capsys.readouterr().err
    assert "a mistake of ours" in said and "no room" not in said and "No space" not in said
    with suppress(OSError):
        handler.close()


def test_a_file_that_went_away_while_a_run_needed_it_is_told_with_what_goes_on():
    gone = message(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "cache/1/store/label.npy"))
    assert gone.startswith("cache/1/store/label.npy is not there, or no longer") and "train.py run=DIR" in gone
    full = message(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.npy"))
    assert full.startswith("a.npy could not be read or written (No space left on device): make room")
