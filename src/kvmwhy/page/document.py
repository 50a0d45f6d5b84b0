"""The document of the page: a place for a log, and what may run and load."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from typing import Final, NamedTuple

import msgspec

from kvmwhy import __version__
from kvmwhy.page.parts import Part, asset
from kvmwhy.render.html.assets import SCRIPT, STYLE, csp_hash

PARTS: Final = "files"  # the folder beside the document
PART_NAME: Final = re.compile(r"[a-z0-9.]{1,40}-[0-9a-f]{12}\.bin")


class File(NamedTuple):
    """A part as a file beside the document."""

    path: str
    data: bytes


def files(parts: Sequence[Part]) -> tuple[File, ...]:
    """Named by their content, so that a browser's cache never mixes two versions; not .gz, which servers treat specially."""
    return tuple(File(f"{PARTS}/{part.name}-{sha256(part.data).hexdigest()[:12]}.bin", part.data) for part in parts)


def folder(parts: Sequence[Part]) -> str:
    """The document that loads its parts from beside it."""
    return _document(parts, [file.path for file in files(parts)], inlined=False)


def single(parts: Sequence[Part]) -> str:
    """The document that has its parts in it, and loads nothing."""
    return _document(parts, [""] * len(parts), inlined=True)


def _document(parts: Sequence[Part], paths: Sequence[str], *, inlined: bool) -> str:
    style, script = STYLE + asset("page.css"), asset("page.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {csp_hash(script)} {csp_hash(SCRIPT)} 'wasm-unsafe-eval'",
            f"style-src {csp_hash(style)}",
            "worker-src blob:",  # the worker inherits this policy, as one with an address would not
            *(() if inlined else ("connect-src 'self'",)),
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    listed = [
        {"name": part.name, "path": path, "packed": len(part.data), "integrity": _integrity(part.data)}
        for part, path in zip(parts, paths, strict=True)
    ]
    held = "".join(
        f'<script type="text/plain" id="part-{part.name}">{b64encode(part.data).decode()}</script>'
        for part in parts
        if inlined
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>kvmwhy: why KVM gave up on a guest</title><style>{style}</style></head><body>
<header><h1>kvmwhy</h1><p>Tells you why KVM gave up on a guest, whose doing it was, and what to do about it.</p></header>
<main><form id="ask">
<label for="text">Paste a log here, or drop a file on this page: what QEMU or another VMM printed, the host's kernel log, a trace, an archive of them.</label>
<textarea id="text" spellcheck="false" autocomplete="off" autocapitalize="off"></textarea>
<div class="row"><button type="submit">Explain</button><input type="file" id="file" aria-label="A file to explain">
<button type="button" id="stop" hidden>Stop</button></div>
<progress id="progress" max="100" value="0" aria-label="Progress" hidden></progress>
<p id="status" role="status"></p></form>
<section id="answer" tabindex="-1" aria-label="Answer"></section></main>
<noscript><p>Without scripts this page cannot read a log.</p></noscript>
<footer><p>Nothing leaves this browser. The log is read by kvmwhy itself, on Python as WebAssembly; {_loads(inlined=inlined)}.</p>
<p>For gigabytes of logs, live hosts and more, install it: <code>{escape("git clone <its repository> && cd kvmwhy && ./kvmwhy explain guest.log")}</code></p>
<p>kvmwhy {__version__}</p></footer>
<script type="application/json" id="parts">{msgspec.json.encode(listed).decode()}</script>{held}
<script>{SCRIPT}</script><script>{script}</script></body></html>
"""


def _loads(*, inlined: bool) -> str:
    if inlined:
        return "this page is one file, and its policy forbids every connection"
    return "this page's policy forbids every connection but for its own files"


def _integrity(data: bytes) -> str:
    """What a browser holds a file against that it fetches."""
    return f"sha256-{b64encode(sha256(data).digest()).decode()}"
