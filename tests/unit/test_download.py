"""Downloads against a server on this machine that behaves well, breaks off, or lies."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_kuairec import zipped

from towerrec.data.sources.download import download
from towerrec.data.sources.kuairec import KuaiRec

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; `break_after` cuts a connection, `announce` lies about the size, `ranges` may be off."""

    def __init__(self, content=CONTENT, *, break_after=None, announce=None, ranges=True, status=None, chunked=False):
        self.content, self.break_after, self.announce, self.ranges = content, break_after, announce, ranges
        self.status, self.chunked = status, chunked
        self.asked = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/KuaiRec.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if not server.chunked:
            self.send_header("Content-Length", str(server.announce or len(body)))
        self.end_headers()
        self.wfile.write(body[: server.break_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    running = []

    def start(*args, **settings):
        running.append(Server(*args, **settings))
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def fetch(server, folder, **more):
    settings = {"size": len(CONTENT), "md5": MD5, "attempts": 3, "pause": 0, "timeout": 5} | more
    return download(server.url, folder / "KuaiRec.zip", **settings)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(tmp_path, serve):
    server = serve()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    fetch(server, tmp_path)
    assert server.asked == [None]
    assert names(tmp_path) == ["KuaiRec.zip"]


def test_a_broken_connection_goes_on_where_it_ended(tmp_path, serve):
    server = serve(break_after=409_600)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=409600-", "bytes=819200-"]


def test_what_arrived_is_kept_for_the_next_command(tmp_path, serve):
    with pytest.raises(OSError, match=r"after 311,296 of 1,024,000 bytes.*run the command again"):
        fetch(serve(break_after=311_296), tmp_path, attempts=1)
    assert names(tmp_path) == ["KuaiRec.zip.part"]
    server = serve()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=311296-"]


def test_a_server_without_ranges_starts_again_from_the_beginning(tmp_path, serve):
    (tmp_path / "KuaiRec.zip.part").write_bytes(b"half of something else")
    assert fetch(serve(ranges=False), tmp_path).read_bytes() == CONTENT


def test_a_server_that_announces_another_size_is_not_believed(tmp_path, serve):
    with pytest.raises(ValueError, match=r"announces 5,000,000 bytes, expected 1,024,000"):
        fetch(serve(announce=5_000_000), tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_announces_nothing_and_sends_more_is_cut_off(tmp_path, serve):
    with pytest.raises(ValueError, match="sends more than the expected 1,024,000"):
        fetch(serve(CONTENT * 3, chunked=True), tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_announces_nothing_and_ends_early_counts_as_broken(tmp_path, serve):
    with pytest.raises(OSError, match=r"after 5 of 1,024,000 bytes"):
        fetch(serve(b"short", chunked=True), tmp_path, attempts=1)


def test_a_wrong_file_of_the_right_size_never_gets_its_name(tmp_path, serve):
    (tmp_path / "KuaiRec.zip").write_bytes(b"what was there before")
    with pytest.raises(ValueError, match=f"another MD5 than {MD5}"):
        fetch(serve(CONTENT[::-1]), tmp_path)
    assert (tmp_path / "KuaiRec.zip").read_bytes() == b"what was there before"
    assert names(tmp_path) == ["KuaiRec.zip"]


def test_an_answer_that_is_not_the_file_is_told_by_its_number(tmp_path, serve):
    with pytest.raises(ValueError, match="HTTP 404"):
        fetch(serve(status=404), tmp_path)
    busy = serve(status=503)
    with pytest.raises(OSError, match="HTTP 503"):
        fetch(busy, tmp_path)
    assert len(busy.asked) == 3


def test_a_disk_without_room_is_told_before_the_download(tmp_path, serve):
    server = serve()
    with pytest.raises(OSError, match="make room first"):
        fetch(server, tmp_path, size=2**60)
    assert server.asked == []


def test_kuairec_downloads_unpacks_and_reads_in_one_step(tmp_path, serve):
    content = zipped(tmp_path / "made.zip").read_bytes()
    server = serve(content, break_after=20_000)
    settings = {"url": server.url, "size": len(content), "md5": hashlib.md5(content).hexdigest()}
    source = KuaiRec(data_dir=str(tmp_path / "data"), download=True, **settings)
    assert source.read().interactions.collect().height == 9
    asked = len(server.asked)
    assert KuaiRec(data_dir=str(tmp_path / "data"), download=True, **settings).files()
    assert len(server.asked) == asked
