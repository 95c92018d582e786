import errno
import os
import time

import pytest

from towerrec.data.cache import MANIFEST, cached, is_complete, write_directory
from towerrec.data.locks import alone


def write(text):
    def build(directory):
        (directory / "sub").mkdir()
        (directory / "sub" / "data.bin").write_text(text)

    return build


def refuse(directory):
    raise AssertionError("nothing had to be built")


def test_a_directory_is_built_once_and_found_again(tmp_path):
    directory, found = cached(tmp_path / "deep" / "cache", "key", write("one"))
    assert (directory / "sub" / "data.bin").read_text() == "one"
    assert not found
    assert cached(tmp_path / "deep" / "cache", "key", refuse) == (directory, True)
    assert [path.name for path in directory.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "no manifest", "half a manifest"])
def test_a_damaged_directory_never_loads_and_is_built_again(tmp_path, damage):
    directory, _ = cached(tmp_path, "key", write("0123456789"))
    data, manifest = directory / "sub" / "data.bin", directory / MANIFEST
    match damage:
        case "cut":
            data.write_text("01234")
        case "changed":
            data.write_text("012345678X")
        case "removed":
            data.unlink()
        case "no manifest":
            manifest.unlink()
        case "half a manifest":
            manifest.write_text(manifest.read_text()[:10])
    assert not is_complete(directory)
    again, found = cached(tmp_path, "key", write("new"))
    assert not found
    assert (again / "sub" / "data.bin").read_text() == "new"


@pytest.mark.parametrize("mistake", [KeyboardInterrupt, ValueError])
def test_an_interrupted_build_leaves_nothing(tmp_path, mistake):
    def build(directory):
        (directory / "half").write_text("half")
        raise mistake

    with pytest.raises(mistake):
        cached(tmp_path, "key", build)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_readable_error_and_the_old_directory_stays(tmp_path):
    def full(directory):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_directory(tmp_path / "catalogue", write("old"))
    with pytest.raises(OSError, match=r"could not write .*catalogue \(No space left on device\): free some space"):
        write_directory(tmp_path / "catalogue", full)
    assert (tmp_path / "catalogue" / "sub" / "data.bin").read_text() == "old"
    assert is_complete(tmp_path / "catalogue")
    assert [path.name for path in tmp_path.iterdir()] == ["catalogue"]


def test_a_complete_directory_is_replaced_by_a_newer_one(tmp_path):
    for text in ("old", "new"):
        write_directory(tmp_path / "catalogue", write(text))
    assert (tmp_path / "catalogue" / "sub" / "data.bin").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["catalogue"]


def test_two_processes_at_once_build_once_and_both_find_it(tmp_path):
    def slowly(directory):
        with (tmp_path / "built").open("a") as file:
            file.write("once\n")
        time.sleep(0.2)
        (directory / "data").write_text("all of it")

    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            directory, _ = cached(tmp_path / "cache", "key", slowly)
            os._exit(0 if is_complete(directory) else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0, 0]
    assert (tmp_path / "built").read_text() == "once\n"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key"]


def test_the_one_who_waited_builds_where_the_first_one_failed(tmp_path):
    child = os.fork()
    if child == 0:
        with alone(tmp_path / "key"):
            (tmp_path / "begun").touch()
            time.sleep(0.2)
            os.kill(os.getpid(), 9)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    directory, found = cached(tmp_path, "key", write("one"))
    assert not found and is_complete(directory)
    os.waitpid(child, 0)
