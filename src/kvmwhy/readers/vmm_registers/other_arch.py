"""kvmtool's registers on other architectures than x86, by the names that it prints.

PC:    0xffff800080a95ed0 …  PSTATE:    0x600000c5 …                arm64 (arm/aarch64/kvm-cpu.c)
PC: 0x0000000080200000   RA: 0x… SP: 0x… GP: 0x…                    riscv64 (riscv/kvm-cpu.c), then the CSRs
NIP:   c000000000028d50  MSR:   8000000000001033 ( SF ME …)         ppc64 (powerpc/kvm-cpu.c)
PC:    0x8000 …  CPSR:  0x1d3 …                                     arm, 32-bit (arm/aarch32/kvm-cpu.c)

Behind them, of arm and riscv, the memory at the program counter taken for a physical address (kvm.c: kvm__dump_mem):

*pc:
 0x80a95ed0: e0 03 1f aa  c0 03 5f d6
"""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.readers.vmm_registers.dump import Registers
from kvmwhy.record import Arch, Code, Cpu

_HEAD: Final = re.compile(r"^ (?:General Purpose |Control Status )?Registers:\s*$", re.MULTILINE)
_PAIR: Final = re.compile(
    r"(?<![A-Za-z0-9_])([A-Z][A-Z0-9_]{1,8}): {1,8}(?:0x([0-9a-f]{1,16})|([0-9a-f]{8,16}))(?![0-9a-zA-Z])"
)
_ENDS: Final = re.compile(r"^\*(?:pc|PC)|^ (?:Stack|Code):|^\s*$\n^\S", re.MULTILINE)
_REACH: Final = 6000
_NAMED_BY: Final[tuple[tuple[str, Arch], ...]] = (
    ("PSTATE", "arm64"),
    ("CPSR", "arm64"),
    ("NIP", "ppc64"),
    ("RA", "riscv64"),
    ("SATP", "riscv64"),
)
_NAMES: Final = {"sp_el1": "sp", "lr": "x30", "cpsr": "psr"}
_MEMORY: Final = re.compile(
    r"\s*^\*(?:pc|PC):[ \t\r]*\n((?:[ \t]*0x[0-9a-f]{8,16}:(?: {1,2}[0-9a-f]{2}){4,8}[ \t\r]*\n?){1,4})", re.MULTILINE
)
_FEWEST: Final = 2


def other_dumps(text: str) -> list[Registers]:
    """The dumps of a text; one of riscv64 may come in two parts."""
    out: list[Registers] = []
    heads = [match.start() for match in _HEAD.finditer(text)]
    for number, start in enumerate(heads):
        end = min(start + _REACH, heads[number + 1] if number + 1 < len(heads) else len(text))
        ends = _ENDS.search(text, start + 1, end)
        pairs = list(_PAIR.finditer(text, start, ends.start() if ends else end))
        shown = {pair[1]: int(pair[2] or pair[3], 16) for pair in pairs}
        arch = next((arch for name, arch in _NAMED_BY if name in shown), None)
        if arch is None or len(shown) < _FEWEST:
            continue
        registers = {name.lower(): value for name, value in shown.items()}
        if arch == "arm64":
            registers = {_NAMES.get(name, name): value for name, value in registers.items()}
        code, stop = _code(text, pairs[-1].end())
        dump = Registers(start, stop, Cpu(registers=registers), code, arch=arch)
        if out and out[-1].arch == arch and not registers.keys() & out[-1].cpu.registers.keys():
            dump = dump._replace(start=out[-1].start, cpu=Cpu(registers=out[-1].cpu.registers | registers))
            out.pop()
        out.append(dump)
    return out


def _code(text: str, behind: int) -> tuple[Code | None, int]:
    """The bytes at the program counter, if the next thing is their block; and where what was read ends."""
    block = _MEMORY.match(text, text.find("\n", behind) if "\n" in text[behind : behind + 40] else behind)
    if block is None:
        return None, behind
    words = " ".join(line.split(":", 1)[1] for line in block[1].splitlines())
    return Code(tuple(bytes.fromhex(words)), 0), block.end()
