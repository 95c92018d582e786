"""Files that appear whole or not at all: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it takes the name `path` when the block ends well and vanishes otherwise.

    Raises:
        OSError: If the file cannot be written (full disk, no permission, no such place), naming `path`.
    """
    with _beside(path) as directory:
        written = directory / path.name
        yield written
        written.replace(path)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory to fill; it takes the name `path`, in place of what stood there, if all went well."""
    with _beside(path) as directory:
        filled = directory / "new"
        filled.mkdir()
        yield filled
        if path.exists():
            path.rename(directory / "old")
        filled.rename(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with whole_file(path) as written:
        written.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield directory
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> OSError:
    reason = error.strerror or str(error)
    return OSError(f"could not write {path} ({reason}): free some space or choose another place; nothing was changed")
