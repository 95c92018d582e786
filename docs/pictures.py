"""The pictures of the README and the example report, from a fresh run on simulated data.

    python docs/pictures.py

Trains on the built-in log on a pseudo-terminal, runs a small sweep, opens report, leaderboard and TensorBoard in the
system's chromium, and writes PNG files and report.html beside itself; about a minute. Needs `pip install -e ".[dev]"`,
chromium, and a font with Chinese letters for the captions (on Debian: apt install chromium fonts-wqy-microhei).
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parent
COLUMNS, ROWS = 128, 50
FIRST, LAST = 40, 6
MOST_BYTES = 200_000
SWEEP = [
    "-m",
    "data=demo",
    "data.demo.scale=tiny",
    "eval.ks=[10,20]",
    "trainer.max_epochs=6",
    "trainer.log_every_n_steps=20",
]
SWEEP += ["model.embedding_dim=8,32", "optimizer.lr=0.001,0.01", "hydra.sweep.dir=logs/sweep/widths"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in ("train.py", "conf"):
            (place / part).symlink_to(ROOT / part)
        screen = on_terminal(["train.py"], place)
        (run,) = (place / "logs" / "train").iterdir()
        shutil.copyfile(run / "evaluation" / "report.html", HERE / "report.html")
        on_terminal(["train.py", *SWEEP], place)
        sweep = place / "logs" / "sweep" / "widths"
        with sync_playwright() as tool:
            browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            save(terminal_page(browser, screen), "training.png")
            report = HERE / "report.html"
            save(opened(browser, report, width=1080, height=820), "report.png")
            save(opened(browser, report, at="the-figures", width=1080, height=1180), "report_figures.png")
            save(
                opened(browser, report, at="longer-and-shorter-lists", width=390, height=844, dark=True),
                "report_phone.png",
            )
            save(
                opened(browser, report, at="map-of-the-items", width=390, height=844, dark=True), "report_phone_map.png"
            )
            save(opened(browser, sweep / "leaderboard.html", width=1080, height=1100), "leaderboard.png")
            with tensorboard(sweep) as address:
                save(hparams_page(browser, address), "tensorboard_hparams.png")
                save(scalars_page(browser, address), "tensorboard.png")
            browser.close()
    for path in sorted(HERE.iterdir()):
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:,.0f} kB")


# --- a terminal ------------------------------------------------------------------------------------------------------


def on_terminal(words: list[str], place: Path) -> list[str]:
    """Run `python WORDS` on a terminal of its own; returns the lines that stand on it in the end."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(place)
        os.environ |= {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
        os.execv(sys.executable, [sys.executable, *words])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        written += more
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise SystemExit(written.decode(errors="replace"))
    return lines_of(written.decode(errors="replace"))


def lines_of(written: str) -> list[str]:
    """What a terminal shows of text with carriage returns and movements of the cursor."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for part in re.finditer(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[\d;?]*[A-Za-z]|\r|\n|.", written):
        text = part[0]
        if part[2] == "A":
            row = max(row - int(part[1] or 1), 0)
        elif part[2] == "K":
            del rows[row][column:]
        elif text == "\r":
            column = 0
        elif text == "\n":
            row, column = row + 1, 0
            rows += [[] for _ in range(row + 1 - len(rows))]
        elif not text.startswith("\x1b"):
            line = rows[row]
            line += [" "] * (column + 1 - len(line))
            line[column] = text
            column += 1
    return ["".join(line).rstrip() for line in rows]


def terminal_page(browser: Browser, lines: list[str]) -> Page:
    """What stands on the terminal: how it begins and how it ends."""
    rows = [row for line in lines for row in wrap(line)]
    shown = ["$ python train.py", *rows[:FIRST], "", "    ...", "", *rows[-LAST:]]
    page = browser.new_page(viewport={"width": 1130, "height": 20 * len(shown) + 36}, device_scale_factor=1.4)
    page.set_content(
        "<style>body{margin:0;background:#16181b;color:#e8e9ea;font:14px/20px 'DejaVu Sans Mono',monospace}"
        "pre{margin:0;padding:18px 22px;font:inherit;white-space:pre}</style>"
        f"<pre>{escape(chr(10).join(shown))}</pre>"
    )
    return page


def wrap(line: str) -> list[str]:
    """A line in as many rows as a terminal gives it."""
    return [line[start : start + COLUMNS] for start in range(0, max(len(line), 1), COLUMNS)]


# --- pages -----------------------------------------------------------------------------------------------------------


def opened(browser: Browser, path: Path, *, at: str = "", width: int, height: int, dark: bool = False) -> Page:
    """A page of ours, scrolled to a section."""
    scheme: Any = "dark" if dark else "light"
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"{path.resolve().as_uri()}{f'#{at}' if at else ''}")
    page.wait_for_timeout(1500)  # until the page has scrolled there
    return page


@contextmanager
def tensorboard(logs: Path) -> Iterator[str]:
    """A TensorBoard over the logs, at the address that is yielded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", str(logs), "--port", str(port), "--host", "127.0.0.1"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-m", "tensorboard.main", *words], stdout=quiet, stderr=quiet) as process:
        try:
            for _ in range(200):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs") as answer:
                        if answer.read().count(b"/result") == len(list(logs.glob("*/run.json"))):
                            break
                except OSError:
                    pass
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def hparams_page(browser: Browser, address: str) -> Page:
    """The table of HParams: what was swept, and the main figures."""
    page = browser.new_page(viewport={"width": 1700, "height": 400})
    page.goto(f"{address}/#hparams")
    page.get_by_text("TABLE VIEW").wait_for()
    page.get_by_text("optimizer.lr").first.wait_for()
    page.wait_for_timeout(1500)
    for name in ("data", "data.demo.scale", "label"):
        box = page.locator("vaadin-checkbox, paper-checkbox").filter(has_text=re.compile(rf"^\s*{re.escape(name)}\s*$"))
        if box.count():
            box.first.click()
    page.wait_for_timeout(800)
    return page


def scalars_page(browser: Browser, address: str) -> Page:
    """Curves of all runs."""
    page = browser.new_page(viewport={"width": 1500, "height": 800})
    page.goto(f"{address}/#timeseries")
    page.get_by_text("Pinned").wait_for()
    page.get_by_role("combobox", name="Filter tags (regex)").fill("val/(ndcg@20|loss)|train/loss$|norms/items")
    page.get_by_text("val/ndcg@20").last.wait_for()
    page.get_by_role("button", name="Settings").first.click()
    page.wait_for_timeout(2500)
    return page


def save(page: Page, name: str) -> None:
    """Write what the page shows, with as many colours as fit."""
    page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    for colours in (256, 128, 64, 32, 16):
        written = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
        if written.tell() <= MOST_BYTES:
            break
    (HERE / name).write_bytes(written.getvalue())


if __name__ == "__main__":
    main()
