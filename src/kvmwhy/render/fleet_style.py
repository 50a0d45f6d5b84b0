"""How a triage's page looks: light and dark, on a wide screen, a narrow one, and on paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #5b6068; --line: #d9dce1; --card: #fff; --page: #f6f7f9;
  --bar: #2563c9; --pale: #dbe6f8; --note: #fff4d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --dim: #a6acb4; --line: #363c44; --card: #1b1f24;
  --page: #121518; --bar: #7eb0f8; --pale: #2b3950; --note: #3a3118; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.25rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; } header p { margin: .2rem 0 0; }
h2 { font-size: 1.1rem; line-height: 1.35; margin: 0 0 .5rem; }
a { color: var(--bar); text-decoration-color: var(--pale); text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0; }
.first { border-left: 6px solid var(--bar); } .first p { margin: .3rem 0; } .big { font-size: 1.25rem; }
.note { background: var(--note); border-radius: 8px; padding: .6rem 1rem; }
dl { display: grid; grid-template-columns: 9rem minmax(0, 1fr); gap: .3rem 1rem; margin: .5rem 0; }
dt { color: var(--dim); } dd { margin: 0; } code { font-size: .9em; }
.dim, small, caption, figcaption { color: var(--dim); }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; } caption { text-align: left; font-size: .9em; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; font-weight: 400; }
thead th { color: var(--dim); border-bottom: 1px solid var(--line); }
th.n, td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:last-child { padding-right: 0; }
tbody small { display: block; line-height: 1.3; } td.n small { display: inline; }
thead th { white-space: nowrap; } .by { max-width: 30rem; }
.last { white-space: nowrap; }
svg.bar { display: block; width: 9rem; height: 5px; margin: 3px 0 0 auto; }
svg rect { fill: var(--bar); } svg rect.pale { fill: var(--pale); }
figure { margin: .8rem 0; } figcaption { font-size: .9em; }
.plot { display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: .5rem; font-size: .8rem;
  color: var(--dim); }
.plot svg { width: 100%; height: 90px; border-left: 1px solid var(--dim); border-bottom: 1px solid var(--dim); }
.y { display: flex; flex-direction: column; justify-content: space-between; text-align: right; }
.x { grid-column: 2; display: flex; justify-content: space-between; gap: 1rem; }
.x span:last-child { text-align: right; }
summary { cursor: pointer; color: var(--dim); } footer { margin: 1.5rem 0 .5rem; font-size: .9em; }
@media (max-width: 38rem) { body { padding: .6rem; } section { padding: .8rem; }
  dl { display: block; } dd { margin: 0 0 .5rem; }
  .last, svg.bar { display: none; } th, td { padding-right: .5rem; } td.n small { display: block; } }
@media print { :root { font-size: 12px; --ink: #000; --dim: #444; --page: #fff; --card: #fff;
  --bar: #2563c9; --pale: #dbe6f8; --note: #fff; } body { max-width: none; padding: 0; font-size: 11px; }
  section { border-color: #bbb; } .first, figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; } svg rect { print-color-adjust: exact; }
  details::details-content { content-visibility: visible; height: auto; } summary { display: none; } }
"""
