"""What makes two failures the same: cause, instruction, access and place, not addresses that vary.

A signature names its parts, so that a group can say why a failure is in it. Versions live side by side: a new one is
added, an old one never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from kvmwhy.diagnosis import Diagnosis


class Signature(NamedTuple):
    """``parts`` are (name, value) in a fixed order; a part that is not known is absent."""

    version: int
    parts: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """One line: what is grouped by."""
        return f"v{self.version} " + " ".join(f"{name}={value.replace(' ', '_')}" for name, value in self.parts)

    @property
    def why(self) -> str:
        """The same for a person."""
        return ", ".join(f"{name} {value}" for name, value in self.parts)


def _v1(diagnosis: Diagnosis) -> tuple[tuple[str, str], ...]:
    facts = diagnosis.facts
    failure = facts.failure
    number = None
    if failure.suberror is not None:
        number = f"suberror {failure.suberror}"
    elif failure.hardware_error is not None:
        number = f"hardware error {failure.hardware_error:#x}"
    elif failure.errno is not None:
        number = failure.errno
    elif failure.hardware_reason is not None:
        number = f"reason {failure.hardware_reason:#x}"
    insn = facts.instruction
    access = facts.access
    event = facts.delivery.event if facts.delivery else None
    parts = {
        "cause": diagnosis.findings[0].cause.id,
        "failure": f"{failure.kind} {number}" if number else failure.kind,
        "mode": facts.mode.name if facts.mode else None,
        "instruction": _shape(insn.text) if insn and insn.text and not facts.fetch_failed else None,
        "access": access.kind if access else None,
        "place": access.place.name if access and access.place else None,
        "event": event,
        "exit": facts.explained.name if facts.explained else None,
    }
    return tuple((name, value) for name, value in parts.items() if value)


def _shape(text: str) -> str:
    """An instruction without the numbers that vary: displacements and immediates."""
    out, i = [], 0
    while i < len(text):
        if text.startswith("0x", i):
            i += 2
            while i < len(text) and text[i] in "0123456789abcdefABCDEF":
                i += 1
            out.append("N")
        elif text[i].isdigit() and (i == 0 or not text[i - 1].isalnum()):
            while i < len(text) and text[i].isalnum():
                i += 1
            out.append("N")
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


VERSIONS: Final[dict[int, Callable[[Diagnosis], tuple[tuple[str, str], ...]]]] = {1: _v1}
NEWEST: Final = max(VERSIONS)


def sign(diagnosis: Diagnosis, version: int = NEWEST) -> Signature:
    """The signature of a diagnosis. Raises KeyError for a version that never was."""
    return Signature(version, VERSIONS[version](diagnosis))
