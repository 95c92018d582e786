"""The report as a browser shows it: whole without a network, on a phone and on a desk, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser as started_browser
from report_parts import EVIL, whole_report

from towerrec.report.html import page
from towerrec.report.page import Section, page_of
from towerrec.report.table import Cell, table

pytestmark = pytest.mark.slow

# Contrast of every text with the colour behind it (WCAG 2.2), computed from what the browser drew.
CONTRASTS = """() => {
  const part = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 };
  const rgb = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = rgb(c); return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b) };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if ((rgb(c)[3] ?? 1) > 0) return c;
    }
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getBoundingClientRect().width) continue;
    const style = getComputedStyle(e), ink = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => x - y);
    found.push([(b + 0.05) / (a + 0.05), e.textContent.slice(0, 40)]);
  }
  return found;
}"""
LETTERS = """() => [...document.querySelectorAll("svg[role=img] text")].map(e => {
  const svg = e.ownerSVGElement;
  return parseFloat(getComputedStyle(e).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
})"""
CHARTS = """() => [...document.querySelectorAll("svg[role=img]")].map(e => {
  const box = e.getBoundingClientRect(), inner = e.getBBox();
  return [box.width, box.height, inner.width, inner.height];
})"""
OUTSIDE = """() => [...document.querySelectorAll("svg[role=img] text")].filter(e => {
  const text = e.getBBox(), frame = e.ownerSVGElement.viewBox.baseVal;
  return text.x < -3 || text.y < -3 || text.x + text.width > frame.width + 3 || text.y + text.height > frame.height + 3;
}).map(e => e.textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(whole_report(EVIL)), encoding="utf-8")
    return path


def shown(browser: Any, report: Path, *, width: int = 1280, scheme: str = "light", script: bool = True) -> Any:
    """The page, with all that is folded opened; requests that leave the file fail the test."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True, java_script_enabled=script
    )
    page = context.new_page()
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.said.append(request.url) if request.url != report.as_uri() else None)
    page.goto(report.as_uri())
    if script:
        page.evaluate("() => document.querySelectorAll('details').forEach(e => { e.open = true })")
    return page


def test_the_page_opens_without_a_network_and_without_a_word_on_the_console(browser: Any, report: Path):
    page = shown(browser, report)
    assert page.said == []
    assert page.title().startswith("Judged") and page.locator("section").count() == 16


def test_the_page_says_the_same_without_script(browser: Any, report: Path):
    page = shown(browser, report, script=False)
    assert page.locator("h1").inner_text().startswith("Judged") and page.locator("svg[role=img]").count() > 15


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen_and_every_chart_can_be_seen(browser: Any, report: Path, width: int):
    page = shown(browser, report, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate(CHARTS)
    assert len(boxes) > 15 and all(size > 20 for box in boxes for size in box)
    assert min(page.evaluate(LETTERS)) >= 12
    assert page.evaluate(OUTSIDE) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_what_a_part_is_made_of_stays_in_its_column(browser: Any, tmp_path: Path, width: int):
    names = ", ".join(f"onehot_feat{number}" for number in range(4))
    path = tmp_path / "table.html"
    body = table(["", "worth"], [[Cell("onehot", f"user: {names}"), Cell("+0.1", "-0.1 to +0.3")]])
    path.write_text(page_of("t", [Section("s", body)], lead=""), encoding="utf-8")
    ends = "[...document.querySelectorAll('th')].map(e => [e.scrollWidth, e.clientWidth])"
    assert all(content <= room for content, room in shown(browser, path, width=width).evaluate(ends))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_is_readable_in_both_modes(browser: Any, report: Path, scheme: str):
    found = shown(browser, report, scheme=scheme).evaluate(CONTRASTS)
    assert len(found) > 300
    assert [entry for entry in found if entry[0] < 4.5] == []


def test_the_dark_is_dark_and_paper_is_light(browser: Any, report: Path):
    colour = "getComputedStyle(document.body).backgroundColor"
    page = shown(browser, report, scheme="dark")
    dark, light = page.evaluate(colour), shown(browser, report).evaluate(colour)
    assert (dark, light) == ("rgb(22, 24, 27)", "rgb(252, 252, 251)")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(colour) == light
