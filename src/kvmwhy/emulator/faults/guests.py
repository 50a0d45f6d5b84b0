"""The guests that show each family, with what a CPU makes of them by the manuals (SDM vol. 2, APM vol. 3)."""

from __future__ import annotations

import struct
from typing import Final

from kvmwhy.emulator.faults.family import FIELD, LANDING, LINEAR, Guest, Store

_CF, _ZF = 1 << 0, 1 << 6
_LONG: Final = {"rbx": LINEAR + FIELD}
_SHORT: Final = {"rbx": FIELD}
_GENERAL: Final = {
    "rax": 0x1A1A, "rcx": 0x1C1C, "rdx": 0x1D1D, "rbx": 0x1B1B, "rbp": 0xBABA, "rsi": 0x5151, "rdi": 0xD1D1,
}  # fmt: skip
_POPPED: Final = {
    "rdi": 0x1111, "rsi": 0x2222, "rbp": 0x3333, "rbx": 0x5555, "rdx": 0x6666, "rcx": 0x7777, "rax": 0x8888,
}  # fmt: skip
_WORDS: Final = (0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666, 0x7777, 0x8888)


def _words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def _bits(text: str, code: str, value: int, result: int, flags: int, *, lzcnt: bool = False) -> Guest:
    """A count of bits: of ``value`` in memory, into EAX. CF: the source is 0. ZF: the result is."""
    return Guest(
        *(f"{text}, source {value:#x}", "long64", bytes.fromhex(code), "data"),
        {**_LONG, "rax": 0x77},
        {"rax": result, "rflags": flags},
        (0, struct.pack("<Q", value)),
        (0, struct.pack("<Q", value)),
        (_CF | _ZF, flags),
        "lzcnt" if lzcnt else "bmi1",
    )


def _selector(text: str, code: str, selector: int) -> Guest:
    return Guest(text, "long64", bytes.fromhex(code), "data", _LONG, {}, after=(0, _words(selector)))


BIT_COUNTS: Final = (
    _bits("tzcnt eax,[rbx]", "f3 0f bc 03", 0, 32, _CF),
    _bits("tzcnt eax,[rbx]", "f3 0f bc 03", 1, 0, _ZF),
    _bits("lzcnt eax,[rbx]", "f3 0f bd 03", 0, 32, _CF, lzcnt=True),
    _bits("lzcnt eax,[rbx]", "f3 0f bd 03", 0x10000, 15, 0, lzcnt=True),
)
SELECTOR_STORES: Final = (
    _selector("mov [rbx],fs with REX.W", "48 8c 23", 0x10),
    _selector("sldt [rbx] with REX.W", "48 0f 00 03", 0),
    _selector("str [rbx] with REX.W", "48 0f 00 0b", 0x18),
)
PUSHES: Final = (
    Guest(
        *("pusha", "real16", bytes.fromhex("60"), "stack"),
        {**_GENERAL, "rsp": FIELD},
        {"rsp": FIELD - 16},
        after=(-16, _words(0xD1D1, 0x5151, 0xBABA, FIELD, 0x1B1B, 0x1D1D, 0x1C1C, 0x1A1A)),
    ),
    Guest(
        *("call 0x90:0xa00", "real16", bytes.fromhex("9a 00 0a 90 00"), "stack"),
        {"rsp": FIELD},
        {"rsp": FIELD - 4, "rip": LANDING + 1},
        after=(-4, _words(0x805, 0x90)),
    ),
)
POPS: Final = (
    Guest(
        *("popa", "real16", bytes.fromhex("61"), "stack"),
        {**_GENERAL, "rsp": FIELD},
        {**_POPPED, "rsp": FIELD + 16},
        (0, _words(*_WORDS)),
        (0, _words(*_WORDS)),
    ),
    Guest(
        *("retf with REX.W", "long64", bytes.fromhex("48 cb"), "stack"),
        {"rsp": LINEAR + FIELD},
        {"rsp": LINEAR + FIELD + 16, "rip": 0x1801},
        (0, struct.pack("<QQ", 0x1800, 0x08)),
        (0, struct.pack("<QQ", 0x1800, 0x08)),
    ),
    Guest(
        *("iret", "real16", bytes.fromhex("cf"), "stack"),
        {"rsp": FIELD, "rflags": _ZF},
        {"rsp": FIELD + 6, "rip": LANDING + 1, "rflags": _CF},
        (0, _words(LANDING, 0x90, _CF | 2)),
        (0, _words(LANDING, 0x90, _CF | 2)),
        (_CF | _ZF, _CF),
    ),
)
FRAMES: Final = (
    Guest(
        *("enter 16,0 with operands of 32 bits and a stack of 16", "real16", bytes.fromhex("66 c8 10 00 00"), "stack"),
        {"rsp": FIELD, "rbp": 0x11223344},
        {"rsp": FIELD - 4 - 16, "rbp": FIELD - 4},
        after=(-4, struct.pack("<I", 0x11223344)),
    ),
    Guest(
        *("enter 16,0 with operands of 16 bits and a stack of 32", "prot16", bytes.fromhex("c8 10 00 00"), "stack"),
        {"rsp": FIELD, "rbp": 0x11223344},
        {"rsp": FIELD - 2 - 16, "rbp": 0x11220000 | FIELD - 2},
        after=(-2, _words(0x3344)),
        wide_stack=True,
    ),
)
NO_EXITS: Final = (
    Guest(
        *("sgdt [rbx]", "long64", bytes.fromhex("0f 01 03"), "data", _LONG, {}),
        after=(0, struct.pack("<HQ", 0x17, 0x2000)),
    ),
    Guest(
        *("lgdt [rbx]", "long64", bytes.fromhex("0f 01 13"), "data", _LONG, {}),
        before=(0, struct.pack("<HQ", 0x17, 0x2000)),
        after=(0, struct.pack("<HQ", 0x17, 0x2000)),
    ),
    Guest("fxsave [bx]", "real16", bytes.fromhex("0f ae 07"), "data", _SHORT, {}, loose=True),
)
_HYPERCALL: Final = {"rax": 0x99}  # no number that KVM knows
_ENOSYS: Final = {"rax": 0xFFFFFC18}  # -KVM_ENOSYS, in 32 bits
HYPERCALLS: Final = (
    Guest("vmcall, CS.base 0x900", "prot16", bytes.fromhex("0f 01 c1"), "code", _HYPERCALL, _ENOSYS, needs="amd"),
    Guest("vmmcall, CS.base 0x900", "prot16", bytes.fromhex("0f 01 d9"), "code", _HYPERCALL, _ENOSYS, needs="intel"),
)
COMPRESSED_STORES: Final = (
    Store("c.swsp a2,0(sp)", 0xC032, 4),
    Store("c.swsp a2,8(sp)", 0xC432, 4),
    Store("c.swsp a2,32(sp)", 0xD032, 4),
    Store("c.sdsp a2,0(sp)", 0xE032, 8),
    Store("c.sdsp a2,8(sp)", 0xE432, 8),
    Store("c.sdsp a2,32(sp)", 0xF032, 8),
)
