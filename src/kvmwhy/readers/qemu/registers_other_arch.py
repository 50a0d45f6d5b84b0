"""QEMU's register dumps of architectures other than x86.

Each architecture has its own names and columns, so the names tell which one it is. A dump may be cut anywhere, quoted
or folded; it is read register by register, and what is missing is named.

Formats: target/arm/cpu.c (of 2.0 to 4.1, with PC and SP on one line, and of later ones), target/s390x/cpu-dump.c,
target/ppc/cpu_init.c, target/riscv/cpu.c, target/loongarch/cpu.c, target/mips/cpu.c of QEMU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from kvmwhy.record import Arch

# Each line of each dump holds at least one of these; only the words that no x86 dump has.
_CPU_NUMBER: Final = re.compile(r"\bCPU#([0-9]{1,4})\b")  # at the end of ppc's first line
_LEAST: Final = 4  # registers; fewer are some other text
_GAP: Final = 200  # characters between two registers of one dump: a line of something else, or two
_LONGEST_TOKEN: Final = 600  # characters: four names and values with mail's indentation between them
_OTHER_FAILURE: Final = re.compile(r"kvm run failed|KVM: unknown exit|KVM internal error")
_W: Final = r"[0-9a-f]{1,16}(?![0-9a-zA-Z])"
_RISCV_NAMES: Final = (
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", *(f"a{n}" for n in range(8)),
    *(f"s{n}" for n in range(2, 12)), "t3", "t4", "t5", "t6",
)  # fmt: skip


class ArchDump(NamedTuple):
    """``registers`` have the architecture's own names, in lower case."""

    at: int
    end: int
    arch: Arch
    registers: dict[str, int]
    damage: tuple[str, ...]
    vcpu: int | None = None


class _Form(NamedTuple):
    """How one architecture prints its registers."""

    arch: Arch
    opening: re.Pattern[str]  # some register that only this architecture prints so
    token: re.Pattern[str]
    read: Callable[[re.Match[str]], Iterator[tuple[str, str, int]]]  # name, digits, how many there must be
    complete: tuple[str, ...]  # what an intact dump has


def _arm64(token: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    name, digits = token[1], token[2]
    yield (f"x{int(name[1:])}" if name[0] == "X" else name.lower()), digits, 8 if name == "PSTATE" else 16


def _arm32(token: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    name, digits = token[1], token[2]
    number = int(name[1:]) if name[1:].isdigit() else -1
    yield {13: "sp", 14: "lr", 15: "pc", -1: "psr"}.get(number, f"r{number}"), digits, 8


def _s390x(token: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    mask, addr, name, digits = token.groups()
    if name:
        yield f"{name[0].lower()}{int(name[1:])}", digits, 16
    else:
        yield "psw_mask", mask, 16
        if addr:
            yield "psw_addr", addr, 16


def _ppc(token: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    number, values, name, digits = token.groups()
    if number:
        for n, value in enumerate(values.split(), int(number)):
            yield f"r{n}", value, 8 if len(value) <= 8 else 16
    else:
        yield name.lower(), digits, 8 if len(digits) <= 8 else 16


def _riscv(token: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    number, name, digits = token.groups()
    known = number is not None and int(number) < len(_RISCV_NAMES)
    yield (_RISCV_NAMES[int(number)] if known else name), digits, 8 if len(digits) <= 8 else 16


def _loongarch(token: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    pc, gprs, old, old_digits, csrs = token.groups()
    if pc:
        yield "pc", pc, 8 if len(pc) <= 8 else 16
    elif old:
        yield old.lower(), old_digits, 16
    else:
        words = (gprs or csrs).split()
        for name, digits in zip(words[::2], words[1::2], strict=False):
            yield name.lower(), digits, (8 if len(digits) <= 8 else 16) if gprs else len(digits)


def _mips(token: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    pc, hi, lo, gprs, status, cause, epc = token.groups()
    if pc:
        yield from (
            (name, value, 8 if len(value) <= 8 else 16) for name, value in (("pc", pc), ("hi", hi), ("lo", lo)) if value
        )
    elif gprs:
        words = gprs.split()
        for name, digits in zip(words[::2], words[1::2], strict=False):
            yield name, digits, 8 if len(digits) <= 8 else 16
    else:
        yield "cp0_status", status, 8
        yield "cp0_cause", cause, 8
        if epc:
            yield "cp0_epc", epc, 8 if len(epc) <= 8 else 16


_PPC_NAMES: Final = (
    "NIP|LR|CTR|XER|MSR|HID[01]|HF|CR|H?SRR[01]|PVR|VRSAVE|SPRG[0-9]|CFAR|LPCR|PTCR|DAR|DSISR|SDR1|M?CSRR[01]|TCR|TSR"
    "|ESR|DEAR|PIR|DECAR|IVPR|EPCR|MCSR|EPR|MCAR|PID[12]?|SVR|MAS[0-9]"
)
_MIPS_NAME: Final = r"(?:r0|at|gp|sp|ra|[vatsk]\d)"
_LOONGARCH_CSRS: Final = (
    "CRMD|PRMD|EUEN|MISC|ECFG|ESTAT|ERA|BADV|BADI|EENTRY|TLBRENTRY|TLBRBADV|TLBRERA|ASID|PGDL|PGDH|PRCFG[123]"
)
_FORMS: Final = (
    _Form(
        "arm64",
        re.compile(r"\bX[0-3]\d=[0-9a-f]{16}\b|\bPC=[0-9a-f]{16}\s+(?:X00|SP)=|\bPSTATE=[0-9a-f]{8}\b"),
        re.compile(rf"\b(X[0-3]\d|PC|SP|PSTATE)=({_W})"),
        _arm64,
        ("pc", *(f"x{n}" for n in range(31)), "sp", "pstate"),
    ),
    _Form(
        "s390x",
        re.compile(r"\bPSW=mask\s{1,40}[0-9a-f]{16}\b|\bR0\d=[0-9a-f]{16}\b|\bC[01]\d=[0-9a-f]{16}\b"),
        re.compile(rf"\bPSW=mask\s+({_W})(?:\s+addr\s+({_W}))?|\b([RC][01]\d)=({_W})"),
        _s390x,
        ("psw_mask", "psw_addr", *(f"r{n}" for n in range(16)), *(f"c{n}" for n in range(16))),
    ),
    _Form(
        "arm64",
        re.compile(r"\bR0\d=[0-9a-f]{8}\b|\bPSR=[0-9a-f]{8}\b"),
        re.compile(rf"\b(R[01]\d|PSR)=({_W})"),
        _arm32,
        (*(f"r{n}" for n in range(13)), "sp", "lr", "pc", "psr"),
    ),
    _Form(
        "ppc64",
        re.compile(r"\bNIP\s+[0-9a-f]{8,16}\s+LR\s|\bGPR[0-3]\d\s+[0-9a-f]{8,16}\b|\bH?SRR0 [0-9a-f]{8,16} +H?SRR1 "),
        re.compile(rf"\bGPR([0-3]\d)((?:\s{{1,40}}{_W}){{1,4}})|\b({_PPC_NAMES})\s{{1,40}}({_W})"),
        _ppc,
        ("nip", "lr", "ctr", "xer", "msr", *(f"r{n}" for n in range(32))),
    ),
    _Form(
        "riscv64",
        re.compile(
            r"(?<![\w/])x\d{1,2}/[a-z]\w{1,3}\s+[0-9a-f]{8,16}\b"
            r"|^[ \t]*pc\s+[0-9a-f]{16}$|\bmhartid\s+[0-9a-f]{8,16}\b",
            re.MULTILINE,
        ),
        re.compile(rf"(?<![\w/])(?:x(\d{{1,2}})/[a-z]\w{{1,3}}|(pc|[mshv][a-z0-9]{{2,8}}))\s{{1,40}}({_W})"),
        _riscv,
        ("pc", *_RISCV_NAMES),
    ),
    _Form(
        "loongarch",
        re.compile(r"\bPC=[0-9a-f]{8,16}\s+FCSR0 |\bGPR[0-3]\d:\s+r\d{1,2}\s+[0-9a-f]{8,16}\s+r\d|\bCSR\d{3}:\s+[A-Z]"),
        re.compile(
            rf"\bPC=({_W})|\bGPR[0-3]\d:((?:\s{{1,40}}r\d{{1,2}}\s{{1,40}}{_W}){{1,4}})|\b({_LOONGARCH_CSRS})=({_W})"
            rf"|\bCSR\d{{3}}:((?:\s{{1,40}}[A-Z][A-Z0-9]{{1,12}}\s{{1,40}}{_W}){{1,4}})"
        ),
        _loongarch,
        ("pc", *(f"r{n}" for n in range(32))),
    ),
    _Form(
        "mips",
        re.compile(
            r"\bpc=0x[0-9a-f]{8,16}\s+HI=0x|\bCP0 Status\s{1,40}0x[0-9a-f]"
            rf"|\bGPR[0-3]\d:\s+{_MIPS_NAME}\s+[0-9a-f]{{8,16}}\s+{_MIPS_NAME}\s"
        ),
        re.compile(
            rf"\bpc=0x({_W})(?:\s+HI=0x({_W}))?(?:\s+LO=0x({_W}))?"
            rf"|\bGPR[0-3]\d:((?:\s{{1,40}}{_MIPS_NAME}\s{{1,40}}{_W}){{1,4}})"
            rf"|\bCP0 Status\s+0x({_W})\s+Cause\s+0x({_W})(?:\s+EPC\s+0x({_W}))?"
        ),
        _mips,
        ("pc", "hi", "lo", "cp0_status", "cp0_cause", "cp0_epc"),
    ),
)


def find_arch_dumps(text: str) -> list[ArchDump]:
    """Every dump of another architecture, in order."""
    dumps: list[ArchDump] = []
    for form in _FORMS:
        at = 0
        while opening := form.opening.search(text, at):
            dump = _read(form, text, opening.start())
            at = max(dump.end, opening.end())
            if len(dump.registers) >= _LEAST:
                dumps.append(dump)
    return sorted(dumps)


def _read(form: _Form, text: str, start: int) -> ArchDump:
    registers: dict[str, int] = {}
    damage: list[str] = []
    wide = False
    end = start
    while token := form.token.search(text, end, end + _GAP + _LONGEST_TOKEN):
        if token.start() - end > _GAP or _OTHER_FAILURE.search(text, end, token.start()):
            break
        values = list(form.read(token))
        if any(name in registers for name, _, _ in values):  # another vCPU's dump, or the same once more
            break
        for name, digits, width in values:
            wide = wide or len(digits) == 16
            # Eight digits at the very end may be half of sixteen.
            if len(digits) != width or (wide and width == 8 and token.end() == len(text)):
                damage.append(f"{name} is cut: {digits}")
            else:
                registers[name] = int(digits, 16)
        end = token.end()
    if missing := [name for name in form.complete if name not in registers]:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        damage.append(f"the register dump is not complete: no {', '.join(missing[:4])}{more}")
    arch: Arch = "ppc" if form.arch == "ppc64" and not wide else form.arch
    number = _CPU_NUMBER.search(text, start, min(end, start + _GAP))
    return ArchDump(start, end, arch, registers, tuple(damage), int(number[1]) if number else None)
