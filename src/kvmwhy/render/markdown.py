"""A failure for a bug tracker: Markdown that shows the same, with nothing of a log able to be markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.record import Failure
from kvmwhy.render.page import to_plain
from kvmwhy.render.safe import safe
from kvmwhy.render.screen import pictures, where
from kvmwhy.render.whose import phrase

_SPECIAL: Final = re.compile(r"([\\`*_\[\]#|<>~&@])")
_ROLES: Final = {"guest": "Guest's author", "vmm": "VMM's author", "host": "Host's operator"}
_LEAST_SHARE: Final = 0.05
_FENCE: Final = "```"


def markdown(diagnosis: Diagnosis, others: Sequence[Failure] = ()) -> str:
    """One section of a comment or an issue."""
    parts = [f"### {_plain(diagnosis.answer)}", _plain(where(diagnosis, others))]
    picture = next((lines for lines in pictures(diagnosis, "intel") if lines), [])
    if picture:
        parts.append(f"{_FENCE}text\n{to_plain(picture, 100).replace(_FENCE, '').rstrip()}\n{_FENCE}")
    if diagnosis.mechanism and diagnosis.mechanism.for_:
        parts.append(
            "**Why:** " + "; ".join(_plain(proof.text).rstrip(".") for proof in diagnosis.mechanism.for_) + "."
        )
    if origins := [origin for origin in diagnosis.origins if origin.share >= _LEAST_SHARE]:
        rows = [f"| {_plain(phrase(o.id))} | {round(o.share * 100)} % | {o.reports} |" for o in origins]
        parts.append("\n".join(["| whose doing | share | public reports |", "|---|---:|---:|", *rows]))
    if diagnosis.advice:
        parts.append("\n".join(f"* **{_ROLES[entry.role]}:** {_plain(entry.text)}" for entry in diagnosis.advice))
    if diagnosis.collect:
        parts.append("**What would settle it:** " + "; ".join(map(_plain, diagnosis.collect)) + ".")
    return "\n\n".join(parts) + "\n"


def annotation(diagnosis: Diagnosis) -> str:
    """One line that GitHub's runner shows beside the file; its own escapes (actions/toolkit: command.ts)."""
    source = diagnosis.failure.source
    title = diagnosis.mechanism.id if diagnosis.mechanism else "kvmwhy"
    place = f"file={_property(safe(source.path))}," if source.path else ""
    line = f"line={source.line}," if source.line else ""
    return f"::error {place}{line}title={_property(title)}::{_data(safe(diagnosis.answer))}"


def _plain(text: str) -> str:
    """No character of it has a meaning in Markdown."""
    return _SPECIAL.sub(r"\\\1", safe(text))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
