"""A log whose ids, texts and column names would do something, from end to end: nothing written or printed acts."""

from __future__ import annotations

import csv
import shlex
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from browser import browser
from commands import Outcome, command
from markdown import markdown  # comes with TensorBoard, which shows texts with it
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.util.tensor_util import make_ndarray

ACTING = [
    '=HYPERLINK("http://127.0.0.1:9/","click")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1:A9)",
    "<script>window.pwned=1</script>",
    "\"><img src='http://127.0.0.1:9/x' onerror='window.pwned=1'>",
    "</style><script>window.pwned=1</script>",
    "</title></text></svg><svg onload=window.pwned=1>",
    "' onmouseover='window.pwned=1",
    "[link](javascript:window.pwned=1) ```",
    "\x1b[31mred\x1b]0;pwned\x07",
    "\x1b]8;;http://127.0.0.1:9/\x1b\\link",
    "a\u202egpj.exe",
    "tab\tand\nline\r\x00 end",
]
PLACE = "日志 #1 (it's) %41=x"


class Page(HTMLParser):
    """Tags, and attributes that could run or fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.doing: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        outside = ("http:", "https:", "javascript:", "//")
        self.doing += [(k, v) for k, v in attrs if k.startswith("on") or (v or "").strip().startswith(outside)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name is hard to say, with a log of such ids and their captions."""
    folder = tmp_path_factory.mktemp("hostile") / PLACE
    folder.mkdir()
    items = [f"{text} {n}" for n in range(2) for text in ACTING]
    rows = [
        (f"{ACTING[u % len(ACTING)]} {u}", items[(u * 3 + k * k) % len(items)], (u + k) % 2)
        for u in range(30)
        for k in range(9)
    ]
    log = pl.DataFrame(rows, schema=["user", "item", "liked"], orient="row").unique(maintain_order=True)
    log.write_parquet(folder / "log [1].parquet")
    caption = [ACTING[n % len(ACTING)] for n in range(len(items))]
    pl.DataFrame(
        {"item": items, f"{ACTING[4]}\t\n": caption, "topic": caption, "\x1b[2J": [n % 3 for n in range(len(items))]}
    ).write_parquet(folder / "items #2.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> Outcome:
    return command(
        "train.py",
        "data=interactions",
        f"data.interactions={place / 'log [1].parquet'}",
        f"data.items={place / 'items #2.parquet'}",
        "data.columns.user=user",
        "data.columns.item=item",
        "data.columns.label=liked",
        "eval.ks=[3]",
        "eval.num_resamples=20",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        f"paths.data_dir={place / 'data'}",
        f"hydra.run.dir={place / 'run ~1'}",
    )


def silent(text: str) -> bool:
    """Whether a terminal would show every letter and obey none."""
    return all(letter in "\n\t" or (letter.isprintable() or letter in "\u200b\u3000") for letter in text)


def test_training_says_every_name_and_obeys_none(trained: Outcome):
    assert trained.code == 0, trained.err
    assert silent(trained.out), [letter for letter in trained.out if not letter.isprintable() and letter != "\n"]


def test_the_commands_that_are_printed_can_be_typed(trained: Outcome, place: Path):
    (line,) = [line for line in trained.out.splitlines() if "recommend.py" in line]
    words = shlex.split(line)[2:]
    output = place / "lists, (2).csv"
    outcome = command(
        "recommend.py", *words, "n=3", "format=csv", f"output={output}", f"paths.log_dir={place / 'logs'}"
    )
    assert outcome.code == 0, outcome.err
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = set(pl.read_parquet(place / "log [1].parquet", glob=False)["item"])
    assert len(rows) == 90 and {row["item_id"] for row in rows} <= known, "ids stay what they are, for programs"


def test_an_error_shows_what_a_name_would_do(place: Path, trained: Outcome):
    users = place / "users.csv"
    users.write_text('user_id\n"\x1b[31mnobody\x1b]0;pwned\x07"\n')
    outcome = command("recommend.py", f"run={place / 'run ~1'}", f"users={users}", f"paths.log_dir={place / 'logs'}")
    assert outcome.code == 1 and "\x1b" not in outcome.err + outcome.out and "nobody" in outcome.message


def test_pages_hold_no_tag_that_a_name_brought(place: Path, trained: Outcome):
    page = Page((place / "run ~1" / "evaluation" / "report.html").read_text(encoding="utf-8"))
    assert not page.tags & {"script", "img", "iframe", "object"} and page.doing == []


def test_the_projector_has_a_line_an_item(place: Path, trained: Outcome):
    (metadata,) = (place / "run ~1").rglob("items_metadata.tsv")
    lines = metadata.read_text(encoding="utf-8").split("\n")[:-1]
    assert len(lines) == 1 + 2 * len(ACTING) and len({line.count("\t") for line in lines}) == 1
    assert silent("".join(lines).replace("\u202e", ""))


def test_pages_of_tensorboard_hold_no_tag_that_a_name_brought(place: Path, trained: Outcome):
    events = EventAccumulator(str(next((place / "run ~1").rglob("events.out*")).parent), size_guidance={"tensors": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("run/")]
    assert {"run/config", "run/data", "run/test"} <= set(tags)
    for tag in tags:
        (text,) = make_ndarray(events.Tensors(tag)[0].tensor_proto)
        page = Page(markdown_to_safe_html(text))
        assert not page.tags - {"p", "pre", "code"} and page.doing == [] and silent(text.decode())
        html = markdown(text.decode(), extensions=["tables", "fenced_code"])  # without what TensorBoard takes out
        assert not Page(html).tags - {"p", "pre", "code"}


@pytest.mark.slow
def test_nothing_of_the_page_runs_in_a_browser(place: Path, trained: Outcome):
    path = place / "run ~1" / "evaluation" / "report.html"
    with browser() as started:
        page = started.new_context(offline=True).new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.evaluate("() => document.querySelectorAll('details').forEach(e => { e.open = true })")
        page.evaluate("() => document.querySelectorAll('*').forEach(e => e.dispatchEvent(new Event('mouseover')))")
        assert page.evaluate("() => typeof window.pwned") == "undefined" and said == []
