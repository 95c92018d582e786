"""Unpacking a zip that came from somewhere: nothing leaves the folder, nothing half-done stays."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path

from towerrec.data.sources.member_names import check_names, parts_of
from towerrec.files import whole_directory
from towerrec.wording import reason_of

MAX_BYTES = 20 * 2**30
MAX_RATIO = 100
MAX_MEMBERS = 10_000
_HEADER_BYTES = 30
# What the module zipfile raises at bytes that are no whole zip, beside its own error.
_DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    LZMAError,
    NotImplementedError,  # a compression or encryption it does not know
    RuntimeError,  # a password is asked for
    UnicodeError,
    ValueError,
    struct.error,
    zlib.error,
)


def safe_unzip(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_ratio: int = MAX_RATIO,
    max_members: int = MAX_MEMBERS,
) -> Path:
    """Unpack `archive` into the new folder `folder`, which appears only when complete.

    Everything is refused before the first byte is written, save what only unpacking can show: a wrong checksum and a
    member that is larger than the archive says.

    Args:
        archive: A zip; members may lie in folders and be stored or compressed, nothing else.
        folder: Must not exist; its parent must.
        max_bytes: Of all members together.
        max_ratio: Of these bytes to those of the archive.
        max_members: Of files.

    Raises:
        ValueError: If the file is not a whole zip; a member would land outside the folder, under a name that some
            system takes for another, or on top of another member; is a link or anything else than a file; shares its
            bytes with another (Fifield, «A better zip bomb», WOOT 2019); or if the unpacked size is beyond reason.
        OSError: The disk is full or not writable.
    """
    if folder.exists():
        raise ValueError(f"{archive} would be unpacked into {folder}, which exists: move it away first")
    with _opened(archive) as opened, whole_directory(folder, durable=True) as partial:
        for member in _checked(archive, opened, max_bytes, max_ratio, max_members):
            _write(archive, opened, member, partial)
    return folder


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except _DAMAGED as error:
        raise _not_whole(archive, error) from error


def _not_whole(archive: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{archive} is not a whole zip file ({reason_of(error)}): delete it and fetch it again "
        "(data.download=true does so and checks it)"
    )


def _checked(
    archive: Path, opened: zipfile.ZipFile, max_bytes: int, max_ratio: int, max_members: int
) -> list[zipfile.ZipInfo]:
    """The members that are files, once all of them have been looked at."""
    if len(opened.infolist()) > max_members:
        raise ValueError(f"{archive}: {len(opened.infolist()):,} members, at most {max_members:,}; not unpacked")
    for member in opened.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind == stat.S_IFLNK:
            raise ValueError(f"{archive}: member {member.filename!r} is a link; not unpacked")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{archive}: member {member.filename!r} is no file; not unpacked")
    # The name as it stands in the archive: the module cuts it at a NUL.
    members = [member for member in opened.infolist() if not member.orig_filename.endswith(("/", "\\"))]
    folders = [member.orig_filename for member in opened.infolist() if member.orig_filename.endswith(("/", "\\"))]
    check_names([member.orig_filename for member in members], folders, str(archive))
    _check_sizes(archive, members, max_bytes, max_ratio)
    _check_places(archive, members)
    return members


def _check_sizes(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int, max_ratio: int) -> None:
    total = sum(member.file_size for member in members)
    packed = archive.stat().st_size
    if total > max_bytes or total > max_ratio * packed:
        raise ValueError(
            f"{archive}: {packed:,} bytes would unpack to {total:,} (at most {max_bytes:,}, and {max_ratio} times the "
            "archive); this is not a data release, so it was not unpacked"
        )


def _check_places(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """No two members may lie over each other: a kernel of bytes read by thousands of them unpacks to petabytes."""
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise ValueError(f"{archive}: member {member.filename!r} shares its bytes with another; not unpacked")
        end = member.header_offset + _HEADER_BYTES + member.compress_size


def _write(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*parts_of(member.orig_filename))
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as sink:
        try:
            # zipfile stops at the size that the archive tells, and compares the checksum of what came till there.
            with opened.open(member) as source:
                shutil.copyfileobj(source, sink, 2**20)
        except OSError as error:
            if error.errno is None:  # of the decompressor, not of the disk
                raise _not_whole(archive, error) from error
            raise
        except _DAMAGED as error:
            raise _not_whole(archive, error) from error
        if sink.tell() != member.file_size:
            raise _not_whole(archive, EOFError(f"{member.filename!r} ends after {sink.tell():,} bytes"))
