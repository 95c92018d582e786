import errno
import fcntl
import json
import logging
import os
import random
import signal
import time
import zlib
from pathlib import Path

import pytest
from disk_faults import flip_bit, in_child, kills

from towerrec import checksums
from towerrec.data import cache, locks
from towerrec.data.cache import CHECKED, MANIFEST, cached, damage, is_complete, write_directory
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


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1_000, 70_000, 199_999], ids=["first", "early", "middle", "last"])
def test_one_bit_is_found_wherever_it_flips_and_the_file_is_named(tmp_path, monkeypatch, caplog, at):
    monkeypatch.setattr(checksums, "PIECE", 65_536)
    monkeypatch.setattr(checksums, "_BUFFER", 4_096)
    directory, _ = cached(tmp_path, "key", write("x" * 200_000))
    flip_bit(directory / "sub" / "data.bin", at)
    first = at // 65_536 * 65_536
    piece = f"bytes {first:,} to {min(first + 65_536, 200_000):,}"
    assert damage(directory) == f"sub/data.bin is damaged: {piece} are not those that were written"
    with caplog.at_level(logging.WARNING):
        assert cached(tmp_path, "key", write("x" * 200_000)) == (directory, False)
    assert caplog.messages == [f"{directory}/{damage_of(piece)}; preparing it again"]
    caplog.clear()
    assert cached(tmp_path, "key", refuse) == (directory, True)
    assert not caplog.messages


def damage_of(piece):
    return f"sub/data.bin is damaged: {piece} are not those that were written"


def test_a_damaged_directory_that_cannot_be_made_again_is_left_as_it_is(tmp_path):
    directory, _ = cached(tmp_path, "key", write("old"))
    flip_bit(directory / "sub" / "data.bin", 0)

    def full(directory):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"could not write .*key"):
        cached(tmp_path, "key", full)
    assert damage(directory) is not None


def test_what_was_checked_a_moment_ago_is_not_read_again_unless_it_was_touched(tmp_path, monkeypatch):
    directory, _ = cached(tmp_path, "key", write("0123456789"))
    file = directory / "sub" / "data.bin"
    looked = []
    real = checksums.damage
    monkeypatch.setattr(checksums, "damage", lambda *given: looked.append(1) or real(*given))
    cached(tmp_path, "key", refuse)
    assert not looked
    # Whoever changes a byte and sets the times back still leaves a trace: the moment of the change itself.
    stat = file.stat()
    flip_bit(file, 5)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not cached(tmp_path, "key", write("new"))[1]
    assert looked


@pytest.mark.parametrize("hours", [-1, 2], ids=["in the future", "long ago"])
def test_what_was_checked_long_ago_is_read_again(tmp_path, hours):
    directory, _ = cached(tmp_path, "key", write("0123456789"))
    noted = json.loads((directory / CHECKED).read_text())
    (directory / CHECKED).write_text(json.dumps({**noted, "at": time.time() - 3_600 * hours}))
    assert cached(tmp_path, "key", refuse)[1]
    assert abs(json.loads((directory / CHECKED).read_text())["at"] - time.time()) < 60


def test_a_directory_of_the_first_format_is_read_and_known_byte_by_byte_from_then_on(tmp_path):
    directory, _ = cached(tmp_path, "key", write("x" * 200_000))
    data = (directory / "sub" / "data.bin").read_bytes()
    ends = zlib.crc32(data[-65_536:], zlib.crc32(data[:65_536]))
    (directory / MANIFEST).write_text(json.dumps({"sub/data.bin": [len(data), ends]}))
    (directory / CHECKED).unlink()
    assert is_complete(directory)
    assert cached(tmp_path, "key", refuse) == (directory, True)
    flip_bit(directory / "sub" / "data.bin", 100_000)
    assert "bytes 0 to 200,000" in str(damage(directory))
    (directory / MANIFEST).write_text(json.dumps({"sub/data.bin": [len(data), ends + 1]}))
    assert damage(directory) == "sub/data.bin is damaged: it is not what was written"


def test_a_process_killed_at_any_moment_of_preparing_leaves_nothing_that_is_taken_for_whole(tmp_path):
    for number in kills(lambda: cached(tmp_path / "cache", f"key-{number_of(tmp_path)}", write("all of it"))):
        key = f"key-{number_of(tmp_path)}"
        directory, _ = cached(tmp_path / "cache", key, write("all of it"))
        assert (directory / "sub" / "data.bin").read_text() == "all of it"
        # A lock file may stay, of nobody.
        left = {path.name for path in directory.parent.iterdir()} - {f"key-{n}" for n in range(number)}
        assert left <= {f".lock-key-{n}" for n in range(number)}
        (tmp_path / f"killed-{number}").touch()


def number_of(tmp_path):
    return len(list(tmp_path.glob("killed-*")))


# --- several processes -----------------------------------------------------------------------------------------------


def test_many_processes_killed_at_random_never_leave_a_cache_that_reads_wrong(tmp_path):
    draw = random.Random(0)
    keys = ["a", "b"]

    def slowly(directory: Path) -> None:
        for number in range(5):
            (directory / str(number)).write_text("x" * 3_000)
            time.sleep(0.001)

    def work() -> None:
        for _ in range(200):
            for key in keys:
                directory, _ = cached(tmp_path, key, slowly)
                assert (directory / "2").read_text() == "x" * 3_000
            if os.getpid() % 3 == 0:  # some of them damage it
                with (tmp_path / key / "3").open("r+b") as file:
                    file.write(b"y")

    def started() -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        return child

    children = [started() for _ in range(6)]
    for _ in range(30):
        time.sleep(draw.random() * 0.02)
        place = draw.randrange(len(children))
        os.kill(children[place], signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(children[place], 0)[1]) in (-9, 0)
        children[place] = started()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for key in keys:
        directory, _ = cached(tmp_path, key, slowly)
        assert is_complete(directory)
    assert {path.name for path in tmp_path.iterdir()} - {".lock-a", ".lock-b"} == {"a", "b"}


def test_whoever_waits_longer_than_a_moment_says_for_whom(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "SAYS_AFTER_S", 0.05)
    child = os.fork()
    if child == 0:
        with alone(tmp_path / "key"):
            (tmp_path / "begun").touch()
            time.sleep(0.3)
        os._exit(0)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    with caplog.at_level(logging.INFO):
        cached(tmp_path, "key", write("one"))
    os.waitpid(child, 0)
    (said,) = caplog.messages
    assert said.startswith(f"waiting for process {child} on ") and f"prepares {tmp_path / 'key'}; if it hangs" in said


def test_where_the_file_system_has_no_locks_everybody_makes_the_same_and_says_so(tmp_path, monkeypatch, caplog):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)

    def slowly(directory):
        time.sleep(0.05)
        (directory / "data").write_text("all of it")

    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            directory, _ = cached(tmp_path / "cache", "key", slowly)
            os._exit(0 if is_complete(directory) else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    cached(tmp_path / "cache", "other", slowly)
    assert caplog.messages == [
        f"{tmp_path / 'cache'}: this file system has no locks, so processes that start together do the same work"
    ]


def test_a_cache_that_may_only_be_read_is_used_as_it_is(tmp_path, monkeypatch):
    directory, _ = cached(tmp_path, "key", write("one"))
    (directory / CHECKED).unlink()

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(cache, "write_json", read_only)
    monkeypatch.setattr(Path, "mkdir", read_only)
    assert cached(tmp_path, "key", refuse) == (directory, True)
    with pytest.raises(OSError, match=r"could not write .*other .Read-only file system.: get the right"):
        cached(tmp_path, "other", write("one"))


def test_a_lock_that_cannot_be_made_is_one_readable_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not write .*key \(.*file is a file, not a folder\)"):
        cached(tmp_path / "file", "key", refuse)


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path):
    def die() -> None:
        with alone(tmp_path / "key"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert (tmp_path / ".lock-key").exists()
    began = time.monotonic()
    cached(tmp_path, "key", write("one"))
    assert time.monotonic() - began < 1
    assert not (tmp_path / ".lock-key").exists()
