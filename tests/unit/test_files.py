import errno
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from disk_faults import files_up_to, in_child, kills

from towerrec import files
from towerrec.files import read_json, restored, whole_directory, whole_file, write_json, write_text
from towerrec.npy import ColumnFile, save_array

OLD, NEW = "old " * 1000, "new " * 3000


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write_folder(path: Path, text: str) -> None:
    with whole_directory(path) as filled:
        (filled / "deep").mkdir()
        for name in ("one", "deep/two", "deep/three"):
            (filled / name).write_text(text)


def folder_text(path: Path) -> str:
    """The text that all files of `write_folder` have in common."""
    (text,) = {(path / name).read_text() for name in ("one", "deep/two", "deep/three")}
    return text


def leave(path: Path, process: str) -> Path:
    left = path.parent / f".{path.name}.{process}-0123abcd"
    (left / "new").mkdir(parents=True)
    return left


def test_files_and_folders_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "text", OLD)
        write_folder(tmp_path / "folder", OLD)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"text": 0o640, "folder": 0o750, "one": 0o640, "deep": 0o750, "two": 0o640, "three": 0o640}


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path):
    for name, write in (("file", write_text), ("folder", write_folder)):
        write(tmp_path / "elsewhere" / name, OLD)
        (tmp_path / name).symlink_to(Path("elsewhere") / name)
        write(tmp_path / name, NEW)
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == NEW == folder_text(tmp_path / "elsewhere" / "folder")
    assert names(tmp_path / "elsewhere") == ["file", "folder"]


def test_a_device_or_a_folder_is_not_replaced_by_a_file(tmp_path):
    for path in (Path("/dev/null"), tmp_path):
        with pytest.raises(OSError, match=r"could not write .* \(it is a folder or a device, not a file\)"):
            write_text(path, NEW)
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_not_ours_is_not_replaced(tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "summer.jpg").write_text("the only copy")
    with (
        pytest.raises(OSError, match=r"could not write .*photographs \(it is there and holds other.*summer.jpg\)"),
        whole_directory(tmp_path / "photographs", marker="manifest.json"),
    ):
        raise AssertionError("nothing had to be written")
    assert names(tmp_path / "photographs") == ["summer.jpg"]
    for text in ("first", "second"):  # the first finds an empty folder
        with whole_directory(tmp_path / "ours", marker="manifest.*") as filled:
            (filled / "manifest.json").write_text(text)
    assert (tmp_path / "ours" / "manifest.json").read_text() == "second"


def write_columns(path: Path) -> None:
    with whole_file(path) as written:
        column = ColumnFile(written, dtype=np.dtype(np.int64), num_rows=3000)
        column.put(0, np.arange(3000))
        column.close()


def with_file(write):
    def whole(path: Path) -> None:
        with whole_file(path) as written:
            write(written)

    return whole


WRITERS = {
    "text": lambda path: write_text(path, NEW),
    "json": lambda path: write_json(path, {"text": NEW}),
    "npy": with_file(lambda path: save_array(path, np.arange(3000))),
    "npy in pieces": write_columns,
    "parquet": with_file(lambda path: pl.DataFrame({"x": np.arange(3000)}).write_parquet(path, compression="lz4")),
    "csv": with_file(lambda path: pl.DataFrame({"x": np.arange(3000)}).write_csv(path)),
    "stream": with_file(lambda path: pl.LazyFrame({"x": np.arange(3000)}).sink_csv(path)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_keeps_the_old_file_and_says_which_was_to_be_written(tmp_path, kind):
    path = tmp_path / "file"
    path.write_text(OLD)
    with (
        files_up_to(8_192),
        pytest.raises(OSError, match=r"could not write .*file \(File too large\): free some space") as found,
    ):
        WRITERS[kind](path)
    assert found.value.errno == errno.EFBIG
    assert path.read_text() == OLD
    assert names(tmp_path) == ["file"]
    WRITERS[kind](path)
    assert path.stat().st_size > 8_192


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_a_wide_table_without_room_is_told_as_a_full_disk_though_polars_says_nothing_of_it(tmp_path, monkeypatch, free):
    wide = pl.DataFrame({f"a column {number}": np.arange(30) for number in range(150)})
    wide.write_parquet(tmp_path / "file")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    for limit in range(0, (tmp_path / "file").stat().st_size, 5_000):
        words = "File too large|Input/output error" if free else "File too large|No space left on device"
        with files_up_to(limit), pytest.raises(OSError, match=rf"could not write .*file \(({words})\): "):
            with_file(wide.write_parquet)(tmp_path / "file")
    assert pl.read_parquet(tmp_path / "file").equals(wide) and names(tmp_path) == ["file"]


@pytest.mark.parametrize("cut", [1, 100, 4000])
def test_an_array_that_lacks_its_last_bytes_is_an_error(tmp_path, cut):
    """With `numpy.save` it is none: C's stdio holds them back, and nobody looks when they do not come through."""
    array = np.arange(2048, dtype=np.int32)
    with files_up_to(128 + array.nbytes - cut), pytest.raises(OSError, match="File too large"):
        save_array(tmp_path / "a.npy", array)


@pytest.mark.parametrize(
    "array",
    [np.arange(6).reshape(2, 3).T, np.zeros((0, 3)), np.float32(2.5), np.array([True, False]), np.arange(9)[::2]],
    ids=["transposed", "empty", "number", "bool", "strided"],
)
def test_an_array_reads_back_as_numpy_would_have_written_it(tmp_path, array):
    save_array(tmp_path / "a.npy", np.asarray(array))
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(("number", "remedy"), [("ENOSPC", "free some space"), ("EIO", "choose another place")])
def test_what_does_not_reach_the_disk_does_not_get_its_name(tmp_path, monkeypatch, number, remedy):
    write_text(tmp_path / "file", OLD)
    write_folder(tmp_path / "folder", OLD)

    def fsync(handle):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(os, "fsync", fsync)
    for name, write in (("file", write_text), ("folder", write_folder)):
        with pytest.raises(OSError, match=rf"could not write .*{name} .*{remedy}"):
            write(tmp_path / name, NEW)
    assert (tmp_path / "file").read_text() == OLD == folder_text(tmp_path / "folder")
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("part", [whole_file, whole_directory])
def test_a_part_of_a_folder_that_cannot_be_written_is_told_by_the_name_of_the_folder(tmp_path, part):
    words = rf"could not write {tmp_path}/export \(No space left on device\): free"
    outer = whole_directory(tmp_path / "export")
    with pytest.raises(OSError, match=words) as error, outer as folder, part(folder / "index"):
        raise OSError(errno.ENOSPC, "full")
    assert error.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


def test_a_full_disk_of_its_own_is_no_different():
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True)
        if mounted.returncode != 0:
            pytest.skip(f"no small disk can be mounted here ({mounted.stderr.decode().strip()})")
        try:
            write_text(Path(place) / "file", OLD)
            for write in (
                lambda: write_text(Path(place) / "file", "x" * 100_000),
                lambda: write_folder(Path(place) / "folder", "x" * 30_000),
            ):
                with pytest.raises(OSError, match=r"No space left on device.*free some space"):
                    write()
            assert (Path(place) / "file").read_text() == OLD
            assert names(Path(place)) == ["file"]
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_folder_that_may_only_be_read_keeps_what_it_holds():
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_text(place / "file", OLD)

        def try_to_write() -> None:
            if os.geteuid() == 0:
                os.setuid(65_534)  # may not do everything, as root may
            with pytest.raises(OSError, match=r"Permission denied.*get the right to write there"):
                write_text(place / "file", NEW)
            with pytest.raises(OSError, match=r"Permission denied.*get the right to write there"):
                write_folder(place / "folder", NEW)

        place.chmod(0o555)
        try:
            assert in_child(try_to_write) == 0
            assert (place / "file").read_text() == OLD
            assert names(place) == ["file"]
        finally:
            place.chmod(0o755)


def test_errors_that_are_not_of_this_disk_stay_what_they_are(tmp_path):
    for error in (
        ValueError("the model has diverged"),
        FileNotFoundError(errno.ENOENT, "No such file", "/nowhere/items.csv"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        KeyboardInterrupt(),
    ):
        with pytest.raises(type(error)) as found, whole_file(tmp_path / "file") as written:
            written.write_text("half")
            raise error
        assert found.value is error
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "folder", "folder without exchange"])
def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new(tmp_path, monkeypatch, kind):
    if kind == "folder without exchange":
        monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    path, write = tmp_path / "it", write_text if kind == "file" else write_folder
    found = set()
    write(path, OLD)
    for _ in kills(lambda: write(path, NEW)):
        restored(path)  # as every reader of folders does
        found.add(path.read_text() if kind == "file" else folder_text(path))
        write(path, OLD)
        assert names(tmp_path) == ["it"]  # what the killed one left is gone
    assert found == {OLD, NEW}


def test_a_folder_moved_aside_by_a_killed_process_comes_back(tmp_path):
    write_folder(tmp_path / "it", OLD)
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    left = leave(tmp_path / "it", f"{socket.gethostname()}-{gone}")
    (tmp_path / "it").rename(left / "old")
    restored(tmp_path / "it")
    assert folder_text(tmp_path / "it") == OLD


def test_a_file_system_that_refuses_the_second_rename_gets_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    write_folder(tmp_path / "it", OLD)
    rename, seen = Path.rename, []

    def refuse(path, target):
        seen.append(path.name)
        if path.name == "new" and "it" in seen:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match=r"could not write .*it .Input/output error"):
        write_folder(tmp_path / "it", NEW)
    assert folder_text(tmp_path / "it") == OLD


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    path, host = tmp_path / "it", socket.gethostname()
    leave(path, f"{host}-{gone}")
    leave(path, f"{host}-{os.getpid()}")  # of a process that had our number before us
    alive, elsewhere = leave(path, f"{host}-{os.getppid()}"), leave(path, f"other-{gone}")
    old = leave(path, "another-1")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    other = leave(tmp_path / "it.json", f"{host}-{gone}")
    write_text(path, NEW)
    assert names(tmp_path) == sorted([alive.name, elsewhere.name, other.name, "it"])


def test_readers_of_a_folder_that_is_replaced_again_and_again_always_find_it(tmp_path):
    path = tmp_path / "it"
    write_folder(path, "0")
    child = os.fork()
    if child == 0:
        for number in range(10**9):
            write_folder(path, str(number))
    try:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert (path / "one").read_text().isdigit()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_names_may_be_as_long_as_a_file_system_allows(tmp_path):
    for name in ("x" * 255, "名" * 85, "a [b] *", ".hidden"):
        write_text(tmp_path / name, NEW)
        write_folder(tmp_path / f"{name[:-1]}F", NEW)
    assert len(names(tmp_path)) == 8
    shutil.rmtree(tmp_path)


def test_a_damaged_json_file_is_named(tmp_path):
    write_json(tmp_path / "run.json", {"caption": "名"})
    assert read_json(tmp_path / "run.json") == {"caption": "名"} == json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_bytes(b'{"caption": "\xff')
    with pytest.raises(ValueError, match=r"run\.json is damaged, it is not JSON"):
        read_json(tmp_path / "run.json")
