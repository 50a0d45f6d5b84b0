"""The state of a vCPU of another architecture than x86 in a line, and the words for what made it leave the guest."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi import exit_words as abi_words
from kvmwhy.abi.arm64 import esr
from kvmwhy.abi.loongarch import exceptions as loongarch
from kvmwhy.abi.mips import exceptions as mips
from kvmwhy.abi.ppc64 import traps
from kvmwhy.abi.riscv64 import causes
from kvmwhy.abi.s390x import intercepts
from kvmwhy.arch.arm64 import pstate
from kvmwhy.record import Failure

_S390_ENTRY: Final = (0x180000000, 0x7FD00600)  # where QEMU's boot loader begins
_POWER_RESET: Final = 0x100
_BIG_ENDIAN: Final = {"s390x", "mips", "ppc"}
_HALF_WORD: Final = {"riscv64": 2, "s390x": 2}  # the shortest instruction; four bytes elsewhere


def state(failure: Failure) -> str | None:
    """Where the vCPU was; None if that is x86's, or not shown."""
    registers = failure.cpu.registers if failure.cpu else {}
    match failure.arch:
        case "arm64":
            parts = _arm64(registers)
        case "riscv64":
            parts = _riscv64(registers)
        case "s390x":
            parts = _s390x(registers)
        case "ppc64" | "ppc":
            parts = _power(registers)
        case "loongarch":
            parts = _loongarch(registers)
        case "mips":
            parts = _mips(registers)
        case _:
            return None
    return "; ".join(parts) or None


def exit_words(failure: Failure) -> str | None:
    """What made it leave the guest, where the text gives it."""
    left = failure.exit
    if left is None:
        if failure.exit_reason is None or failure.arch in {None, "x86"}:
            return None
        return abi_words.words(failure.exit_reason, failure.exit_fields, failure.arch)
    if left.isa is not None:
        return None
    address = f", guest address {left.info2:#x}" if left.info2 is not None else ""
    match failure.arch:
        case "arm64":
            words = esr.describe(left.info1) if left.info1 else esr.CLASSES.get(left.reason)
        case "riscv64":
            words = causes.cause(left.reason)
        case "s390x":
            words = intercepts.INTERCEPTS.get(left.reason)
        case "loongarch":
            words = loongarch.exception(left.reason)
        case "mips":
            words = mips.exception(left.reason)
        case "ppc64" | "ppc":
            words = traps.trap(left.reason)
        case _:
            words = None
    return f"{words or f'{left.reason:#x}'}{address}"


def instruction(failure: Failure) -> str | None:
    """The instruction at the program counter, where its bytes were printed and a decoder is installed."""
    code = failure.code.at_rip() if failure.code else b""
    if len(code) < _HALF_WORD.get(failure.arch or "", 4):
        return None
    registers = failure.cpu.registers if failure.cpu else {}
    if failure.arch == "arm64" and registers.get("psr", registers.get("pstate", 0)) & pstate.AARCH32:
        return None
    from kvmwhy.arch.disassembly import disassemble

    found = disassemble(failure.arch, code, registers.get("pc", 0), big_endian=failure.arch in _BIG_ENDIAN)
    if found is None:
        return None
    return f"{found.text}    [{code[: found.size].hex(' ')}] from the VMM's dump"


def hardware_reason(failure: Failure) -> str | None:
    """The number of KVM_EXIT_UNKNOWN on POWER: a trap, or an error of the hypervisor below."""
    if failure.hardware_reason is None or failure.arch not in {"ppc64", "ppc"}:
        return None
    return traps.hardware_reason(failure.hardware_reason)


def _pc(registers: dict[str, int]) -> list[str]:
    return [f"PC {registers['pc']:#x}"] if "pc" in registers else []


def _arm64(registers: dict[str, int]) -> list[str]:
    parts = _pc(registers)
    name = "pstate" if "pstate" in registers else "psr"
    if (value := registers.get(name)) is not None:
        parts.append(f"{', '.join(pstate.words(value))} ({name.upper()} {value:#x})")
    if "far_el2" in registers:
        parts.append(f"FAR {registers['far_el2']:#x}")
    return parts


def _riscv64(registers: dict[str, int]) -> list[str]:
    parts = _pc(registers)
    if "stval" in registers:
        parts.append(f"STVAL {registers['stval']:#x}")
    return parts


def _s390x(registers: dict[str, int]) -> list[str]:
    mask, addr = registers.get("psw_mask"), registers.get("psw_addr")
    if mask is None or addr is None:
        return []
    parts = [f"PSW {mask:#x} {addr:#x}"]
    if (mask, addr) == _S390_ENTRY:
        parts.append("the boot loader's entry: nothing ran yet")
    else:
        parts += intercepts.psw(mask, addr)
    return parts


def _power(registers: dict[str, int]) -> list[str]:
    if "nip" not in registers:
        return []
    parts = [f"NIP {registers['nip']:#x}"]
    if "msr" in registers:
        parts.append(f"MSR {registers['msr']:#x}")
    gprs = [registers.get(f"r{n}") for n in range(4, 32)]
    if registers["nip"] == _POWER_RESET and not any(gprs):
        parts.append("the reset vector: nothing ran yet")
    return parts


def _loongarch(registers: dict[str, int]) -> list[str]:
    parts = _pc(registers)
    if "badv" in registers:
        parts.append(f"BADV {registers['badv']:#x}")
    if (estat := registers.get("estat")) is not None:
        code = loongarch.ecode_of(estat)
        last = loongarch.exception(code) if code else "an interrupt, or none yet"
        parts.append(f"its last exception: {last} (ESTAT {estat:#x})")
    return parts


def _mips(registers: dict[str, int]) -> list[str]:
    parts = _pc(registers)
    if (cause := registers.get("cp0_cause")) is not None:
        parts.append(f"its last exception: {mips.exception(mips.code_of(cause))} (Cause {cause:#x})")
    return parts
