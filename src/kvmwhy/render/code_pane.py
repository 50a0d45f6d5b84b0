"""The failing instruction between its neighbours, from the VMM's window of code bytes."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from kvmwhy.arch.x86.instruction import MAX_LENGTH, Instruction, Syntax, decode_first
from kvmwhy.diagnosis.facts import Facts

_BEFORE: Final = 2
_BEHIND: Final = 2


class Row(NamedTuple):
    """An instruction; ``at_rip`` marks the one that failed.

    ``address`` is ``None`` where RIP is not shown, ``text`` where the bytes are cut off.
    """

    address: int | None
    code: bytes
    text: str | None
    at_rip: bool = False


def code_rows(facts: Facts, *, syntax: Syntax = "intel", before: int = _BEFORE, behind: int = _BEHIND) -> list[Row]:
    """The instruction at RIP, a few before it and behind it; none where no instruction was read.

    Only what certainly stands there is shown: before RIP, the instructions of a run that ends exactly at RIP.
    """
    failing = facts.instruction
    mode = facts.code_mode
    if failing is None or not failing.length or mode is None:
        return []
    rows = [_row(failing, at_rip=True)]
    if facts.rip is None:
        return [rows[0]._replace(address=None)]
    code = facts.failure.code
    if code is None or code.rip_at is None or facts.foreign_bytes or not code.at_rip().startswith(failing.bytes):
        return rows
    bits = mode.bitness
    rows = [*_before(code.window[: code.rip_at], failing.address, bits, syntax, before), *rows]
    if not failing.complete:
        return rows
    rest, address = code.at_rip()[failing.length :], failing.address + failing.length
    for _ in range(behind):
        following = decode_first(rest, bitness=bits, address=address, syntax=syntax)
        if following is None or not following.complete or following.invalid:
            break
        rows.append(_row(following))
        rest, address = rest[following.length :], address + following.length
    return rows


def _before(window: tuple[int | None, ...], rip: int, bits: int, syntax: Syntax, most: int) -> list[Row]:
    """What ends at RIP. x86 can be read forward only: from each byte on, and what most readings agree on is shown."""
    shown = window[len(window) - window[::-1].index(None) :] if None in window else window
    data = bytes(byte for byte in shown if byte is not None)[-(most + 1) * MAX_LENGTH :]
    runs: dict[int, list[Row]] = {len(data): []}  # the instructions from a byte on, where they end exactly at RIP
    for start in reversed(range(len(data))):
        address = rip - len(data) + start
        instruction = decode_first(data[start:], bitness=bits, address=address, syntax=syntax)
        if instruction is None or not instruction.complete or instruction.invalid:
            continue
        if (behind := runs.get(start + instruction.length)) is not None:
            runs[start] = [_row(instruction), *behind]
    read = [run[-most:] for run in reversed(runs.values()) if len(run) >= most]
    counted = Counter(tuple(row.address for row in run) for run in read)
    if not counted:
        return []
    addresses, votes = counted.most_common(1)[0]
    if votes * 2 <= len(read):
        return []
    return next(run for run in read if tuple(row.address for row in run) == addresses)


def _row(instruction: Instruction, *, at_rip: bool = False) -> Row:
    return Row(instruction.address & 0xFFFF_FFFF_FFFF_FFFF, instruction.bytes, instruction.text, at_rip)
