"""Registers as VMMs other than QEMU print them: kvmtool's tables, and Rust's ``{:?}`` of the ioctls' structs.

rip: 0000000000008086   rsp: 0000000000000000 flags: 0000000000000002        kvmtool
kvm_regs { rax: 0, rbx: 3489660928, … rip: 32902, rflags: 2 }                 kvm-bindings, decimal
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.record import Code, Cpu, Segment

_NAMES: Final = "rax|rbx|rcx|rdx|rsi|rdi|rsp|rbp|r8|r9|r1[0-5]|rip"
_KVMTOOL_START: Final = re.compile(r"^ ?rip: ([0-9a-f]{16}) {1,4}rsp: [0-9a-f]{16} flags: [0-9a-f]{16}", re.MULTILINE)
_KVMTOOL: Final = re.compile(
    rf"\b(?P<name>{_NAMES}|flags|cr[0234]|efer): {{1,2}}(?P<value>[0-9a-f]{{16}})\b"
    r"|^ (?P<segment>cs|ss|ds|es|fs|gs|tr|ldt) {1,12}(?P<selector>[0-9a-f]{4}) {1,12}(?P<base>[0-9a-f]{16}) {1,12}(?P<limit>[0-9a-f]{8})"  # noqa: E501
    r" {1,12}(?P<type>[0-9a-f]{1,2}) {1,6}(?P<bits>[01](?: {1,3}[0-3]){6,7})\s*$"
    r"|^ (?P<table>gdt|idt) {1,24}(?P<tbase>[0-9a-f]{16}) {1,12}(?P<tlimit>[0-9a-f]{8})"
    r"|^ ?Code:\n(?: ?-{3,10}\n)?(?P<code>(?:[ \n]{0,4}(?:<[0-9a-f]{2}>|[0-9a-f]{2})(?![0-9a-z])){1,80})",
    re.MULTILINE,
)
_REACH: Final = 16 << 10
_RUST_REGS: Final = re.compile(r"\bkvm_regs \{\s{0,64}((?:[a-z0-9]{1,8}: (?:0x)?[0-9a-f]{1,20},?\s{0,64}){4,24})\}")
_RUST_SREGS: Final = re.compile(r"\bkvm_sregs2? \{")
_RUST_SEGMENT: Final = re.compile(r"\b(es|cs|ss|ds|fs|gs|ldt|tr): kvm_segment \{([^{}]{1,600})\}")
_RUST_TABLE: Final = re.compile(r"\b(gdt|idt): kvm_dtable \{([^{}]{1,300})\}")
_RUST_CONTROL: Final = re.compile(r"\b(cr[0234]|efer): (0x[0-9a-f]{1,16}|[0-9]{1,20})(?![0-9a-zA-Z])")
_FIELD: Final = re.compile(r"\b([a-z][a-z0-9_]{0,8}): (0x[0-9a-f]{1,16}|[0-9]{1,20})(?![0-9a-zA-Z])")
_MOST: Final = 1 << 64


class Registers(NamedTuple):
    at: int
    cpu: Cpu
    code: Code | None


def find_registers(text: str) -> list[Registers]:
    """Every dump of these forms, in order."""
    found = []
    if "rip: " in text and " flags: " in text:
        starts = [m.start() for m in _KVMTOOL_START.finditer(text)]
        ends = [*starts[1:], len(text)]
        found += [_kvmtool(text, a, min(b, a + _REACH)) for a, b in zip(starts, ends, strict=True)]
    if "kvm_regs {" in text:
        found += [_rust(text, m) for m in _RUST_REGS.finditer(text)]
    return sorted(found, key=lambda dump: dump.at)


def _attributes(f: dict[str, int]) -> int:
    word = f["type"] << 8 | f["s"] << 12 | f["dpl"] << 13 | f["present"] << 15
    return word | f["avl"] << 20 | f["l"] << 21 | f["db"] << 22 | f["g"] << 23


def _kvmtool(text: str, start: int, end: int) -> Registers:
    registers: dict[str, int] = {}
    segments: dict[str, Segment] = {}
    code = None
    for m in _KVMTOOL.finditer(text, start, end):
        if m["name"]:
            registers.setdefault("rflags" if m["name"] == "flags" else m["name"], int(m["value"], 16))
        elif m["segment"]:
            # The columns of kvmtool's print_segment: type, p dpl db s l g avl.
            bits = dict(zip(("present", "dpl", "db", "s", "l", "g", "avl"), map(int, m["bits"].split()), strict=False))
            selector, base, limit = (int(m[name], 16) for name in ("selector", "base", "limit"))
            attributes = _attributes(bits | {"type": int(m["type"], 16) & 0xF})
            segments.setdefault(m["segment"], Segment(selector, base, limit, attributes))
        elif m["table"]:
            segments.setdefault(m["table"], Segment(0, int(m["tbase"], 16), int(m["tlimit"], 16), 0))
        elif m["code"]:
            items = m["code"].split()
            at = next((n for n, item in enumerate(items) if item[0] == "<"), None)
            code = Code(tuple(int(item.strip("<>"), 16) for item in items), at)
            break
    return Registers(start, Cpu(registers=registers, segments=segments), code)


def _rust(text: str, found: re.Match[str]) -> Registers:
    registers = _numbers(found[1])
    segments: dict[str, Segment] = {}
    after = _RUST_SREGS.search(text, found.end(), found.end() + _REACH)
    another = text.find("kvm_regs {", found.end(), found.end() + _REACH)
    if after and (another < 0 or another > after.start()):
        stop = another if another > 0 else after.start() + _REACH
        for name, body in _RUST_SEGMENT.findall(text, after.start(), stop):
            f = _numbers(body.replace("type_:", "type:"))
            if {"base", "limit", "selector", "type", "s", "dpl", "present", "avl", "l", "db", "g"} <= set(f):
                limits = {"type": 15, "dpl": 3}
                if all(f[n] <= limits.get(n, 1) for n in ("type", "s", "dpl", "present", "avl", "l", "db", "g")):
                    segments.setdefault(name, Segment(f["selector"], f["base"], f["limit"], _attributes(f)))
        for name, body in _RUST_TABLE.findall(text, after.start(), stop):
            f = _numbers(body)
            if {"base", "limit"} <= set(f):
                segments.setdefault(name, Segment(0, f["base"], f["limit"], 0))
        for name, value in _RUST_CONTROL.findall(text, after.start(), stop):
            registers.setdefault(name, _number(value))
    return Registers(found.start(), Cpu(registers=registers, segments=segments), None)


def _numbers(text: str) -> dict[str, int]:
    return {name: value for name, digits in _FIELD.findall(text) if (value := _number(digits)) < _MOST}


def _number(digits: str) -> int:
    return int(digits, 16 if digits.startswith("0x") else 10)
