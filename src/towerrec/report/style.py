"""The style sheet of every page: light and dark, fit for a phone and for paper."""

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
