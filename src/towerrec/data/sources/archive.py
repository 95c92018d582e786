"""Unpacking a zip that came from somewhere: nothing leaves the folder, nothing half-done stays."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

MAX_BYTES = 20 * 2**30
MAX_RATIO = 100


def safe_unzip(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_ratio: int = MAX_RATIO) -> Path:
    """Unpack `archive` into the new folder `folder`, which appears only when complete.

    Raises:
        ValueError: If the file is not a whole zip, a member would land outside the folder or is a link, or the
            unpacked size is beyond reason.
    """
    if folder.exists():
        raise ValueError(f"{archive} would be unpacked into {folder}, which exists: move it away first")
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check(archive, members, max_bytes, max_ratio)
            for member in members:
                _write(opened, member, partial)
        partial.chmod(0o755)  # mkdtemp makes a folder that only its owner can read
        partial.rename(folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{archive} is not a whole zip file ({error}): delete it and fetch it again "
            "(data.download=true does so and checks it)"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _check(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int, max_ratio: int) -> None:
    total = sum(member.file_size for member in members)
    packed = archive.stat().st_size
    if total > max_bytes or total > max_ratio * packed:
        raise ValueError(
            f"{archive}: {packed:,} bytes would unpack to {total:,} (at most {max_bytes:,}, and {max_ratio} times the "
            "archive); this is not a data release, so it was not unpacked"
        )
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        drive = bool(path.parts) and path.parts[0].endswith(":")
        if path.is_absolute() or drive or ".." in path.parts:
            raise ValueError(f"{archive}: member {member.filename!r} would land outside the folder; not unpacked")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{archive}: member {member.filename!r} is a link; not unpacked")


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink, 2**20)
