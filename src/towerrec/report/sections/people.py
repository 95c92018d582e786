"""Some users: what they watched, what is listed for them, and which of it was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from towerrec.report.page import Section, note


@dataclass(frozen=True)
class Item:
    """One item as people read it.

    Attributes:
        title: Its caption, or its id where it has none.
        facts: What else is known of it, in a line: id, category.
        outcome: What the user did with it, in words; empty where no row says.
        hit: Whether it was relevant, None where that is no question.
    """

    title: str
    facts: str = ""
    outcome: str = ""
    hit: bool | None = None


@dataclass(frozen=True)
class Example:
    """One user: some of what was watched in training (`before_title` says which), and the list."""

    user: str
    facts: str
    listed: Sequence[Item]
    before: Sequence[Item] = field(default_factory=tuple)
    before_title: str = "Watched in training"


def people_section(examples: Sequence[Example]) -> Section:
    """The users side by side with their lists; drawn at random, so that nobody chose the flattering ones."""
    words = "Drawn at random from the judged users. ✓ marks a hit; where no row says what the user did, nothing stands."
    return Section("Some users", note(words) + "".join(_example(example) for example in examples))


def _example(example: Example) -> str:
    before = ""
    if example.before:
        items = "".join(f"<li>{_item(item)}</li>" for item in example.before)
        before = f'<div><h4>{escape(example.before_title)}</h4><ul class="list">{items}</ul></div>'
    listed = "".join(f"<li>{_item(item)}</li>" for item in example.listed)
    return (
        f'<div class="person"><h3>User {escape(example.user)}</h3>{note(example.facts)}<div class="pair">{before}'
        f'<div><h4>Recommended</h4><ol class="list">{listed}</ol></div></div></div>'
    )


def _item(item: Item) -> str:
    sign = '<span class="hit">✓ hit</span> ' if item.hit else ""
    outcome = f" · {escape(item.outcome)}" if item.outcome else ""
    facts = f"<small>{escape(item.facts)}{outcome}</small>" if item.facts or outcome else ""
    return f"{sign}{escape(item.title)}{facts}"
