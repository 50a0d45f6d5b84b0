"""The whole page: head, a list of what is on it, the failures, and who made it when."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from kvmwhy import __version__
from kvmwhy.diagnosis import Diagnosis
from kvmwhy.record import Failure
from kvmwhy.render.html.assets import POLICY, SCRIPT, STYLE
from kvmwhy.render.html.failure import Excerpt, article
from kvmwhy.render.html.markup import plain


class Told(NamedTuple):
    """A failure, those that are one story with it, and its log."""

    diagnosis: Diagnosis
    others: Sequence[Failure] = ()
    excerpt: Excerpt = Excerpt()


def page(failures: Sequence[Told], *, made: datetime, remarks: Sequence[str] = ()) -> str:
    """A document that loads nothing; ``made`` stands in its footer, and ``remarks`` before the first failure."""
    title = plain(failures[0].diagnosis.answer) if len(failures) == 1 else f"{len(failures)} failures of KVM"
    body = _listed(remarks) + "".join(article(*story, ordinal=n) for n, story in enumerate(failures, 1))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{_contents(failures)}<main>{body}</main>"
        f"<footer>kvmwhy {__version__}, {made:%Y-%m-%d %H:%M %Z}. Nothing on this page is loaded from elsewhere.</footer>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _listed(remarks: Sequence[str]) -> str:
    """What was not read, or is not shown."""
    items = "".join(f"<li>{plain(remark)}</li>" for remark in remarks)
    return f'<ul class="remarks" aria-label="Remarks">{items}</ul>' if items else ""


def _contents(failures: Sequence[Told]) -> str:
    """Of several failures, links to each."""
    if len(failures) == 1:
        return ""
    items = "".join(
        f'<li><a href="#f{n}">{plain(story.diagnosis.answer)}</a></li>' for n, story in enumerate(failures, 1)
    )
    return f'<nav aria-label="Failures"><h2>{len(failures)} failures</h2><ol>{items}</ol></nav>'
