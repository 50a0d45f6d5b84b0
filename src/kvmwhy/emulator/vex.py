"""VEX-encoded instructions: unknown to KVM before 6.19, a few plain moves since."""

from __future__ import annotations

from kvmwhy.emulator import caveats
from kvmwhy.emulator.opcode_table import NEWEST, Row, Version, by_modrm, slot
from kvmwhy.emulator.prefixes import Prefixes
from kvmwhy.emulator.result import Verdict, lock_not_allowed, never, torn

SINCE: Version = (6, 19)
_MOVNTDQA_RIGHT: Version = (7, 1)
_PP = ("none", "66", "f3", "f2")
_MAPS = {1: "0f", 2: "0f38", 3: "0f3a"}


def is_vex(code: bytes, at: int, *, long: bool) -> bool:
    """C4 and C5: outside 64-bit mode they are LES and LDS unless ModRM would name a register."""
    return code[at] in (0xC4, 0xC5) and (long or (at + 1 < len(code) and code[at + 1] >= 0xC0))


def vex_verdict(code: bytes, prefixes: Prefixes, version: Version | None) -> Verdict:
    at = prefixes.end
    needed = 3 if code[at] == 0xC5 else 4
    if len(code) < at + needed:
        if version is not None and version < SINCE:
            return _before_vex(f"{code[at]:02x} (VEX)", version)
        return torn(code, at)
    number = 1 if needed == 3 else code[at + 1] & 0x1F
    last, opcode = code[at + needed - 2], code[at + needed - 1]  # last: vvvv, L, pp
    modrm = code[at + needed] if len(code) > at + needed else None
    opcode_map = _MAPS.get(number, f"map{number}")
    prefix = _PP[last & 3]
    name = f"VEX.{opcode_map}{'' if prefix == 'none' else '.' + prefix} {opcode:02x}"

    entry = slot(opcode_map, opcode, vex=True)
    rows = () if entry is None else tuple(row for row in entry.rows if row.prefix == prefix)
    if rows and modrm is not None:
        name += ", register" if modrm >= 0xC0 else ", memory"
        rows = by_modrm(rows, modrm)
    elif any(row.mod for row in rows):
        return torn(code, at)
    if not rows:
        return never(
            name,
            f"KVM's emulator has no handler for this VEX (AVX, BMI …) instruction ({name}): "
            f"none up to Linux {NEWEST} has; 6.19 brought a few plain moves only.",
        )
    if (broken := _broken(last, prefixes)) is not None:
        return never(name, f"KVM cannot decode this VEX instruction ({name}): {broken}.")
    if version is not None and version < SINCE:
        return _before_vex(name, version)
    if prefixes.lock:
        return lock_not_allowed(name)
    return _handler(rows[0], name, version)


def _handler(row: Row, name: str, version: Version | None) -> Verdict:
    wrong_way = row.limit == "movntdqa" and (version is None or version < _MOVNTDQA_RIGHT)
    return Verdict(
        "handler",
        row.since,
        False,
        caveats.NEEDS_AVX,
        name,
        f"KVM can carry out this AVX move ({name}) since Linux {row.since}.",
        caveats.MOVNTDQA if wrong_way else None,
    )


def _broken(last: int, prefixes: Prefixes) -> str | None:
    if last & 0x78 != 0x78:
        return "its VEX.vvvv field is not 1111"
    if prefixes.operand_size or prefixes.repeat or prefixes.rex:
        return "a 66, F2, F3 or REX prefix stands before the VEX prefix"
    return None


def _before_vex(name: str, version: Version) -> Verdict:
    sentence = (
        f"Linux {version[0]}.{version[1]} cannot emulate any VEX instruction ({name}); plain AVX moves came in 6.19."
    )
    return Verdict("no-handler", "6.19", False, None, name, sentence)
