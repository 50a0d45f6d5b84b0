"""The answer about one instruction, and the ways to word it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from kvmwhy.emulator.opcode_table import NEWEST, Version, version_of

Outcome = Literal["handler", "no-handler", "gives-up", "injects-ud", "fetch"]

MAX_LENGTH = 15
_X87 = frozenset(range(0xD8, 0xE0)) | {0x9B}


class Verdict(NamedTuple):
    """What KVM makes of an instruction.

    ``handler``: it is carried out; ``limit`` says when not. ``no-handler``: decoding fails.
    ``gives-up``: it decodes, but its handler (or the lack of one) fails. ``injects-ud``: the guest gets
    #UD, which is no failure of KVM's. ``fetch``: the bytes do not reach to the end of the opcode.

    ``since`` is the first mainline kernel with the handler, ``None`` if that is 2.6.32 or older, or there
    is none. ``never``: no kernel up to the newest one known carries it out. ``caveat``: it is carried
    out, but not as hardware does it. Without a kernel version the answer is for the newest one.
    """

    outcome: Outcome
    since: str | None
    never: bool
    limit: str | None
    slot: str
    sentence: str
    caveat: str | None = None


def never(name: str, sentence: str) -> Verdict:
    return Verdict("no-handler", None, True, None, name, sentence)


def no_handler(name: str, opcode_map: str, opcode: int) -> Verdict:
    sentence = f"KVM's emulator has no handler for this instruction ({name}): none up to Linux {NEWEST} has."
    if opcode_map == "0" and opcode in _X87:
        sentence += " Of x87, KVM knows FNINIT, FNSTCW and FNSTSW only."
    return never(name, sentence)


# Below 5.4 only these releases' tables were read: a handler that came between two of them may be in either.
_READ: Final[tuple[Version, ...]] = ((2, 6), (3, 1), (3, 6), (3, 11), (3, 18), (4, 4), (4, 14), (4, 19), (5, 4))


def too_old(since: str, name: str, version: Version) -> Verdict:
    running = f"{version[0]}.{version[1]}"
    sentence = f"Linux {running} has no handler for this instruction ({name}); it came in {since}."
    first = version_of(since)
    if first in _READ and version not in _READ and version > max(read for read in _READ if read < first):
        sentence = f"Linux {running} most likely has no handler for this instruction ({name}); {since} has one."
    return Verdict("no-handler", since, False, None, name, sentence)


def older_record(since: str, name: str, newest: Version) -> Verdict:
    """The host's kernel is not named, but what it reported has the form of kernels up to ``newest``."""
    last = f"{newest[0]}.{newest[1]}"
    sentence = f"KVM has a handler for it ({name}) since Linux {since}; this record is of {last} or before."
    return Verdict("no-handler", since, False, None, name, sentence)


def gives_up(name: str, sentence: str) -> Verdict:
    return Verdict("gives-up", None, True, sentence, name, sentence)


def injects_ud(name: str, sentence: str) -> Verdict:
    return Verdict("injects-ud", None, True, None, name, sentence)


def lock_not_allowed(name: str) -> Verdict:
    return injects_ud(name, f"LOCK is not allowed on this instruction ({name}); KVM gives the guest #UD.")


def torn(code: bytes, at: int) -> Verdict:
    """The bytes end at ``at`` or right behind it, before the opcode is known."""
    if not code:
        sentence = "There are no instruction bytes: KVM could not read the instruction, so no handler was asked."
    elif at >= MAX_LENGTH:
        sentence = "Fifteen bytes of prefixes and no opcode: no CPU accepts that; KVM gives the guest #GP."
    else:
        sentence = "The bytes end before the instruction does: KVM needed to read on and could not."
    return Verdict("fetch", None, False, None, code[:MAX_LENGTH].hex(" "), sentence)
