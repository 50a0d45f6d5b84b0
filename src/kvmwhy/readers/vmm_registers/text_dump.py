"""Tables of registers in plain text: one value behind each name, a row for each segment, a block of code.

 rip: 0000000000008086   rsp: 0000000000000000 flags: 0000000000000002     kvmtool (x86/kvm-cpu.c), ukvm
rax:               0x10       r8:                0x0   cr0:     0x80010033   uhyve
RAX: 0x5affa890         RBX: 0x0                RCX: 0x0                     km
 rax = 0x0000000000000000 rbx = 0x0000000000000000                           opendcdiag
rax=0000000000000000 rcx=00000000000000c2                                    kvm-unit-tests
rip            0xfff0              0xfff0 <start+16>                         gdb's info registers
"""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.abi import literal
from kvmwhy.readers.vmm_registers.dump import MOST, Registers, canonical, segment_of
from kvmwhy.readers.vmm_registers.struct_dump import segments_in
from kvmwhy.record import Code, Cpu, Segment

_NAME: Final = (
    r"r(?:[abcd]x|[sd]i|[sb]p|ip|8|9|1[0-5]|flags)|e(?:[abcd]x|[sd]i|[sb]p|ip|flags|fer)|flags|cr[0234]|dr[0-7]"
)
# Lower case, or capitals with 0x: capitals without it are an oops of the kernel, or QEMU's.
_PAIR: Final = re.compile(
    rf"(?<![A-Za-z0-9_%$])(?:(?P<name>{_NAME})(?: {{0,3}}[:=] {{0,18}}| {{1,20}}(?=0x)| (?=[0-9a-f]{{16}}))(?P<value>0x[0-9a-fA-F]{{1,16}}|[0-9a-f]{{4,16}})"  # noqa: E501
    rf"|(?P<upper>{_NAME.upper()}): {{0,18}}(?P<big>0x[0-9a-fA-F]{{1,16}}))(?![0-9A-Za-z_])"
)
# kvmtool's row: selector, base, limit, type, then p dpl db s l g avl.
_ROW: Final = re.compile(
    r"^ {0,2}(?P<name>cs|ss|ds|es|fs|gs|tr|ldt) {1,12}(?P<selector>[0-9a-f]{4}) {1,12}(?P<base>[0-9a-f]{16}) {1,12}(?P<limit>[0-9a-f]{8})"  # noqa: E501
    r" {1,12}(?P<type>[0-9a-f]{1,2}) {1,6}(?P<bits>[01](?: {1,3}[0-3]){6,7})\s*$"
)
_ROW_BITS: Final = ("present", "dpl", "db", "s", "l", "g", "avl")
# km's and opendcdiag's: every field by its name.
_NAMED_ROW: Final = re.compile(
    r"^\s{0,4}(?P<name>CS|SS|DS|ES|FS|GS|TR|LDT|[cdefgs]s|tr|ldt) {1,4}(?:= (?P<selector>0x[0-9a-f]{1,4}) )?"
    r"(?=base ?[:=])"
)
_NAMED_FIELD: Final = re.compile(
    r"\b(base|limit|selector|type|present|dpl|db|s|l|g|avl) ?[:=] ?(0x[0-9a-fA-F]{1,16}|[0-9]{1,3}(?![0-9a-zA-Z-]))"
)
_TYPE_LETTERS: Final = re.compile(r"\btype=(?P<letters>[RWXCEa-]{4})\b")
_TABLE: Final = re.compile(
    r"^\s{0,4}(?P<name>gdt|idt|GDT|IDT):? {0,24}(?:base ?[:=] ?)?(?P<base>0x[0-9a-fA-F]{1,16}|[0-9a-f]{16}) {1,12}(?:limit ?[:=] ?)?(?P<limit>0x[0-9a-fA-F]{1,8}|[0-9a-f]{8})\b"  # noqa: E501
)
_CODE_HEAD: Final = re.compile(r"^ {0,2}Code:\s*$")
_CODE_LINE: Final = re.compile(r"^ {0,2}(?:(?:<[0-9a-f]{2}>|[0-9a-f]{2})(?: {1,2}|$)){1,64}\s*$")
_KM_CODE: Final = re.compile(r"^(?P<rip>0x[0-9a-f]{1,16}) {0,18}: (?P<bytes>(?:0x[0-9a-f]{2}(?: |$)){1,16})\s*$")
_OF_CPU: Final = re.compile(r"\bDump state of CPU (?P<vcpu>[0-9]{1,4})\b")
_HINT: Final = re.compile(r"r(?:ax|ip|sp) {0,3}[:=]|RAX: {0,18}0x|r(?:ax|ip) {4,16}0x|cr0 {0,3}[:=]|\brax [0-9a-f]{16}")
_GAP: Final = 6  # lines without a value inside of a dump: headings, rules, symbols
_FEWEST: Final = 3
_FULL: Final = 9  # RIP may be said once by itself
_MOST_CODE: Final = 128
_MOST_LINE: Final = 400


class _Block:
    """A dump while its lines come."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.stop = start
        self.registers: dict[str, int] = {}
        self.segments: dict[str, Segment] = {}
        self.row: tuple[str, dict[str, int]] | None = None
        self.code: Code | None = None
        self.vcpu: int | None = None
        self.misses = 0

    def value(self, name: str, digits: str) -> None:
        value = int(digits, 16)
        if value < MOST:
            self.registers.setdefault(name, value)

    def take_row(self) -> None:
        if self.row and (segment := segment_of({"avl": 0, **self.row[1]})):
            self.segments.setdefault(self.row[0], segment)
            self.row = None

    def done(self) -> Registers | None:
        if len(self.registers) < _FEWEST and not (self.registers and len(self.segments) > 1):
            return None
        cpu = Cpu(registers=self.registers, segments=self.segments)
        return Registers(self.start, self.stop, cpu, self.code, self.vcpu)


def text_dumps(text: str) -> list[Registers]:
    """Every table of registers, in order."""
    if not _HINT.search(text):
        return []
    out: list[Registers] = []
    block: _Block | None = None
    vcpu: int | None = None
    code = _CodeReader()
    at = 0
    for line in text.split("\n"):
        begin, at = at, at + len(line) + 1
        line = line[:_MOST_LINE]  # noqa: PLW2901  what is longer is no table
        if match := _OF_CPU.search(line):
            vcpu = int(match["vcpu"])
        pairs = [(canonical(m["name"] or m["upper"]), m["value"] or m["big"]) for m in _PAIR.finditer(line)]
        if block and _starts_another(block, pairs):
            out += filter(None, [block.done()])
            block = None
        if block is None:
            if not pairs:
                continue
            block, code = _Block(begin), _CodeReader()
            block.vcpu, vcpu = vcpu, None
        if _take(block, line, pairs) or code.take(line, block):
            block.stop, block.misses = begin + len(line), 0
            continue
        block.misses += 1
        if block.misses > _GAP:
            out += filter(None, [block.done()])
            block = None
    if block:
        out += filter(None, [block.done()])
    return out


def _starts_another(block: _Block, pairs: list[tuple[str | None, str]]) -> bool:
    """RAX or RIP again, at the start of a line: another vCPU's dump, or another failure's."""
    first = pairs[0][0] if pairs else None
    return first in block.registers and (first == "rax" or (first == "rip" and len(block.registers) >= _FULL))


def _take(block: _Block, line: str, pairs: list[tuple[str | None, str]]) -> bool:
    """Put what a line holds into the block; whether it held anything."""
    for name, digits in pairs:
        if name:
            block.value(name, digits)
    if match := _ROW.match(line):
        bits = dict(zip(_ROW_BITS, map(int, match["bits"].split()), strict=False))
        fields = {name: int(match[name], 16) for name in ("selector", "base", "limit")}
        row = segment_of(bits | fields | {"type": int(match["type"], 16) & 0xF})
        if row:
            block.segments.setdefault(match["name"], row)
        return True
    structs = segments_in(line)
    for name, segment in structs.items():
        block.segments.setdefault(name, segment)
    if match := _TABLE.match(line):
        block.segments.setdefault(match["name"].lower(), Segment(0, int(match["base"], 16), int(match["limit"], 16), 0))
        return True
    named = _NAMED_ROW.match(line)
    if named:
        block.row = (named["name"].lower(), {"selector": int(named["selector"], 16)} if named["selector"] else {})
    if block.row:
        fields = {m[1]: literal.number(m[2]) for m in _NAMED_FIELD.finditer(line)}
        if letters := _TYPE_LETTERS.search(line):
            fields["type"] = _type_of(letters["letters"])
            fields["present"] = int("present" in line)
        if fields:
            block.row[1].update(fields)
            block.take_row()
            return True
    return bool(pairs or structs)


def _type_of(letters: str) -> int:
    """As opendcdiag's kvm_log_segment prints it: R-Xa is readable, executable, accessed code."""
    accessed = int(letters[3] == "a")
    if letters[2] == "X":
        return 8 | (letters[1] == "C") << 2 | (letters[0] == "R") << 1 | accessed
    return (letters[1] == "E") << 2 | ("W" in letters) << 1 | accessed


class _CodeReader:
    """kvmtool's code block: a heading, a rule, the symbol and a blank line, then bytes, the one at RIP in brackets."""

    def __init__(self) -> None:
        self.open = False
        self.skipped = 0
        self.items: list[str] = []

    def take(self, line: str, block: _Block) -> bool:
        if match := _KM_CODE.match(line):
            if block.registers.get("rip") == int(match["rip"], 16):
                block.code = Code(tuple(int(byte, 16) for byte in match["bytes"].split()), 0)
            return True
        if _CODE_HEAD.match(line):
            self.open, self.skipped = True, 0
            return True
        if not self.open:
            return False
        if _CODE_LINE.match(line) and len(self.items) < _MOST_CODE:
            self.items += line.split()
            block.code = self._code()
            return True
        self.skipped += 1
        if self.items or self.skipped > _GAP:
            self.open = False
        return False

    def _code(self) -> Code:
        rip_at = next((n for n, item in enumerate(self.items) if item[0] == "<"), None)
        return Code(tuple(int(item.strip("<>"), 16) for item in self.items), rip_at)
