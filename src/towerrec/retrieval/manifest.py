"""What every part of an artefact says of itself, and how a reader finds out whether parts belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from towerrec.files import read_json
from towerrec.schema import FeatureSchema

Stamp = dict[str, Any]
"""`{"bytes": size, "sha256": 64 hexadecimal digits}` of a file."""


def stamps(directory: Path, *, leave_out: Iterable[str] = ()) -> dict[str, Stamp]:
    """Size and SHA-256 of every file below a folder, by its name there, ascending."""
    left_out = set(leave_out)
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return {name: _stamp(directory / name) for name in names if name not in left_out}


def check_files(directory: Path, written: Mapping[str, Stamp]) -> None:
    """Compare the files of a folder with what was written.

    Raises:
        ValueError: If one is missing or changed, naming it.
    """
    for name, stamp in written.items():
        path = directory / name
        try:
            size = path.stat().st_size
            found = _stamp(path) if size == stamp["bytes"] else {"bytes": size}
        except OSError as error:
            raise ValueError(
                f"{path} is missing or cannot be read ({error.strerror}): copy the whole folder"
            ) from error
        if found["bytes"] != stamp["bytes"]:
            raise ValueError(
                f"{path} is damaged: it has {size:,} bytes, {stamp['bytes']:,} were written; copy it anew, or write "
                "the folder again"
            )
        if found != stamp:
            raise ValueError(
                f"{path} is damaged or of another artefact: its SHA-256 is not the one that was written; copy it anew, "
                "or write the folder again"
            )


def read_part(path: Path, *, format: int, remedy: str) -> tuple[dict[str, Any], FeatureSchema | None]:
    """A JSON file that names its format and, where it depends on them, the features it was made with.

    Raises:
        ValueError: If it is missing, no JSON, of another format, or its schema is not the one of its fingerprint.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: copy the whole folder, or {remedy}")
    about = read_json(path)
    found = about.get("format") if isinstance(about, dict) else None
    if found != format:
        raise ValueError(f"{path}: format {found!r} is not known, this version reads {format}; {remedy}")
    if "schema" not in about:
        return about, None
    try:
        schema = FeatureSchema.from_dict(about["schema"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, its schema cannot be read ({error}); {remedy}") from error
    if schema.fingerprint != about.get("schema_fingerprint"):
        raise ValueError(
            f"{path} is damaged: its features have the fingerprint {schema.fingerprint}, it says "
            f"{about.get('schema_fingerprint')}; {remedy}"
        )
    return about, schema


def _stamp(path: Path) -> Stamp:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
