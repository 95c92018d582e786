"""A page as a list of sections: one self-contained file, no network, no script, light and dark, fit for a phone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from towerrec.report.style import STYLE


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
        heading = f"<h2>{escape(self.title)}</h2>"
        body = f"<details><summary>Show</summary>{self.body}</details>" if self.folded else self.body
        return f'<section id="{escape(self.anchor)}">{heading}{body}</section>'


def page_of(title: str, sections: Sequence[Section], *, lead: str = "") -> str:
    """The whole page as text.

    Args:
        title: Heading of the page, plain text.
        sections: Its parts, in order.
        lead: What the page says in a sentence or two, plain text, under the heading.
    """
    opening = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    body = "\n".join(section.html() for section in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>"
        f"{opening}\n{body}</main></body></html>\n"
    )
