"""Downloads that resume, through pooch: it checks the hash before the file gets its name."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pooch
import requests

from towerrec import progress
from towerrec.wording import shortened

# Small, because what a broken connection had of a chunk is lost.
CHUNK = 2**14
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def download(
    url: str,
    target: Path,
    *,
    size: int,
    md5: str,
    attempts: int = 5,
    timeout: float = 30,
    pause: float = 1,
) -> Path:
    """Fetch `url` to `target`; nothing is fetched where the right file already lies there.

    What arrived before a connection broke stays in `<target>.part`, and the next call goes on from there.

    Args:
        size: Bytes of the file.
        md5: Its MD5, in hexadecimal.
        attempts: Connections tried before giving up.
        timeout: Seconds of silence after which a connection counts as broken.
        pause: Seconds before the second attempt; doubles each time.

    Raises:
        ValueError: If the server does not have this file: another size, another MD5, an HTTP error.
        OSError: If the connection keeps breaking or the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise OSError(f"{target.parent} has {free:,} bytes free, the download needs {size:,}: make room first")
    fetch = _Resuming(target.with_name(target.name + ".part"), size, attempts, timeout, pause)
    try:
        pooch.retrieve(url, f"md5:{md5}", fname=target.name, path=target.parent, downloader=fetch)
    except ValueError as error:
        if "hash" not in str(error):
            raise
        raise ValueError(
            f"{url}: what arrived has another MD5 than {md5}; it was deleted. Another file lies at this address, or it "
            "was damaged on the way: try again, or give data.url, data.size and data.md5 of the right one"
        ) from error
    return target


class _Resuming:
    """A downloader in the form that pooch calls."""

    def __init__(self, part: Path, size: int, attempts: int, timeout: float, pause: float) -> None:
        self.part, self.size, self.attempts, self.timeout, self.pause = part, size, attempts, timeout, pause

    def __call__(
        self, url: str, output_file: str | os.PathLike[str] | Any, pooch: Any, check_only: bool = False
    ) -> None:
        cause: Exception | None = None
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                self._fetch_rest(url)
            except BROKEN as error:
                cause = error
            if self._have() == self.size:
                self.part.replace(output_file)
                return
        raise OSError(
            f"{url}: the connection broke off after {self._have():,} of {self.size:,} bytes, {self.attempts} times "
            f"({cause or 'the server ended early'}). What arrived is kept in {self.part}: run the command again to "
            "go on from there"
        ) from cause

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _fetch_rest(self, url: str) -> None:
        if self._have() > self.size:
            self.part.unlink()
        if (have := self._have()) == self.size:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code >= 500:
                raise requests.ConnectionError(f"HTTP {response.status_code} {response.reason}")
            if response.status_code not in (200, 206):
                raise ValueError(f"{url}: the server answers HTTP {response.status_code} {response.reason}")
            start = have if response.status_code == 206 else 0
            self._check_announced(url, response, start)
            self._write(url, response, start)

    def _check_announced(self, url: str, response: requests.Response, start: int) -> None:
        """The server's own words about size and place must fit before a byte is written."""
        place = response.headers.get("Content-Range", "")
        if start and not place.startswith(f"bytes {start}-"):
            raise ValueError(f"{url}: asked to go on at byte {start}, the server answers {place!r}; delete {self.part}")
        length = response.headers.get("Content-Length")
        if length is None:
            return
        announced = f"{start + int(length):,}" if length.isdecimal() and len(length) < 20 else shortened(length)
        if announced != f"{self.size:,}":
            raise ValueError(
                f"{url}: the server announces {announced} bytes, expected {self.size:,}: it holds another "
                "file. Give data.url, data.size and data.md5 of the right one"
            )

    def _write(self, url: str, response: requests.Response, start: int) -> None:
        have = start
        bar = progress.bar(f"downloading {self.part.stem}", self.size, unit="B", initial=start)
        with bar as arrived, self.part.open("ab" if start else "wb") as sink:
            for chunk in response.iter_content(CHUNK):
                have += len(chunk)
                if have > self.size:
                    break
                sink.write(chunk)
                arrived.add(len(chunk))
        if have > self.size:
            self.part.unlink()
            raise ValueError(
                f"{url}: the server sends more than the expected {self.size:,} bytes; deleted what arrived"
            )
