"""Archives that were made to do harm: refused by name, nothing is written outside and nothing stays half-done."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from towerrec.data.sources.archive import safe_unzip


def archive_of(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def refused(archive: Path, words: str, **limits: int) -> None:
    """The archive is refused with these words, and all that is there afterwards is the archive."""
    here = archive.parent
    inside, before = here / "deep" / "er", archive.read_bytes()
    inside.mkdir(parents=True)
    with pytest.raises(ValueError, match=words) as error:
        safe_unzip(archive, inside / "out", **limits)
    assert str(archive) in str(error.value) and len(str(error.value)) < 1_000
    assert sorted(p.name for p in here.rglob("*")) == sorted([archive.name, "deep", "er"])
    assert archive.read_bytes() == before


NAMES = {
    "parents": ("../evil", "outside the folder"),
    "parents in the middle": ("a/../../evil", "outside the folder"),
    "parents with backslashes": ("a\\..\\..\\evil", "outside the folder"),
    "root": ("/evil", "outside the folder"),
    "root with a backslash": ("\\evil", "outside the folder"),
    "network share": ("\\\\host\\share\\evil", "outside the folder"),
    "drive": ("C:\\evil", "outside the folder"),
    "drive without a slash": ("C:evil", "outside the folder"),
    "nothing but a dot": (".", "outside the folder"),
    "stream of a file": ("good.csv:hidden", "has a colon"),
    "line end": ("a\nb", "control characters"),
    "escape": ("a\x1b[31mb", "control characters"),
    "device": ("NUL", "name of a device"),
    "device in a folder": ("data/com1.csv", "name of a device"),
    "dot at the end": ("evil.", "ends in a dot or a space"),
    "space at the end of a folder": ("data /evil", "ends in a dot or a space"),
    "long name": ("x" * 300, "more than 255 bytes"),
    "deep name": ("x/" * 800 + "y", "more than 255 bytes"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, case: str):
    name, words = NAMES[case]
    refused(archive_of(tmp_path / "a.zip", [("good.csv", b"1"), (name, b"evil")]), words)


def test_a_name_behind_a_nul_is_read_as_it_stands(tmp_path: Path):
    path = archive_of(tmp_path / "a.zip", [("good.csvZ/../../evil", b"1")])
    path.write_bytes(path.read_bytes().replace(b"csvZ", b"csv\0"))
    refused(path, "outside the folder")
    (tmp_path / "deep" / "er").rmdir()
    (tmp_path / "deep").rmdir()
    path.write_bytes(path.read_bytes().replace(b"\0/../../evil", b"\0abcdefghijk"))
    refused(path, "control characters")


CLASHES = {
    "twice": (["a.csv", "a.csv"], "the same file"),
    "case": (["a.csv", "A.CSV"], "the same file"),
    "accents": (["\u00e9.csv", "e\u0301.csv"], "the same file"),
    "full width": (["a.csv", "\uff41.csv"], "the same file"),
    "slashes": (["d/a.csv", "d\\a.csv"], "the same file"),
    "dots": (["d/a.csv", "d/./a.csv"], "the same file"),
    "file and folder": (["d", "d/a.csv"], "a file and a folder at once"),
    "file and folder of another case": (["D", "d/a.csv"], "a file and a folder at once"),
    "file and empty folder": (["d", "d/"], "a file and a folder at once"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", CLASHES)
def test_two_members_that_mean_one_file_are_refused(tmp_path: Path, case: str):
    names, words = CLASHES[case]
    refused(archive_of(tmp_path / "a.zip", [(name, b"1") for name in names]), words)


KINDS = {
    "link": (stat.S_IFLNK, "is a link"),
    "pipe": (stat.S_IFIFO, "is no file"),
    "device": (stat.S_IFCHR, "is no file"),
}


@pytest.mark.parametrize("case", KINDS)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, case: str):
    kind, words = KINDS[case]
    member = zipfile.ZipInfo("thing")
    member.external_attr = (kind | 0o777) << 16
    refused(archive_of(tmp_path / "a.zip", [("good.csv", b"1"), (member, b"/etc/passwd")]), words)


def test_a_link_named_like_a_folder_is_refused(tmp_path: Path):
    member = zipfile.ZipInfo("thing/")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(archive_of(tmp_path / "a.zip", [(member, b""), ("thing/passwd", b"x")]), "is a link")


def test_members_that_share_their_bytes_are_refused_however_small_they_say_they_are(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * 1_000)
        archive.writestr("b", b"0" * 1_000)
        first, second = archive.infolist()
        second.header_offset = first.header_offset
    refused(path, "shares its bytes with another", max_ratio=10_000)


def test_more_members_than_any_release_has_are_refused(tmp_path: Path):
    refused(archive_of(tmp_path / "a.zip", [(str(n), b"") for n in range(21)]), "21 members", max_members=20)


def test_a_member_that_is_larger_than_it_says_is_found(tmp_path: Path):
    path = archive_of(tmp_path / "a.zip", [("zeros", b"0" * 1_000_000)])
    truth = struct.pack("<I", 1_000_000)
    assert path.read_bytes().count(truth) == 2
    path.write_bytes(path.read_bytes().replace(truth, struct.pack("<I", 100)))
    refused(path, "is not a whole zip file")


def test_a_member_that_is_smaller_than_it_says_is_found(tmp_path: Path):
    path = archive_of(tmp_path / "a.zip", [("text", b"abc" * 30)])
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 90), struct.pack("<I", 95)))
    refused(path, "is not a whole zip file")


def patched(path: Path, offset: int, value: int) -> Path:
    """A field of two bytes changed in the central directory and in the header before the member's bytes."""
    data = bytearray(path.read_bytes())
    central, local = data.index(b"PK\x01\x02"), data.index(b"PK\x03\x04")
    for start in (central + offset, local + offset - 2):
        data[start : start + 2] = struct.pack("<H", value)
    path.write_bytes(bytes(data))
    return path


def test_an_encrypted_member_and_an_unknown_compression_are_refused(tmp_path: Path):
    for case, (offset, value) in {"locked": (8, 1), "method": (10, 97)}.items():
        folder = tmp_path / case
        folder.mkdir()
        refused(patched(archive_of(folder / "a.zip", [("a", b"text" * 9)]), offset, value), "is not a whole zip file")


@pytest.mark.parametrize("kept", [0, 1, 10, 60, 150])
def test_a_cut_archive_is_refused(tmp_path: Path, kept: int):
    path = archive_of(tmp_path / "a.zip", [("a", bytes(range(256))), ("b", b"x" * 50)])
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "is not a whole zip file")


def test_a_bomb_in_a_bomb_stays_a_file(tmp_path: Path):
    inner = archive_of(tmp_path / "inner.zip", [("zeros", b"0" * 1_000_000)])
    outer = archive_of(tmp_path / "outer.zip", [("inner.zip", inner.read_bytes())])
    folder = safe_unzip(outer, tmp_path / "out")
    assert [p.name for p in folder.rglob("*")] == ["inner.zip"]


def test_names_of_all_languages_folders_and_backslashes_are_unpacked(tmp_path: Path):
    names = ["KuaiRec 2.0/data/大矩阵.csv", "data\\b.csv", "\U0001f600 #%=[]'.csv", "-x.csv"]
    folder = safe_unzip(archive_of(tmp_path / "a.zip", [("data/", b""), *((n, b"1") for n in names)]), tmp_path / "out")
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert found == sorted(name.replace("\\", "/") for name in names)
