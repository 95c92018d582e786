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
        _section("What the figures say", f"<ul>{''.join(f'<li>{escape(s)}</li>' for s in sentences)}</ul>"),
        _section(f"{metric} with 95 % intervals over users", interval_chart(systems, metric) + _bound_note(systems)),
        _section("All figures", _figures(systems)),
        _section("Figures against the length of the list", _curves(systems)),
    ]
    if curve is not None:
        sections.append(_section("Accuracy against coverage", curve_section(curve)))
    if values:
        sections.append(_section("Predicted values", _predicted(systems[0].name, values, constant_values or {})))
    if examples:
        sections.append(_section("Some users", "".join(_example(example) for example in examples)))
    sections += [
        _section("How it was judged", _tree(rules)),
        _section("What was run", _tree(facts)),
        _section("The data", _tree(data)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


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


STYLE = """
:root{color-scheme:light dark;--back:#fcfcfb;--ink:#1d1f21;--soft:#62676d;--line:#dcdfe3;--hit:#e3f1e5;
--c0:#0b62c4;--c1:#8a8f96;--c2:#b8860b;--c3:#2f8f5b;--c4:#a64ca6;--c5:#c8502d}
@media(prefers-color-scheme:dark){:root{--back:#16181b;--ink:#e8e9ea;--soft:#9aa1a9;--line:#33383e;--hit:#1d3424;
--c0:#6cb0ff;--c1:#8f969e;--c2:#e0b64a;--c3:#66cf97;--c4:#d68ad6;--c5:#f0875f}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:960px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.6rem;line-height:1.25;margin:8px 0 24px}
h2{font-size:1.1rem;margin:40px 0 12px;padding-bottom:6px;border-bottom:1px solid var(--line)}
ul,ol{padding-left:1.4em;margin:8px 0}li{margin:6px 0}
.note,small,figcaption,dt{color:var(--soft)}.note,figcaption{font-size:.875rem}
small{display:block;font-size:.75rem;white-space:nowrap}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th:first-child{text-align:left;position:sticky;left:0;background:var(--back)}
th{font-weight:600}th span{border-bottom:3px solid currentColor}
th span.c0{color:var(--c0)}th span.c1{color:var(--c1)}th span.c2{color:var(--c2)}
th span.c3{color:var(--c3)}th span.c4{color:var(--c4)}th span.c5{color:var(--c5)}
svg{max-width:100%;height:auto}section>svg,figure>svg{width:100%;display:block}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:16px}figure{margin:0}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.875rem}.key{display:inline-flex;align-items:center;gap:6px}
text{fill:var(--ink);font:13px system-ui,sans-serif}text.tick{fill:var(--soft);font-size:12px}
.end{text-anchor:end}.middle{text-anchor:middle}.start{text-anchor:start}
.grid{stroke:var(--line)}.bar{stroke-width:3;opacity:.55}.curve{fill:none;stroke-width:2.5}.dashed{stroke-dasharray:6 5}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
.dot{stroke:none}.dot.c0{fill:var(--c0)}.dot.c1{fill:var(--c1)}.dot.c2{fill:var(--c2)}
.dot.c3{fill:var(--c3)}.dot.c4{fill:var(--c4)}.dot.c5{fill:var(--c5)}
dl{display:grid;grid-template-columns:minmax(90px,max-content) 1fr;gap:2px 16px;margin:4px 0}dd{margin:0}
details{border:1px solid var(--line);border-radius:8px;padding:8px 14px;margin:12px 0}
summary{cursor:pointer;font-weight:600}li.hit{background:var(--hit);border-radius:4px}
"""
