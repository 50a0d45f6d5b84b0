"""The server's own pages: where a log goes in, and what is said where there is no answer."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from kvmwhy import __version__
from kvmwhy.page.parts import asset as page_asset
from kvmwhy.render.html.assets import POLICY, SCRIPT, STYLE, csp_hash
from kvmwhy.render.html.markup import plain


def _asset(name: str) -> str:
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets", name), encoding="utf-8") as file:
        return file.read()


_STYLE: Final = STYLE + page_asset("page.css")  # a form of the same kind
_FORM: Final = _asset("form.js")
_CLOSED: Final = "base-uri 'none'; frame-ancestors 'none'"
ANSWER_POLICY: Final = f"{POLICY}; frame-ancestors 'none'"
FORM_POLICY: Final = (
    f"default-src 'none'; style-src {csp_hash(_STYLE)}; script-src {csp_hash(_FORM)} {csp_hash(SCRIPT)}; connect-src 'self'; "
    f"form-action 'self'; {_CLOSED}"
)


def form(*, keeps: int | None) -> str:
    """The page to start from. ``keeps`` is for how many days redacted records are kept, if they are."""
    keep = (
        f'<button type="submit" class="other" formaction="?form=1&amp;keep=1">Explain and keep a redacted copy for {keeps} days</button>'
        if keeps
        else ""
    )
    return _document(
        "kvmwhy: why KVM gave up on a guest",
        '<header><h1>kvmwhy</h1><p class="dim">Tells you why KVM gave up on a guest, whose doing it was, and what to do about it.</p></header>'
        '<main><form id="ask" method="post" enctype="text/plain" action="?form=1">'
        '<label for="text">Paste a log here, or drop a file on this page: what QEMU or another VMM printed, the host\'s kernel log, a trace, an archive of them.</label>'
        '<textarea id="text" name="log" required spellcheck="false" autocomplete="off" autocapitalize="off"></textarea>'
        f'<div class="row"><button type="submit">Explain</button>{keep}'
        '<input type="file" id="file" aria-label="A file to explain" hidden></div>'
        '<p id="status" role="status"></p></form><section id="answer" tabindex="-1" aria-label="Answer"></section></main>'
        "<footer><p>The log is sent to this server, which reads it and forgets it. Only a redacted copy is kept, and only if you ask for it.</p>"
        "<p>On a command line: <code>curl --data-binary @guest.log</code> and this address.</p>"
        f"<p>kvmwhy {__version__}</p></footer><script>{SCRIPT}</script><script>{_FORM}</script>",
    )


def message(head: str, remarks: Sequence[str] = ()) -> str:
    """A page that says one thing."""
    items = "".join(f"<li>{plain(remark)}</li>" for remark in remarks)
    listed = f"<ul>{items}</ul>" if items else ""
    return _document(
        f"kvmwhy: {head}", f'<main><h1>{plain(head)}</h1>{listed}<p><a href="/">Explain another log</a></p></main>'
    )


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{plain(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
