"""Base register and offset of A64's loads and stores, against capstone's text of the same words."""

from __future__ import annotations

import random
import re

import pytest

from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.arch.arm64.operand import Operand, operand

_MEMORY = re.compile(r"\[(x(\d+)|sp)(?:, #(-?(?:0x)?[0-9a-f]+))?(?:, [xw](\d+|zr)[^\]]*)?\](!?)")


def test_known_words() -> None:
    """ldp x0, x2, [x0, #16]; str x1, [x2], #8; ldr q0, [sp, #32]; ldur w3, [x4, #-4]; ldr x0, [x1, x2]; ldr literal."""
    words = (0xA9410800, 0xF8008441, 0x3DC00BE0, 0xB85FC083, 0xF8626820, 0x58000040)
    assert [operand(word) for word in words] == [
        *(Operand(0, 16), Operand(2, 0), Operand(31, 32), Operand(4, -4), Operand(1, 0, 2), None)
    ]


def test_they_are_those_of_the_disassembly() -> None:
    """Of some thousand random words that capstone reads as a load or store with a base."""
    capstone = pytest.importorskip("capstone")
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    choose, seen, differ = random.Random(7), 0, []  # noqa: S311 -- words to decode
    for _ in range(60_000):
        word = choose.getrandbits(32) & ~(1 << 25) | 1 << 27
        access = load_store(word)
        if not isinstance(access, LoadStore) or access.form in {"memory copy or set", "memory tag"}:
            continue
        for instruction in decoder.disasm(word.to_bytes(4, "little"), 0):
            memory = _MEMORY.search(instruction.op_str)
            if memory is None:
                continue
            seen += 1
            base = 31 if memory[1] == "sp" else int(memory[2])
            offset = int(memory[3] or "0", 0)
            index = None if memory[4] is None else 31 if memory[4] == "zr" else int(memory[4])
            changed = re.search(r"\[\w+, [xw]\w+, (?:[us]xtw|.*#)", instruction.op_str) is not None
            if operand(word) != Operand(base, offset, index, changed):
                differ.append((hex(word), instruction.mnemonic, instruction.op_str, operand(word)))
    assert differ == []
    assert seen > 5_000
