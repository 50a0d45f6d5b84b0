"""Base register and offset of RV64's loads and stores, against capstone's text of the same bytes."""

from __future__ import annotations

import random
import re

import pytest

from kvmwhy.abi.riscv64.one_reg import BY_NUMBER
from kvmwhy.arch.riscv64.operand import Operand, operand

_MEMORY = re.compile(r"(-?(?:0x)?[0-9a-f]+)?\((\w+)\)$")
_NOT_THESE = ("jr", "jalr", "c.jr", "c.jalr", "sfence", "prefetch", "cbo", "hlv", "hsv", "hlvx")


def test_known_bytes() -> None:
    """ld a0, 8(a1); sd a0, -8(sp); amoadd.w; c.ld a2, 0(a0); c.sdsp; addi."""
    code = ("83b58500", "233ca1fe", "2f250500", "1061", "2ae4", "13050500")
    assert [operand(bytes.fromhex(text)) for text in code] == [
        *(Operand(11, 8), Operand(2, -8, True), Operand(10, 0, True), Operand(10, 0), Operand(2, 8, True), None)
    ]


def test_they_are_those_of_the_disassembly() -> None:
    """Of random words that capstone reads as a load or store."""
    capstone = pytest.importorskip("capstone")
    decoder = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
    choose, seen, differ = random.Random(7), 0, []  # noqa: S311 -- words to decode
    for _ in range(60_000):
        code = choose.getrandbits(32).to_bytes(4, "little")
        for instruction in decoder.disasm(code, 0, 1):
            memory = _MEMORY.search(instruction.op_str)
            if memory is None or instruction.mnemonic.startswith(_NOT_THESE):
                continue
            seen += 1
            base, offset = BY_NUMBER.index(memory[2].replace("fp", "s0")), int(memory[1] or "0", 0)
            found = operand(code)
            if found is None or (found.base, found.offset) != (base, offset):
                differ.append((code.hex(), instruction.mnemonic, instruction.op_str, found))
    assert differ == []
    assert seen > 2_000
