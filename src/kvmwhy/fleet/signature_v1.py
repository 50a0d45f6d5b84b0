"""Version 1 of the signature, as it was from the first table on. It never changes.

It takes the instruction's text without its numbers, so registers are in it.
"""

from __future__ import annotations

from functools import lru_cache

from kvmwhy.diagnosis import Diagnosis


def parts(diagnosis: Diagnosis) -> tuple[tuple[str, str], ...]:
    """(name, value) of what is known."""
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
    made = {
        "cause": diagnosis.findings[0].cause.id,
        "failure": f"{failure.kind} {number}" if number else failure.kind,
        "mode": facts.mode.name if facts.mode else None,
        "instruction": _shape(insn.text) if insn and insn.text and not facts.fetch_failed else None,
        "access": access.kind if access else None,
        "place": access.place.name if access and access.place else None,
        "event": event,
        "exit": facts.explained.name if facts.explained else None,
    }
    return tuple((name, value) for name, value in made.items() if value)


@lru_cache(maxsize=4096)  # a few texts, again and again
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
