"""Words of others (libraries, files, names) made fit to be shown: short, and without power over a terminal."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata

_LONGEST = 300
# What Polars adds below a message: query plans, offsets, advice about its own arguments.
_BELOW = (
    "The current offset in the file",
    "You might want to try",
    "This error occurred",
    "Resolved plan until",
    "\n\n",
)
# Controls and lone surrogates by their category; of the invisible ones those that turn the direction of a text.
_TURNING = "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_ACTING = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNING}\ud800-\udfff]")


def reason_of(error: BaseException) -> str:
    """Why something failed: the message of a library without what it adds, on one line of at most 300 letters."""
    text = str(error) or type(error).__name__
    for below in _BELOW:
        before = text.partition(below)[0]
        text = before if before.strip() else text
    return printable(clipped(" ".join(text.split()), _LONGEST))


def clipped(text: str, letters: int = 1_500) -> str:
    """Text of at most so many letters; what is longer keeps beginning and end, which say what it is about."""
    if len(text) <= letters:
        return text
    end = letters // 3
    return f"{text[: letters - end - 5]} ... {text[-end:]}"


def printable(text: str) -> str:
    """Text whose control characters are shown as escapes (`\\x1b`), so that a terminal shows them and obeys none.

    Line ends and tabs stay; so does everything that is written from right to left, only marks that turn the direction
    of other text are shown. Lone surrogates (names of files that are no UTF-8) are shown: no stream could take them.
    """
    return _ACTING.sub(_escape, text)


def shortened(text: str, letters: int = 60) -> str:
    """`one_line` of at most so many letters: names of columns that come from somebody's file."""
    return one_line(text if len(text) <= letters else f"{text[: letters - 3]}...")


def one_line(text: str) -> str:
    """`printable` for a place where a line end would begin something new, such as a row of a table."""
    return printable("".join(" " if letter in "\r\n\t\x0b\x0c\x85" else letter for letter in text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    assert unicodedata.category(found[0]) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class Printable(logging.Formatter):
    """Log lines without power over the terminal or the pager that shows them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class LogFile(logging.FileHandler):
    """The log of a run directory. On a full disk its lines are left out: what stopped the run is said on the terminal,
    and Python's own account of a line that could not be written would bury it."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def in_markdown(text: str) -> str:
    """Text as it stands, for a line or a cell of a table: no tag, no link, no code, no emphasis.

    Tags and entities become entities, for a backslash before `<` says nothing to many who render Markdown (TensorBoard
    for one). Underscores within words stay: nobody takes them for emphasis.
    """
    entities = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", entities)


def fenced(text: str, language: str = "") -> str:
    """A block of code, whatever the text holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(text)}\n{fence}"
