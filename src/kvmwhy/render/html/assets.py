"""How the page looks, and the few lines that light up one number wherever it stands."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #565b63; --line: #d9dce1; --card: #fff; --page: #f6f7f9;
  --mark: #1f5fc4; --pale: #dbe6f8; --bad: #a3231f; --good: #1d6b34; --lit: #ffe58a; --device: #e6d3bd; --open: #e5e7eb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --dim: #a9afb7; --line: #363c44; --card: #1b1f24;
  --page: #121518; --mark: #85b4fa; --pale: #2b3950; --bad: #ff9a92; --good: #83d49b; --lit: #6b5300; --device: #4d3f2e;
  --open: #30353c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.25rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.35rem; line-height: 1.35; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: .8rem 0 .2rem; } p { margin: .4rem 0; }
a { color: var(--mark); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; border-radius: 2px; }
article > section, nav { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem;
  margin: 1rem 0; }
article > section.answer { border-left: 6px solid var(--mark); }
.dim, small, caption { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
ul { margin: .3rem 0; padding-left: 1.2rem; } dl { display: grid; grid-template-columns: 9rem minmax(0, 1fr);
  gap: .3rem 1rem; margin: .6rem 0; } dt { color: var(--dim); } dd { margin: 0; }
table { border-collapse: collapse; } th, td { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top; }
th { font-weight: 400; color: var(--dim); } code, pre, td.c { font: .87em/1.45 ui-monospace, monospace; }
pre { margin: 0; padding: .6rem; overflow-x: auto; background: var(--page); border-radius: 6px; white-space: pre; }
.scroll { overflow-x: auto; overflow-wrap: normal; } .scroll td, .scroll th { white-space: nowrap; } tr.here td, .here { background: var(--pale); font-weight: 600; }
.n { border-bottom: 1px dotted var(--dim); cursor: default; } .n.lit, :target { background: var(--lit); }
pre span.l { display: block; } pre span.l:target { background: var(--lit); }
pre span.l.said { box-shadow: -4px 0 0 var(--mark); }
.share { display: grid; grid-template-columns: minmax(8rem, 16rem) minmax(0, 1fr) 4rem; gap: .6rem; align-items: center; }
svg { display: block; width: 100%; height: auto; } .share svg { height: .6rem; } svg text { fill: var(--dim); font: 11px system-ui, sans-serif; }
.ram { fill: var(--pale); } .device { fill: var(--device); } .unknown { fill: var(--open); } .edge { stroke: var(--dim); }
.access { fill: var(--bad); } svg text.said { fill: var(--ink); } .pale { fill: var(--open); } .full { fill: var(--mark); }
ol.walk { list-style: none; padding: 0; margin: .3rem 0; max-width: 40rem; } ol.walk li { border: 1px solid var(--line); border-left: 4px solid var(--mark);
  padding: .2rem .6rem; margin: 0 0 .2rem; } ol.walk li:last-child { border-left-color: var(--bad); }
ol.strip { display: flex; flex-wrap: wrap; list-style: none; padding: 0; margin: .3rem 0; gap: .25rem; } ol.strip li { border: 1px solid currentColor;
  border-radius: 4px; padding: .1rem .5rem; font-size: .9em; } ol.strip li.here { outline: 3px solid var(--mark); outline-offset: 1px; margin: 0 .3rem; } ol.strip li.open { color: var(--dim); }
dt.first { color: var(--ink); font-weight: 600; } th.here { background: var(--pale); color: var(--ink); font-weight: 600; } h1 code { font-size: .9em; }
.key { padding: 0 .4rem; color: var(--ink); } .ram-key { background: var(--pale); } .device-key { background: var(--device); } svg.lane { height: 2.4rem; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--mark); }
footer { color: var(--dim); font-size: .9em; margin: 1.5rem 0 .5rem; }
@media (max-width: 38rem) { body { padding: .6rem; } article > section, nav { padding: .7rem; } dl { display: block; }
  dd { margin: 0 0 .5rem; } .share { grid-template-columns: minmax(0, 1fr) 4rem; } .share svg { display: none; } }
@media print { :root { --page: #fff; --card: #fff; --ink: #000; --dim: #444; } body { max-width: none; padding: 0;
  font-size: 11px; } pre { white-space: pre-wrap; } svg * { print-color-adjust: exact; }
  details::details-content { content-visibility: visible; height: auto; } }
"""

# A number that is pointed at, or has the focus, lights up wherever it stands; a click keeps it so.
SCRIPT: Final = """
(function () {
  var kept = null;
  function light(value) {
    document.querySelectorAll('.n').forEach(function (each) {
      each.classList.toggle('lit', value !== null && each.dataset.n === value);
    });
  }
  function number(event) { var found = event.target.closest && event.target.closest('.n'); return found && found.dataset.n; }
  ['mouseover', 'focusin'].forEach(function (kind) {
    document.addEventListener(kind, function (event) { light(number(event) || kept); });
  });
  document.addEventListener('click', function (event) { kept = number(event) || null; light(kept); });
})();
"""


def csp_hash(text: str) -> str:
    """What a policy names a script or a style by."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def policy(style: str, script: str) -> str:
    """Nothing is loaded, and nothing runs or styles but these two."""
    return f"default-src 'none'; style-src {csp_hash(style)}; script-src {csp_hash(script)}; base-uri 'none'; form-action 'none'"


POLICY: Final = policy(STYLE, SCRIPT)
