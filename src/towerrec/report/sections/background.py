"""What the figures rest on: the data, the split, the rules, the audit for leaks, the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from towerrec.report.page import Section, bullets, folded, note
from towerrec.report.table import Cell, table

SPLITS = {"train": "training", "val": "validation", "test": "test"}


def deck(rules: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """What data, what split, what counts: the lines under the headline."""
    lines = []
    train = data.get("train", {})
    if train:
        period = f", {train['first'][:10]} to {train['last'][:10]}" if "first" in train else ""
        lines.append(
            f"Data: {data['name']}; training on {train['rows']:,} rows of {train['users']:,} users and "
            f"{train['items']:,} items{period}."
        )
    if rules:
        who = {"observed": "the items that each user has in the judged rows", "catalogue": "all items not seen before"}
        from_what = who.get(str(rules["candidates"]), f"«{rules['candidates']}» items")
        lines.append(
            f"Judged on {SPLITS[rules['split']]} rows of {rules['users']:,} users. Lists are drawn from {from_what} "
            f"({rules['candidates_per_user']:,.0f} per user); relevant: label {rules['positive']}, "
            f"{rules['relevant'] / rules['users']:,.1f} items per user."
        )
    return lines


def data_section(data: Mapping[str, Any]) -> Section:
    """The splits side by side; the whole data report on demand."""
    rows = [_split(name, data[key]) for key, name in (("all", "all"), *SPLITS.items()) if key in data]
    body = table(["", "rows", "users", "items", "density", "positive", "from", "to"], rows) if rows else ""
    cleaning = data.get("cleaning", {})
    dropped = [f"{number:,} {reason}" for reason, number in cleaning.items() if not reason.startswith("rows_")]
    if cleaning:
        body += note(f"Dropped while cleaning: {', '.join(dropped) or 'nothing'}.")
    for key in ("val", "test"):
        new = [data.get(key, {}).get(f"rows_with_{side}_new_to_training") for side in ("user", "item")]
        if None not in new:
            body += note(f"{SPLITS[key]}: {new[0]:.1%} of rows by users, {new[1]:.1%} on items that training lacks.")
    return Section("Data and split", body + folded("The whole data report", tree(data)))


def rules_section(rules: Mapping[str, Any], left_out: Sequence[str]) -> Section:
    """How it was judged, and what was not shown for what reason."""
    body = tree({name.replace("_", " "): value for name, value in rules.items()})
    if left_out:
        body += "<h3>Left out</h3>" + bullets(left_out)
    return Section("How it was judged", body)


def audit_section(audit: Sequence[Mapping[str, Any]]) -> Section:
    """The checks for leaks, one per row."""
    rows: list[list[str | Cell]] = [
        [str(check["check"]), Cell(str(check["outcome"]), prose=True), Cell(str(check["text"]), prose=True)]
        for check in audit
    ]
    failed = sum(check["outcome"] == "failed" for check in audit)
    words = f"{failed} of {len(audit)} checks failed." if failed else f"None of {len(audit)} checks failed."
    return Section("Leak audit", note(words) + table(["check", "outcome", "what was found"], rows))


def run_section(facts: Mapping[str, Any]) -> Section:
    """What was run: the command in full, everything else on demand."""
    command = facts.get("command")
    body = f"<pre>{escape(str(command))}</pre>" if command else ""
    shown = {name: value for name, value in facts.items() if name not in ("report", "audit", "command")}
    return Section("What was run", body + folded("Versions, settings and cost", tree(shown)))


def tree(content: Mapping[str, Any]) -> str:
    """Names and values as a definition list, nested where a value has names itself."""
    rows = "".join(f"<dt>{escape(str(name))}</dt><dd>{_value(value)}</dd>" for name, value in content.items())
    return f"<dl>{rows}</dl>"


def _split(name: str, facts: Mapping[str, Any]) -> list[str | Cell]:
    return [
        name,
        *(f"{facts[count]:,}" for count in ("rows", "users", "items")),
        f"{facts['density']:.2%}",
        f"{facts['positive_rate']:.2%}",
        *(facts.get(end, "–")[:16] for end in ("first", "last")),
    ]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return tree(value) if value else "–"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(v) for v in value) or "–"
    return escape(str(value))
