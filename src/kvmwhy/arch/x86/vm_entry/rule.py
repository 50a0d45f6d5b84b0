"""A rule of VM entry: where the manual has it, what it says, and a function that holds a state against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from kvmwhy.arch.x86.vm_entry.state import NotShownError, State

Offence = str | None  # the values that break a rule, as people write them; None: it holds


About = Literal["guest", "event", "controls", "host"]


class Rule(NamedTuple):
    """``about``: whose state it is, the guest's, an event's to be injected, or what KVM set up for itself.

    ``id`` never changes its meaning. ``sentence`` says what must be, as the manual's section does.

    ``mended``: without unrestricted guest, KVM loads something that fits, or emulates, instead of
    entering with a state that breaks this rule; so only a dump of the VMCS can show it broken.
    """

    id: str
    section: str
    sentence: str
    check: Callable[[State], Offence]
    about: About
    mended: bool = False


class Book:
    """Rules of one manual, in its order."""

    def __init__(self, manual: str, about: About) -> None:
        self.manual, self.about = manual, about
        self.rules: list[Rule] = []

    def rule(
        self, section: str, sentence: str, *, about: About | None = None, mended: bool = False
    ) -> Callable[[Callable[[State], Offence]], Callable[[State], Offence]]:
        """The function's name, with hyphens, is the rule's id."""

        def add(check: Callable[[State], Offence]) -> Callable[[State], Offence]:
            name = check.__name__.replace("_", "-")
            self.rules.append(Rule(name, f"{self.manual}, {section}", sentence, check, about or self.about, mended))
            return check

        return add


def each(names: Iterable[str], test: Callable[[str], Offence]) -> Offence:
    """Hold several parts against one rule: all offences, or, if there is none, what could not be seen."""
    offences, missing = [], None
    for name in names:
        try:
            offence = test(name)
        except NotShownError as error:
            missing = error
        else:
            if offence:
                offences.append(offence)
    if offences:
        return ", ".join(offences)
    if missing:
        raise missing
    return None


def canonical(state: State, name: str, value: int) -> Offence:
    """Bits 63 to N-1 the same, N being the width of the CPU's linear addresses: 57, or 48 on most.

    A CPU that checks 57 bits lets more pass; which it is shows only if the guest uses them. SDM vol. 1, 3.3.7.1.
    """
    if _fits(value, 48):
        return None
    if not _fits(value, 57):
        return f"{name}={value:#x}"
    if state.wide_addresses is None:
        raise NotShownError(f"whether this CPU has linear addresses of 57 bits, which {name}={value:#x} needs")
    return None if state.wide_addresses else f"{name}={value:#x}"


def _fits(value: int, width: int) -> bool:
    return value >> (width - 1) in {0, (1 << (65 - width)) - 1}


def is_pat(value: int) -> bool:
    """Each byte one of UC, WC, WT, WP, WB, UC-. SDM vol. 3A, 11.12.2."""
    return all(value >> shift & 0xFF in {0, 1, 4, 5, 6, 7} for shift in range(0, 64, 8))
