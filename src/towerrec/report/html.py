"""The report of an evaluation as one self-contained page: no network, no script, light and dark, fit for a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from towerrec.report.charts import colour, curve_chart, interval_chart, legend
from towerrec.report.dial import Curve, curve_section
from towerrec.report.interpret import main_metric
from towerrec.report.judge import Judged, Summary
from towerrec.report.page import Section, page_of


@dataclass(frozen=True)
class Item:
    """One item of a list as people read it; `relevant` says whether it was a hit (None where that is no question)."""

    text: str
    relevant: bool | None = None


@dataclass(frozen=True)
class Example:
    """One user's list. `before` are some of the items the user liked in training."""

    user: str
    facts: str
    listed: Sequence[Item]
    before: Sequence[Item] = field(default_factory=tuple)


def page(
    title: str,
    systems: Sequence[Judged],
    sentences: Sequence[str],
    *,
    facts: Mapping[str, Any],
    rules: Mapping[str, Any],
    data: Mapping[str, Any],
    values: Summary | None = None,
    constant_values: Mapping[str, Mapping[str, float]] | None = None,
    examples: Sequence[Example] = (),
    curve: Curve | None = None,
) -> str:
    """The whole page as text.

    Args:
        title: Heading of the page.
        systems: The judged system first, then what stands beside it.
        sentences: The interpretation.
        facts: What was run: names and values, nested where that helps.
        rules: How it was judged.
        data: The data report.
        values: RMSE, MAE and XAUC of predicted values, where there are any.
        constant_values: The same of constant predictions.
        examples: Some users' lists.
        curve: What a dial gains and costs, where one was turned.
    """
    metric = main_metric(systems[0].summary)
    sections = [
        Section("What the figures say", f"<ul>{''.join(f'<li>{escape(s)}</li>' for s in sentences)}</ul>"),
        Section(f"{metric} with 95 % intervals over users", interval_chart(systems, metric) + _bound_note(systems)),
        Section("All figures", _figures(systems)),
        Section("Figures against the length of the list", _curves(systems)),
    ]
    if curve is not None:
        sections.append(Section("Accuracy against coverage", curve_section(curve)))
    if values:
        sections.append(Section("Predicted values", _predicted(systems[0].name, values, constant_values or {})))
    if examples:
        sections.append(Section("Some users", "".join(_example(example) for example in examples)))
    sections += [
        Section("How it was judged", _tree(rules)),
        Section("What was run", _tree(facts)),
        Section("The data", _tree(data)),
    ]
    return page_of(title, sections)


def _bound_note(systems: Sequence[Judged]) -> str:
    if not any(s.bound for s in systems):
        return ""
    return "<p class=note>* reads the judged rows: a bound for lists that are the same for everybody, not a system</p>"


def _figures(systems: Sequence[Judged]) -> str:
    head = "".join(
        f'<th scope=col><span class="{colour(i)}">{escape(s.name)}{" *" if s.bound else ""}</span></th>'
        for i, s in enumerate(systems)
    )
    rows = []
    for name in systems[0].summary:
        cells = "".join(_cell(s.summary[name]) for s in systems)
        rows.append(f"<tr><th scope=row>{escape(name)}</th>{cells}</tr>")
    return _table(head, "".join(rows))


def _cell(figure: Mapping[str, Any]) -> str:
    interval = ""
    if figure.get("low") is not None:
        interval = f"<small>{figure['low']:.4f} – {figure['high']:.4f}</small>"
    return f"<td>{figure['mean']:.4f}{interval}</td>"


def _curves(systems: Sequence[Judged]) -> str:
    figures = "".join(
        f"<figure><figcaption>{name} against K</figcaption>{curve_chart(systems, name.lower())}</figure>"
        for name in ("NDCG", "Recall", "Precision")
    )
    return f'{legend(systems)}<div class="charts">{figures}</div>'


def _predicted(name: str, values: Summary, constants: Mapping[str, Mapping[str, float]]) -> str:
    names = list(values)
    head = "".join(f"<th scope=col>{escape(n)}</th>" for n in names)
    rows = f"<tr><th scope=row>{escape(name)}</th>{''.join(_cell(values[n]) for n in names)}</tr>"
    for constant, figures in constants.items():
        cells = "".join(f"<td>{figures[n]:.4f}</td>" if n in figures else "<td></td>" for n in names)
        rows += f"<tr><th scope=row>{escape(constant)}</th>{cells}</tr>"
    return _table(head, rows)


def _table(head: str, rows: str) -> str:
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _example(example: Example) -> str:
    before = ""
    if example.before:
        before = f"<p class=note>Liked before: {'; '.join(escape(item.text) for item in example.before)}</p>"
    listed = "".join(
        f'<li class="{"hit" if item.relevant else ""}">{escape(item.text)}{" ✓" if item.relevant else ""}</li>'
        for item in example.listed
    )
    heading = f"<summary>User {escape(example.user)} — {escape(example.facts)}</summary>"
    return f"<details open>{heading}{before}<ol>{listed}</ol></details>"


def _tree(content: Mapping[str, Any]) -> str:
    """Names and values as a definition list, nested where a value has names itself."""
    rows = "".join(f"<dt>{escape(str(name))}</dt><dd>{_value(value)}</dd>" for name, value in content.items())
    return f"<dl>{rows}</dl>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _tree(value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(v) for v in value)
    return escape(str(value))
