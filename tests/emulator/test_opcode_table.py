"""The shipped table is whole: every slot has one answer, and its words are known."""

from __future__ import annotations

from kvmwhy.emulator import caveats
from kvmwhy.emulator.opcode_table import Row, by_modrm, slot, slots

PREFIX_BYTES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3}
CODE_ONLY = {
    "xchg",
    "tzcnt",
    "lzcnt",
    "wbnoinvd",
    "movntdqa",
    "untouched",
    "lea-register",
    "xop",
    "evex",
    "rex2",
    "map-0f3a",
}


def matches(opcode_map: str, opcode: int, modrm: int, prefix: str, mode: str) -> list[Row]:
    found = slot(opcode_map, opcode)
    assert found is not None, (opcode_map, hex(opcode))
    rows = by_modrm(found.rows, modrm)
    return [row for row in rows if row.prefix in ("", prefix) and row.mode in ("", mode)]


def test_every_slot_has_exactly_one_row() -> None:
    """Whatever ModRM, prefix and mode: one row, or none where the slot is not for 64-bit mode."""
    skipped = {"0": PREFIX_BYTES | {0x0F}, "0f": {0x38}, "0f38": set()}
    for opcode_map, without in skipped.items():
        for opcode in set(range(256)) - without:
            for modrm in range(256):
                for prefix in ("none", "66", "f2", "f3"):
                    assert len(matches(opcode_map, opcode, modrm, prefix, "not64")) == 1
                    assert len(matches(opcode_map, opcode, modrm, prefix, "64")) <= 1


def test_opcode_counts() -> None:
    """Opcodes with at least one handler in 7.3: 233 of 244 in map 0, 115 of 254 in 0f, 3 in 0f38; 16 VEX slots."""

    def handled(opcode_map: str) -> int:
        return sum(
            1
            for (where, _, vex), found in slots().items()
            if where == opcode_map and not vex and any(row.outcome == "handler" for row in found.rows)
        )

    assert (handled("0"), handled("0f"), handled("0f38")) == (233, 115, 3)
    assert sum(len(found.rows) for (_, _, vex), found in slots().items() if vex) == 16


def test_every_limit_has_words() -> None:
    """A limit in the table is a sentence in limits.py or a case in the verdict's code."""
    used = {row.limit for found in slots().values() for row in found.rows} - {""}
    assert used <= caveats.GIVES_UP.keys() | caveats.CONDITIONAL.keys() | CODE_ONLY
    assert caveats.GIVES_UP.keys() | caveats.CONDITIONAL.keys() <= used


def test_empty_rows_can_be_explained() -> None:
    """Every entry with nothing behind it says so in words."""
    for found in slots().values():
        for row in found.rows:
            if row.outcome == "empty":
                assert row.limit in caveats.GIVES_UP
