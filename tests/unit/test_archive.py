import stat
import zipfile

import pytest

from towerrec.data.sources.archive import safe_unzip


def archive_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return path


def test_a_zip_appears_as_a_folder(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"x/one.csv": "1", "two.csv": "2"})
    folder = safe_unzip(archive, tmp_path / "out")
    assert (folder / "x/one.csv").read_text() == "1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil"])
def test_no_member_leaves_the_folder(tmp_path, name):
    archive = archive_of(tmp_path / "a.zip", {"good": "1", name: "bad"})
    with pytest.raises(ValueError, match="outside the folder"):
        safe_unzip(archive, tmp_path / "deep/out") if (tmp_path / "deep").mkdir() is None else None
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.zip", "deep"]


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(ValueError, match="is a link"):
        safe_unzip(archive_of(tmp_path / "a.zip", {link: "/etc/passwd"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bombs_are_refused_by_ratio_and_by_size(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"zeros": "0" * 1_000_000})
    for limits in ({"max_ratio": 100}, {"max_ratio": 10_000, "max_bytes": 999_999}):
        with pytest.raises(ValueError, match="would unpack to 1,000,000"):
            safe_unzip(archive, tmp_path / "out", **limits)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_member_damaged_inside_is_found_by_its_checksum(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("text", "abcdefgh" * 100)
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abcdefgX", 1))
    with pytest.raises(ValueError, match="not a whole zip file"):
        safe_unzip(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(ValueError, match="move it away"):
        safe_unzip(archive_of(tmp_path / "a.zip", {"x": "1"}), tmp_path / "out")
    assert (tmp_path / "out/mine").exists()
