"""What a torch.export file may hold: operators over tensors. Its reader would also run what else it finds.

`torch.export.load` evaluates expressions for sizes, unpickles what the file tells it to, and loads compiled libraries;
and what it returns runs its guards as Python. So a file is looked through before, and read with weights only.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MEMBERS = re.compile(
    r"[^/]+/(\.data/(version|serialization_id)|archive_format|archive_version|byteorder|models/model\.json"
    r"|data/(weights|constants)/(model_(weights|constants)_config\.json|(weight|tensor)_\d+)"
    r"|data/sample_inputs/model\.pt)"
)
_OPERATORS = re.compile(r"torch\.ops\.aten\.[A-Za-z0-9_.]+|_operator\.[a-z]+")
_WORDS = re.compile(r"[^\W\d]\w*")
# Words of which expressions for sizes are made; s24 or u0 is a size.
_SIZE = re.compile(
    "Symbol|Integer|Add|Mul|Pow|Max|Min|Mod|FloorDiv|CleanDiv|Eq|Ne|Ge|Gt|Le|Lt|positive|nonnegative|integer|True"
    r"|[su]\d+"
)
_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def check_program(path: Path) -> None:
    """Look through a torch.export file without running anything of it.

    Raises:
        ValueError: If it is none, or holds what could act when it is read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            strange = [name for name in archive.namelist() if not _MEMBERS.fullmatch(name)]
            if strange:
                raise ValueError(f"it holds {strange[0][:80]!r}, which is no part of an exported tower")
            described = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, RecursionError, NotImplementedError) as error:
        raise ValueError(f"{error}") from error
    for content in described:
        _check(content)


@contextmanager
def weights_only() -> Iterator[None]:
    """Meanwhile torch unpickles nothing but tensors, whatever its caller says."""
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before


def _check(content: Any) -> None:
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            if value.get("use_pickle"):
                raise ValueError("it holds pickled objects, which may do anything when they are read")
            for key, allowed in (("target", _is_operator), ("as_operator", _is_operator), ("expr_str", _is_size)):
                if isinstance(value.get(key), str) and not allowed(value[key]):
                    raise ValueError(f"it holds {value[key][:80]!r}, which is no operator over tensors and no size")


def _is_operator(text: str) -> bool:
    return _OPERATORS.fullmatch(text) is not None


def _is_size(text: str) -> bool:
    return "." not in text and all(_SIZE.fullmatch(word) for word in _WORDS.findall(text))
