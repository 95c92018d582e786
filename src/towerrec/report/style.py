"""The style sheet of every page: light and dark, fit for a phone and for paper.

Six colours tell series apart. Each has a contrast of at least 4.5 to the background of its mode, and every two differ
also to eyes that lack the red or the green cones (tests/unit/test_report_style.py computes both); shapes and labels say
the same once more.
"""

from __future__ import annotations

NUM_COLOURS = 6

LIGHT = {
    "back": "#fcfcfb",
    "card": "#f3f4f4",
    "ink": "#1d1f21",
    "soft": "#5c6268",
    "line": "#d5d9dd",
    "good": "#0f5727",
    "link": "#0b5bb5",
    "c0": "#1667cc",
    "c1": "#6c7176",
    "c2": "#a86400",
    "c3": "#0f5727",
    "c4": "#5c0a66",
    "c5": "#c0304a",
    "cx": "#b3b8bd",
}
"""Colours by name: background, panels, text, quieter text, rules, good news, links, six series, everything else."""

DARK = {
    "back": "#16181b",
    "card": "#202327",
    "ink": "#e8e9ea",
    "soft": "#a3aab1",
    "line": "#3a4047",
    "good": "#7df0ab",
    "link": "#8cc2ff",
    "c0": "#5aa5ff",
    "c1": "#8b9096",
    "c2": "#f2b90d",
    "c3": "#7df0ab",
    "c4": "#f3cdf1",
    "c5": "#f5523f",
    "cx": "#565c63",
}

_SERIES = [*(f"c{i}" for i in range(NUM_COLOURS)), "cx"]


def _colours(mode: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in mode.items())


CHART_RULES = (
    """
text{fill:var(--ink);font:13px system-ui,"Noto Sans",sans-serif}
.tick{fill:var(--soft)}
.halo{paint-order:stroke;stroke:var(--back);stroke-width:4;stroke-linejoin:round}
.end{text-anchor:end}
.middle{text-anchor:middle}
.strong{font-weight:600}
.grid{stroke:var(--line);stroke-width:1}
.axis{stroke:var(--soft);stroke-width:1}
.mark{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:4 4}
.bar{stroke-width:3}
.thin{stroke-width:1.5}
.curve{fill:none;stroke-width:2.2;stroke-linejoin:round}
.dashed{stroke-dasharray:6 4}
.band{opacity:.16}
.cloud{fill:none;stroke-width:4.6;stroke-linecap:round;opacity:.8}
.cloud.square{stroke-linecap:square;stroke-width:3.8}
"""
    + "\n".join(f".f{name[1:]}{{fill:var(--{name})}}\n.s{name[1:]}{{stroke:var(--{name})}}" for name in _SERIES)
    + "\n"
)
"""What the charts need; a chart outside a page carries it along (`charts.standalone`)."""

STYLE = f"""
:root{{color-scheme:light dark;{_colours(LIGHT)}}}
@media screen and (prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%;scroll-behavior:smooth}}
body{{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,"Noto Sans",sans-serif;
overflow-wrap:anywhere}}
main{{max-width:1120px;margin:0 auto;padding:24px 16px 64px}}
h1{{font-size:1.5rem;line-height:1.25;margin:8px 0 12px}}
h2{{font-size:1.2rem;line-height:1.3;margin:48px 0 12px;padding-top:14px;border-top:1px solid var(--line)}}
h2 a,h3 a{{color:inherit;text-decoration:none}}
h2 a:hover{{text-decoration:underline}}
h3{{font-size:1rem;margin:24px 0 8px}}
p{{margin:8px 0;max-width:46rem}}
a{{color:var(--link)}}
pre{{font:.85rem/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}}
section{{min-width:0}}
ul,ol{{padding-left:1.3em;margin:8px 0;max-width:46rem}}
li{{margin:6px 0}}
.lead{{font-size:1.2rem;line-height:1.45;margin:0 0 12px}}
.deck,.note,small,figcaption,dt,.soft{{color:var(--soft)}}
.note,figcaption{{font-size:.875rem}}
small{{display:block;font-size:.78rem;white-space:nowrap}}
nav ul{{list-style:none;padding:0;margin:16px 0 0;max-width:none;display:flex;flex-wrap:wrap;
gap:0 18px;font-size:.9rem}}
nav li{{margin:0}}
nav a{{display:inline-block;padding:5px 0}}
.wide{{overflow-x:auto;margin:8px 0}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.94rem;min-width:min(100%,30rem)}}
th,td{{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}}
th{{font-weight:600}}
thead th{{vertical-align:bottom;white-space:normal;overflow-wrap:normal}}
th:first-child,.text{{text-align:left}}
th:first-child{{position:sticky;left:0;background:var(--back);padding-left:0;min-width:8.5em;max-width:15em;
white-space:normal;overflow-wrap:break-word}}
th small{{white-space:normal;font-weight:400}}
td.text{{white-space:normal;min-width:12rem}}
tr.first>*{{background:var(--card)}}
tr.first>th:first-child{{padding-left:6px}}
svg{{display:block;width:100%;height:auto;max-width:440px;overflow:visible}}
figure{{margin:0 0 8px;min-width:0}}
figcaption{{margin:0 0 6px}}
figcaption b{{color:var(--ink);font-size:.95rem}}
.charts{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,328px),1fr));gap:24px 36px;margin:16px 0}}
.large svg{{max-width:480px}}
svg.sign{{display:inline-block;width:13px;height:13px;vertical-align:-1px}}
dl{{display:grid;grid-template-columns:minmax(6rem,max-content) minmax(0,1fr);gap:2px 16px;
margin:4px 0;font-size:.94rem}}
dt{{max-width:14rem}}
dd{{margin:0;min-width:0}}
dd dl{{border-left:2px solid var(--line);padding-left:10px}}
details{{border:1px solid var(--line);border-radius:8px;padding:0 14px;margin:12px 0}}
details[open]{{padding-bottom:10px}}
summary{{cursor:pointer;font-weight:600;padding:9px 0}}
.person{{border:1px solid var(--line);border-radius:8px;padding:4px 16px 12px;margin:16px 0}}
.person h3{{margin:12px 0 2px}}
.person h4{{font-size:.94rem;margin:14px 0 4px}}
.pair{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:0 32px}}
.list{{padding-left:1.7em}}
.list li{{margin:0;padding:4px 0;line-height:1.4;border-bottom:1px solid var(--line)}}
.list small{{white-space:normal}}
.hit{{color:var(--good);font-weight:600}}
{CHART_RULES}
.t0{{color:var(--c0)}}
@media(max-width:600px){{
main{{padding:12px 16px 48px}}
dl{{grid-template-columns:minmax(0,1fr)}}
dd{{margin:0 0 6px}}
th,td{{padding:6px 8px}}
th:first-child{{min-width:7em;max-width:8.5em}}
.list,.pair>div{{min-width:0}}
.told thead{{display:none}}
.told tr{{display:block;padding:6px 0;border-bottom:1px solid var(--line)}}
.told th,.told td{{display:block;border:0;padding:1px 0;max-width:none}}
details{{padding:0 8px}}
.person{{padding:4px 10px 12px}}
}}
@media print{{
body{{font-size:11pt}}
main{{max-width:none;padding:0}}
nav,.no-print{{display:none}}
h2{{break-after:avoid}}
figure,tr,.person{{break-inside:avoid}}
.wide{{overflow:visible}}
details{{border:0;padding:0}}
details::details-content{{content-visibility:visible;display:block;height:auto}}
}}
"""
