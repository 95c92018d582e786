"""A reader, many hostile inputs, and what became of each: it worked, it was refused by name, or something is broken.

An input is drawn from a seed of its own, so that one that broke something can be made again alone: `one(reader, seed)`.
"""

from __future__ import annotations

import faulthandler
import hashlib
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

LIMIT_S = 10.0
"""Seconds after which an input counts as a hang; readers need milliseconds."""
_LONGEST_MESSAGE = 4_000


@dataclass(frozen=True)
class Reader:
    """Something that reads what others wrote.

    Attributes:
        name: In the table of results.
        write: Leaves one hostile input in an empty folder and says how it is to be read, if that varies.
        read: Reads it; an answer and a `ValueError` or `OSError` that says what is wrong with what are both fine.
        says: A message has to hold one of these words; `{folder}` is the folder of the input.
        leaves: What may lie beside the input afterwards, as the reader's own product.
    """

    name: str
    write: Callable[[Random, Path], Any]
    read: Callable[[Path, Any], object]
    says: tuple[str, ...] = ("{folder}",)
    leaves: tuple[str, ...] = ()


@dataclass
class Tally:
    """What became of the inputs of one reader.

    Attributes:
        inputs: How many were read.
        worked: How many were understood.
        named: How many were refused, by the class of the error.
        broken: Seed and symptom of those that were neither: an error that is none of ours or says nothing, a hang, an
            input that was changed, a file that was left behind.
        hangs: How many of the broken ones took longer than `LIMIT_S`.
        slowest: Seconds of the slowest input.
        seconds: Of all of them.
    """

    inputs: int = 0
    worked: int = 0
    named: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)
    hangs: int = 0
    slowest: float = 0.0
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Plain builtins for JSON."""
        damage = sum(symptom.startswith(("left", "changed")) for _, symptom in self.broken)
        return {
            "inputs": self.inputs,
            "worked": self.worked,
            "refused": self.named.total(),
            "errors_named": dict(sorted(self.named.items())),
            "uncaught": len(self.broken) - self.hangs - damage,
            "hangs": self.hangs,
            "damage": damage,
            "slowest_s": round(self.slowest, 3),
            "seconds": round(self.seconds, 1),
        }


class Hang(BaseException):
    """Raised into an input that takes too long; no reader may catch it by accident."""


def fuzz(reader: Reader, folder: Path, *, count: int, seed: int = 0) -> Tally:
    """Read `count` inputs, each in the emptied folder `folder`, and tell what became of them."""
    tally = Tally()
    begun = time.perf_counter()
    for number in watched(range(count)):
        key = f"{reader.name}/{seed}/{number}"
        outcome, took = one(reader, key, folder)
        tally.inputs += 1
        tally.slowest = max(tally.slowest, took)
        if outcome == "worked":
            tally.worked += 1
        elif outcome.startswith("named "):
            tally.named[outcome.removeprefix("named ")] += 1
        else:
            tally.broken.append((key, outcome))
            tally.hangs += outcome.startswith("hang")
    tally.seconds = time.perf_counter() - begun
    return tally


def one(reader: Reader, key: str, folder: Path) -> tuple[str, float]:
    """What becomes of the input that belongs to a seed, and the seconds it took."""
    emptied(folder)
    how = reader.write(Random(key), folder)
    before = content(folder)
    started = time.perf_counter()
    try:
        with limited():
            reader.read(folder, how)
        outcome = "worked"
    except Hang:
        outcome = f"hang: more than {LIMIT_S:g} s"
    except (ValueError, OSError) as error:
        words = tuple(word.format(folder=folder) for word in reader.says)
        outcome = judged(error, words)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Polars is no Exception
        outcome = f"uncaught {type(error).__name__}: {str(error)[:300]}"
    took = time.perf_counter() - started
    after = content(folder)
    for path in after.keys() - before.keys():
        if not path.startswith(reader.leaves or ("\0",)):
            outcome = f"left {path!r} behind"
    for path, digest in before.items():
        if after.get(path) != digest:
            outcome = f"changed its input {path!r}"
    return outcome, took


def judged(error: Exception, words: tuple[str, ...]) -> str:
    """Whether an error is a message to a person: of our own class, about the thing, of readable length."""
    text = str(error)
    ours = type(error) is ValueError or isinstance(error, OSError)
    if ours and any(word in text for word in words) and len(text) <= _LONGEST_MESSAGE:
        return f"named {type(error).__name__}"
    return f"unnamed {type(error).__name__} of {len(text)} letters: {text[:300]}"


@contextmanager
def limited() -> Iterator[None]:
    """End what takes too long by a signal, which comes through where Python runs; for the rest see `watched`."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def watched(numbers: range) -> Iterator[int]:
    """The numbers; a library that never comes back while one of them is worked on ends the process, and says where.

    The watchdog is a thread, so it is set anew now and then and not for each of them.
    """
    since = -LIMIT_S
    try:
        for number in numbers:
            if time.perf_counter() - since > LIMIT_S:
                since = time.perf_counter()
                faulthandler.dump_traceback_later(6 * LIMIT_S, exit=True)
            yield number
    finally:
        faulthandler.cancel_dump_traceback_later()


def emptied(folder: Path) -> None:
    """Make a folder, or take out what is in it, which costs less than to make it anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder with a digest of its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def mutated(rng: Random, data: bytes, *, most: int = 6) -> bytes:
    """Bytes with a few of them flipped, cut, repeated, moved or replaced."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most)):
        place = rng.randrange(len(changed) + 1)
        length = min(rng.choice((1, 1, 2, 4, 16, 64)), len(changed) - place)
        match rng.randrange(7):
            case 0 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(changed):
                changed[place] = rng.choice(b'\0\xff\x7f,"\n\t[{}:\x1b')
            case 2:
                del changed[place:]
            case 3:
                del changed[place : place + length]
            case 4:
                changed[place:place] = changed[place : place + length]
            case 5:
                changed[place:place] = rng.randbytes(rng.choice((1, 2, 8)))
            case 6:
                changed[place : place + length] = rng.randbytes(length)
    return bytes(changed)
