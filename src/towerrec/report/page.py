"""A page as a list of sections: one self-contained file, no network, no script, light and dark, fit for a phone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from towerrec.report.style import STYLE
from towerrec.wording import printable


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading, plain text.
        body: Its content as HTML: whoever writes it escapes what comes from data.
        folded: Whether the body is shown only on demand.
    """

    title: str
    body: str
    folded: bool = False

    @property
    def anchor(self) -> str:
        """Its name in the address: `#all-figures`."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def html(self) -> str:
        heading = f'<h2><a href="#{self.anchor}">{escape(self.title)}</a></h2>'
        body = folded("Show", self.body) if self.folded else self.body
        return f'<section id="{self.anchor}">{heading}{body}</section>'


def page_of(title: str, sections: Sequence[Section], *, lead: str = "", deck: Sequence[str] = ()) -> str:
    """The whole page as text; control characters, which neither HTML nor SVG may hold, are shown as escapes.

    Args:
        title: Heading of the page, plain text.
        sections: Its parts, in order; each has a heading of its own and a link in the list at the top.
        lead: What the page says, in a sentence, plain text.
        deck: Further lines under it, plain text: what data, what rules.
    """
    opening = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    opening += "".join(f'<p class="deck">{escape(line)}</p>' for line in deck)
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    body = "\n".join(section.html() for section in sections)
    return printable(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>"
        f'{opening}<nav aria-label="Sections"><ul>{links}</ul></nav>\n{body}</main></body></html>\n'
    )


def folded(summary: str, body: str) -> str:
    """HTML that is shown on demand; `summary` is plain text."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def bullets(sentences: Sequence[str]) -> str:
    """Sentences as a list, plain text."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def note(words: str) -> str:
    """A quieter line, plain text."""
    return f"<p class=note>{escape(words)}</p>"


def figure(caption: str, chart: str, *, words: str = "") -> str:
    """A chart under its caption; `words` say how to read it, plain text."""
    more = f"<br>{escape(words)}" if words else ""
    return f"<figure><figcaption><b>{escape(caption)}</b>{more}</figcaption>{chart}</figure>"


def charts(figures: Sequence[str]) -> str:
    """Figures beside each other where the screen is wide enough."""
    return f'<div class="charts">{"".join(figures)}</div>'
