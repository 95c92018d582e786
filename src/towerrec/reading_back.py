"""Reading what towerrec wrote, and what somebody else may have written in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

from towerrec.wording import reason_of

_FOREIGN = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RecursionError, RuntimeError, TypeError),
    *(SyntaxError, TokenError, ValueError),  # NumPy parses its headers as Python
)


@contextmanager
def as_written(path: Path, *, remedy: str, also: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """While the content of a file or folder of ours becomes objects: content that is whole and yet none that towerrec
    wrote breaks this in many ways, and all of them mean the same.

    Args:
        path: What is read.
        remedy: What to do about it.
        also: Further errors that mean it, such as `unreadable.UNREADABLE`.

    Raises:
        ValueError: Naming `path`; messages that name it already stay as they are.
    """
    foreign: tuple[type[BaseException], ...] = (*_FOREIGN, *also)
    try:
        yield
    except foreign as error:
        if type(error) is ValueError and str(path) in str(error):
            raise
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ValueError(f"{path} does not hold what this towerrec writes ({reason}); {remedy}") from error
