"""Boards and comparisons of runs whose names and words would do something: as Markdown, as a page, on a terminal."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import markdown as markdown_library  # comes with TensorBoard, which renders its texts with it
import pytest
from test_comparing import judgement
from test_leaderboard import job, unfinished, users

from towerrec.comparing import compare, write_comparison
from towerrec.report import leaderboard
from towerrec.report.board import board
from towerrec.report.board_text import terminal
from towerrec.report.side_by_side_text import text
from towerrec.report.text import aligned
from towerrec.wording import fenced, in_markdown, printable

ACTING = (
    "<script>window.pwned=1</script>",
    "\"><img src='http://127.0.0.1:9/x' onerror='window.pwned=1'>",
    "[link](javascript:window.pwned=1)",
    "![picture](http://127.0.0.1:9/x.png)",
    "[a][b]\n\n[b]: http://127.0.0.1:9/",
    "<http://127.0.0.1:9/>",
    "`code` ```\n# head",
    "a | b | c\n| --- |",
    "*big* **bigger** a*b*c",
    "&lt;b&gt; &#60;b&#62;",
    "\\[link](http://127.0.0.1:9/)",
    "\\\\[link](http://127.0.0.1:9/)",
    "\x1b[31mred\x1b]0;pwned\x07",
    "a\u202egpj.exe",
    "\n\n<svg onload=window.pwned=1>\n\n",
    "$(touch pwned) `touch pwned` '; touch pwned; '",
)
TABLE = {"h1", "h2", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "pre", "code"}


class Rendered(HTMLParser):
    """Tags, attributes that could do something, and the text that a reader gets to see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.doing: list[tuple[str, str | None]] = []
        self.seen = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        outside = ("http:", "https:", "javascript:", "//", "data:")
        self.doing += [(k, v) for k, v in attrs if k.startswith("on") or (v or "").strip().startswith(outside)]

    def handle_data(self, data: str) -> None:
        self.seen += data


def rendered(text: str) -> Rendered:
    return Rendered(markdown_library.markdown(text, extensions=["tables", "fenced_code"]))


def silent(text: str) -> bool:
    return all(letter == "\n" or letter.isprintable() for letter in text)


@pytest.mark.parametrize("words", ACTING, ids=range(len(ACTING)))
@pytest.mark.parametrize("line", ["- {}", "# {}", "| {} | b |\n|---|---|\n| {} | {} |", "{}"])
def test_words_in_markdown_are_shown_as_they_stand(words: str, line: str):
    shown = in_markdown(words)
    found = rendered(line.format(shown, shown, shown))
    assert not found.tags - {"h1", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"} and not found.doing
    as_it_stands = "".join(printable(words.replace("\n", " ")).split())
    assert as_it_stands in "".join(found.seen.split())


@pytest.mark.parametrize("words", ACTING, ids=range(len(ACTING)))
def test_a_fenced_block_ends_where_it_should(words: str):
    found = rendered(f"before\n\n{fenced(words)}\n\nafter")
    assert found.tags == {"p", "pre", "code"} and found.seen.strip().endswith("after") and silent(found.seen)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A job for each of the words, every third failed with them as its reason."""
    root = tmp_path / "<img src=x> [sweep](http:x) | *1*"
    for number, words in enumerate(ACTING):
        if number % 3 == 2:
            unfinished(root, number, f"data.interactions={words}", said=f"{words} is bad", file="failed.txt")
        else:
            job(root, number, f"data.interactions={words}", val=users(0.2 + number / 100))
    return root


def test_a_leaderboard_shows_words_and_obeys_none(sweep: Path):
    leaderboard.write(sweep, num_resamples=20)
    found = rendered((sweep / "leaderboard.md").read_text(encoding="utf-8"))
    assert not found.tags - TABLE and not found.doing and silent(found.seen)
    page = Rendered((sweep / "leaderboard.html").read_text(encoding="utf-8"))
    assert not page.tags & {"script", "img", "iframe", "object"} and not page.doing
    head, rule, *lines = terminal(board(sweep, num_resamples=20)).split("\n")
    rows, said = lines[: len(ACTING)], lines[len(ACTING) :]
    assert silent("".join(lines)) and head.endswith("status") and set(rule) == {"-"}
    assert all(row[3:].startswith("data.interactions=") for row in rows)
    assert all(line.startswith("- ") for line in said)


def test_a_comparison_shows_names_and_obeys_none(tmp_path: Path):
    names = [words.replace("/", "∕") for words in ACTING]
    places = [judgement(tmp_path / name, number / 50, seed=number) for number, name in enumerate(names)]
    found = compare([str(place) for place in places], num_resamples=20)
    write_comparison(found, tmp_path / "out")
    page = rendered((tmp_path / "out" / "comparison.md").read_text(encoding="utf-8"))
    assert not page.tags - TABLE and not page.doing and silent(page.seen)
    whole = Rendered((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert not whole.tags & {"script", "img", "iframe", "object"} and not whole.doing
    said = text(found)
    assert silent(said) and "\\[link\\]" not in said, "a terminal shows no Markdown"


def test_columns_stand_below_each_other_whatever_is_in_them():
    lines = aligned([["", "n"], ["日志", "1"], ["a\nb\x1b", "22"], ["e\u0301", "3"], ["abcdefgh", "4"]])
    assert lines == [
        "           n",
        "------------",
        "日志       1",
        "a b\\x1b   22",
        "e\u0301          3",
        "abcdefgh   4",
    ]
