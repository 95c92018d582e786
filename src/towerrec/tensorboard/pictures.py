"""The charts of a report as pictures, for viewers that show no SVG."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

import resvg_py

from towerrec.report.charts import standalone

_PARTS = re.compile(r'<h2[^>]*>(?P<title>.*?)</h2>|(?P<chart><svg [^>]*aria-label="(?P<label>[^"]*)".*?</svg>)', re.S)
_LETTER = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"><text y="16">{}</text></svg>'


@dataclass(frozen=True)
class Chart:
    """A chart of a report: what it shows (no two of a page alike), and the SVG itself."""

    title: str
    svg: str

    @property
    def png(self) -> bytes:
        """The chart in the light style's colours, as large as TensorBoard shows it."""
        return bytes(resvg_py.svg_to_bytes(svg_string=standalone(self.svg, scale=1.25)))


def charts_of(html: str) -> list[Chart]:
    """The charts of a page that `report.html` wrote, in their order; the section tells apart what is labelled alike."""
    found: dict[str, Chart] = {}
    section = ""
    for part in _PARTS.finditer(html):
        if part["chart"] is None:
            section = unescape(re.sub(r"<[^>]*>", "", part["title"])).strip()
            continue
        label = unescape(part["label"])
        title = label if label not in found else f"{label} ({section}, {len(found)})"
        found[title] = Chart(title, part["chart"])
    return list(found.values())


def draws_text() -> bool:
    """Whether this machine has a font: without one pictures would come without their words."""
    return bool(
        resvg_py.svg_to_bytes(svg_string=_LETTER.format("W")) != resvg_py.svg_to_bytes(svg_string=_LETTER.format(""))
    )
