"""What ``kvmwhy exec`` shows and keeps of a guest's memory, once it is known where that is."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.cli.symbolise import Stack
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.exec.follow import Incident
from kvmwhy.record import Failure
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

_ROW: Final = 16
_SHOWN: Final = 64  # bytes of a place in a text


class Around(NamedTuple):
    """The failure with what its guest's memory adds; and the memory, by ``what``, address and bytes."""

    failure: Failure
    lines: tuple[Line, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()
    stack: Stack | None = None


def look(failure: Failure, incident: Incident, syntax: Syntax) -> Around:
    """Read around the vCPU. Without its registers, or where the guest's RAM is not found for sure: nothing."""
    if incident.thread is None or incident.state == "went on":  # the memory is not that of the failure any more
        return Around(failure)
    if failure.cpu is None or failure.arch not in {"x86", None}:
        return Around(failure)
    from kvmwhy.diagnosis import diagnose
    from kvmwhy.diagnosis.triple_fault import with_faults
    from kvmwhy.live import guest_memory
    from kvmwhy.live.surroundings import places, with_memory

    facts = diagnose(failure, syntax=syntax).facts
    code = facts.reading.failure.insn if facts.reading else None
    code = code or (failure.code.at_rip()[:15] if failure.code else b"")
    try:
        memory = guest_memory.find(incident.thread, failure, code)
    except CaptureError:
        return Around(failure)
    if memory is None:
        return Around(failure)
    try:
        more = with_memory(failure, memory)
        if failure.kind == "shutdown" and not failure.faults:
            more = with_faults(more, memory.read, syntax)
        operand = facts.access.gva if facts.access and facts.access.gva != facts.linear_rip else None
        regions = places(memory, failure.cpu, operand)
    finally:
        memory.close()
    lines = [Line(), Line(style="head", label="The guest's memory", label_style="head")]
    parts = []
    for place in regions:
        walk = place.walk
        end = "nowhere" if walk.gpa is None else f"physical {walk.gpa:#x}"
        lines.append(Line(safe(f"{walk.gva:#x} → {end}: {walk.why}"), "plain", f"{place.what:<9}", 2))
        for at in range(0, min(len(place.data), _SHOWN), _ROW):
            row = place.data[at : at + _ROW].hex(" ")
            lines.append(Line(f"{walk.gva + at:#x}: {row}", "dim", " " * 9, 2, whole=True))
        parts.append(
            {
                "what": place.what,
                "gva": hex(walk.gva),
                "gpa": None if walk.gpa is None else hex(walk.gpa),
                "why": walk.why,
                "bytes": place.data.hex(" "),
            }
        )
    stack = next((Stack(place.walk.gva, place.data) for place in regions if place.what == "RSP"), None)
    return Around(more, tuple(lines), tuple(parts), stack)
