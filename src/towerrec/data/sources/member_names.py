"""Names of an archive's members: which of them are plain files below a folder, on every system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

_LONGEST_PART = 255
_LONGEST_NAME = 1_000
_CONTROL = re.compile("[\x00-\x1f\x7f]")
# Windows takes these for devices, whatever ending stands behind them.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)


def parts_of(name: str) -> tuple[str, ...]:
    """Folders and name of a member; a backslash parts them too, as it does where such archives are made."""
    return PurePosixPath(name.replace("\\", "/")).parts


def check_names(files: Sequence[str], folders: Sequence[str], archive: str) -> None:
    """Refuse names that lead out of the folder, that some system takes for another, or that mean the same file.

    Raises:
        ValueError: Naming the archive, the member and the rule.
    """
    taken: dict[str, str] = {}
    for name in (*files, *folders):
        why = _why_not(name)
        if why:
            raise ValueError(f"{archive}: member {_quoted(name)} {why}; not unpacked")
    for name in files:
        alike = _alike("/".join(parts_of(name)))
        if alike in taken:
            raise ValueError(
                f"{archive}: members {_quoted(taken[alike])} and {_quoted(name)} are the same file where case or "
                "accents do not count; not unpacked"
            )
        taken[alike] = name
    inside = {_alike("/".join(parts_of(name)[:end])) for name in files for end in range(1, len(parts_of(name)))}
    inside |= {_alike("/".join(parts_of(name))) for name in folders}
    for alike in sorted(taken.keys() & inside):
        raise ValueError(f"{archive}: member {_quoted(taken[alike])} is a file and a folder at once; not unpacked")


def _why_not(name: str) -> str:
    parts = parts_of(name)
    if name.startswith(("/", "\\")) or ".." in parts or (parts and parts[0][1:2] == ":") or not parts:
        return "would land outside the folder"
    if _CONTROL.search(name):
        return "has control characters in its name"
    if ":" in name:
        return "has a colon in its name, which means a drive or a stream on some systems"
    if any(_DEVICES.fullmatch(part) for part in parts):
        return "has the name of a device"
    if any(part != part.rstrip(" .") for part in parts):
        return "has a name that ends in a dot or a space, which some systems take away"
    if len(name.encode(errors="replace")) > _LONGEST_NAME or any(
        len(p.encode(errors="replace")) > _LONGEST_PART for p in parts
    ):
        return f"has a name of more than {_LONGEST_PART} bytes"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is no text"
    return ""


def _alike(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _quoted(name: str) -> str:
    shown = name if len(name) <= 80 else f"{name[:60]}...{name[-15:]}"
    return repr(shown)
