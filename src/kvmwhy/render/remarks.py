"""What is said of a failure whatever it is shown as: what was damaged, and whether it is answered as it once was."""

from __future__ import annotations

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.render.safe import safe


def differs(diagnosis: Diagnosis) -> bool | None:
    """Whether today's answer is another than the stored one; ``None`` where that cannot be told."""
    stored = diagnosis.failure.stored
    if stored is None or stored.mechanism is None or diagnosis.mechanism is None:
        return None
    origin = diagnosis.origins[0].id if diagnosis.origins else None
    return (stored.mechanism, stored.origin) != (diagnosis.mechanism.id, origin)


def damage(facts: Facts) -> list[str]:
    """What was torn, repaired or does not add up; the log's own words among it made harmless."""
    remarks = facts.reading.remarks if facts.reading else ()
    ambiguous: tuple[str, ...] = ()
    if facts.reading and facts.reading.ambiguous:
        layouts = ", ".join(r.layout for r in (facts.reading.failure, *facts.reading.also))
        ambiguous = (f"the words fit several layouts ({layouts}): their exit information is not decoded",)
    return [safe(text) for text in dict.fromkeys((*facts.failure.repairs, *facts.failure.damage, *remarks, *ambiguous))]
