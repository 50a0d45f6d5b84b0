"""AMD SVM: exit codes, EXITINFO1 and EXITINFO2.

APM vol. 2, appendix C (codes) and 15.7-15.40 (EXITINFO). Names are the kernel's ``kvm_exit``
names in capitals (``npf`` → ``NPF``), without its two misprints (``read_rt``, ``write_rt``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from msgspec import Struct

from kvmwhy.abi.bitfields import hx, named, names_of_bits, unknown_bits
from kvmwhy.abi.x86.exceptions import MNEMONICS, NAMES, PUSHES_ERROR_CODE
from kvmwhy.abi.x86.page_fault import describe_page_fault_error


class Code(Struct, frozen=True):
    """An exit code. ``handled``: KVM 7.3 has a handler; without one it is suberror 4."""

    name: str
    handled: bool
    phrase: str


EXCEPTION_BASE = 0x40
PF = 0x4E
NPF = 0x400

_KVM_HANDLES_CRS = {"READ": (0, 3, 4, 8), "WRITE": (0, 3, 4, 8), "TRAP": (0, 4, 8)}
_KVM_HANDLES_EXCEPTIONS = (1, 3, 6, 14, 17, 18, 13)
# AMD's spelling of vector 19 is XF.
_EXCEPTION_NAMES: dict[int, str] = {
    vector: short.removeprefix("#") for vector, short in {**MNEMONICS, 19: "#XF"}.items()
}


def _exceptions() -> dict[int, Code]:
    codes = {}
    for vector in range(32):
        short = _EXCEPTION_NAMES.get(vector)
        name = f"{short}_EXCP" if short else f"EXCP_{vector}"
        phrase = f"exception: {NAMES[vector]}" if vector in NAMES else f"exception vector {vector}, reserved"
        codes[EXCEPTION_BASE + vector] = Code(name, vector in _KVM_HANDLES_EXCEPTIONS, phrase)
    return codes


def _control_registers() -> dict[int, Code]:
    codes = {}
    for n in range(16):
        reads, writes, traps = (n in _KVM_HANDLES_CRS[kind] for kind in ("READ", "WRITE", "TRAP"))
        codes[0x00 + n] = Code(f"READ_CR{n}", reads, f"a read of CR{n}")
        codes[0x10 + n] = Code(f"WRITE_CR{n}", writes, f"a write to CR{n}")
        codes[0x20 + n] = Code(f"READ_DR{n}", n < 8, f"a read of DR{n}")
        codes[0x30 + n] = Code(f"WRITE_DR{n}", n < 8, f"a write to DR{n}")
        codes[0x90 + n] = Code(f"WRITE_CR{n}_TRAP", traps, f"CR{n} has been written (reported afterwards)")
    return codes


CODES: dict[int, Code] = {
    **_control_registers(),
    **_exceptions(),
    0x60: Code("INTERRUPT", True, "an interrupt for the host"),
    0x61: Code("NMI", True, "an NMI"),
    0x62: Code("SMI", True, "a system-management interrupt"),
    0x63: Code("INIT", False, "an INIT signal arrived"),
    0x64: Code("VINTR", True, "the guest can take an interrupt again"),
    0x65: Code("CR0_SEL_WRITE", True, "a write to CR0 that changes more than TS and MP"),
    0x66: Code("READ_IDTR", False, "SIDT"),
    0x67: Code("READ_GDTR", False, "SGDT"),
    0x68: Code("READ_LDTR", False, "SLDT"),
    0x69: Code("READ_TR", False, "STR"),
    0x6A: Code("WRITE_IDTR", False, "LIDT"),
    0x6B: Code("WRITE_GDTR", False, "LGDT"),
    0x6C: Code("WRITE_LDTR", False, "LLDT"),
    0x6D: Code("WRITE_TR", False, "LTR"),
    0x6E: Code("RDTSC", False, "RDTSC"),
    0x6F: Code("RDPMC", True, "RDPMC"),
    0x70: Code("PUSHF", False, "PUSHF"),
    0x71: Code("POPF", False, "POPF"),
    0x72: Code("CPUID", True, "CPUID"),
    0x73: Code("RSM", True, "RSM"),
    0x74: Code("IRET", True, "IRET"),
    0x75: Code("SWINT", False, "INT n"),
    0x76: Code("INVD", True, "INVD"),
    0x77: Code("PAUSE", True, "PAUSE"),
    0x78: Code("HLT", True, "HLT"),
    0x79: Code("INVLPG", True, "INVLPG"),
    0x7A: Code("INVLPGA", True, "INVLPGA"),
    0x7B: Code("IO", True, "a port I/O instruction"),
    0x7C: Code("MSR", True, "RDMSR or WRMSR"),
    0x7D: Code("TASK_SWITCH", True, "a hardware task switch"),
    0x7E: Code("FERR_FREEZE", False, "the x87 error freeze"),
    0x7F: Code("SHUTDOWN", True, "the guest triple-faulted"),
    0x80: Code("VMRUN", True, "VMRUN"),
    0x81: Code("HYPERCALL", True, "VMMCALL, a hypercall"),
    0x82: Code("VMLOAD", True, "VMLOAD"),
    0x83: Code("VMSAVE", True, "VMSAVE"),
    0x84: Code("STGI", True, "STGI"),
    0x85: Code("CLGI", True, "CLGI"),
    0x86: Code("SKINIT", True, "SKINIT"),
    0x87: Code("RDTSCP", True, "RDTSCP"),
    0x88: Code("ICEBP", True, "INT1 (ICEBP)"),
    0x89: Code("WBINVD", True, "WBINVD or WBNOINVD"),
    0x8A: Code("MONITOR", True, "MONITOR"),
    0x8B: Code("MWAIT", True, "MWAIT"),
    0x8C: Code("MWAIT_COND", False, "MWAIT with monitoring armed"),
    0x8D: Code("XSETBV", True, "XSETBV"),
    0x8E: Code("RDPRU", True, "RDPRU"),
    0x8F: Code("WRITE_EFER_TRAP", True, "EFER has been written (reported afterwards)"),
    0xA0: Code("INVLPGB", False, "INVLPGB"),
    0xA1: Code("INVLPGB_ILLEGAL", False, "INVLPGB that the guest may not use so"),
    0xA2: Code("INVPCID", True, "INVPCID"),
    0xA3: Code("MCOMMIT", False, "MCOMMIT"),
    0xA4: Code("TLBSYNC", False, "TLBSYNC"),
    0xA5: Code("BUSLOCK", True, "the guest took a bus lock"),
    0xA6: Code("IDLE_HALT", True, "HLT with no interrupt pending"),
    NPF: Code("NPF", True, "an access the host's nested page tables do not allow"),
    0x401: Code("AVIC_INCOMPLETE_IPI", True, "AVIC could not deliver an inter-processor interrupt"),
    0x402: Code("AVIC_UNACCELERATED_ACCESS", True, "an APIC access AVIC does not accelerate"),
    0x403: Code("VMGEXIT", True, "VMGEXIT: an SEV-ES guest asks the hypervisor"),
    # Software codes an SEV-ES or SEV-SNP guest puts into its GHCB (AMD 56421, GHCB specification)
    0x80000001: Code("VMGEXIT_MMIO_READ", True, "the guest asks for an MMIO read (GHCB)"),
    0x80000002: Code("VMGEXIT_MMIO_WRITE", True, "the guest asks for an MMIO write (GHCB)"),
    0x80000003: Code("VMGEXIT_NMI_COMPLETE", True, "the guest has finished an NMI (GHCB)"),
    0x80000004: Code("VMGEXIT_AP_HLT_LOOP", True, "a processor of the guest waits for start-up (GHCB)"),
    0x80000005: Code("VMGEXIT_AP_JUMP_TABLE", True, "the guest sets or gets its AP jump table (GHCB)"),
    0x80000010: Code("VMGEXIT_PAGE_STATE_CHANGE", True, "the guest changes page states (GHCB)"),
    0x80000011: Code("VMGEXIT_GUEST_REQUEST", True, "a message to the AMD secure processor (GHCB)"),
    0x80000012: Code("VMGEXIT_EXT_GUEST_REQUEST", True, "an extended message to the secure processor (GHCB)"),
    0x80000013: Code("VMGEXIT_AP_CREATION", True, "the guest creates a processor (GHCB)"),
    0x80000018: Code("VMGEXIT_SNP_RUN_VMPL", False, "the guest runs another privilege level (GHCB)"),
    0x8000001A: Code("VMGEXIT_SAVIC", False, "a Secure AVIC request (GHCB)"),
    0x8000FFFD: Code("VMGEXIT_HV_FEATURES", True, "the guest asks for hypervisor features (GHCB)"),
    0x8000FFFE: Code("VMGEXIT_TERM_REQUEST", True, "the guest asks to be terminated (GHCB)"),
    0x8000FFFF: Code("VMGEXIT_UNSUPPORTED_EVENT", False, "the guest met an exit it cannot translate (GHCB)"),
    0xF0000000: Code("SOFTWARE", False, "reserved for software and hypervisors"),
}

# Negative codes: 64 bits in the VMCB; KVM looked at the low 32 only before 7.0 (d7507a94a072).
NEGATIVE_CODES: dict[int, Code] = {
    -1: Code("INVALID_GUEST_STATE", False, "VMRUN refused: invalid guest state (VMEXIT_INVALID)"),
    -2: Code("BUSY", False, "VMRUN refused: the guest's save area is in use (VMEXIT_BUSY)"),
    -3: Code("IDLE_REQUIRED", False, "VMRUN refused: the sibling thread is not idle (VMEXIT_IDLE_REQUIRED)"),
    -4: Code("INVALID_PMC", False, "VMRUN refused: invalid PMC state (VMEXIT_INVALID_PMC)"),
}
# -1 as KVM stores it in an exit code or as hardware_entry_failure_reason: 32 bits wide before 7.0, 64 from then on.
VMEXIT_INVALID: Final = (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)


@lru_cache(maxsize=256)  # pure, and there are few that occur
def find_code(code: int) -> Code | None:
    """The entry for an exit code, negative ones as 32 or 64 bits."""
    for width in (32, 64):
        entry = NEGATIVE_CODES.get(code - (1 << width))
        if entry is not None:
            return entry
    return CODES.get(code)


def is_assigned(code: int) -> bool:
    """A code AMD has given a meaning to: the reserved exception vectors have none."""
    entry = find_code(code)
    return entry is not None and not entry.name.startswith("EXCP_")


def names_no_register(code: int) -> bool:
    """A CR or DR that does not exist: touching it is #UD before any intercept (APM vol. 2, 15.7)."""
    if 0 <= code < 0x20:
        return code & 0xF not in (0, 2, 3, 4, 8)
    return 0x20 <= code < 0x40 and code & 0xF >= 8


def is_ghcb_code(code: int) -> bool:
    """One of the software codes of the GHCB protocol."""
    return code in CODES and 0x80000001 <= code <= 0x8000FFFF


def code_name(code: int) -> str | None:
    entry = find_code(code)
    return entry.name if entry else None


def describe_code(code: int) -> str:
    """``NPF: an access …``, or that the code is not known."""
    entry = find_code(code)
    return named(entry.name, entry.phrase) if entry else "not a known exit code"


_GPRS = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{n}" for n in range(8, 16)))
_SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS")
_MOV = 1 << 63


def _io(info: int) -> str:
    sizes = [str(1 << n) for n in range(3) if info >> 4 + n & 1]
    widths = [str(16 << n) for n in range(3) if info >> 7 + n & 1]
    parts = [f"{'IN from' if info & 1 else 'OUT to'} port {hx(info >> 16 & 0xFFFF)}"]
    parts.append(f"{' and '.join(sizes)} byte{'' if sizes == ['1'] else 's'}" if sizes else "no size given")
    parts += names_of_bits(info, {2: "string instruction", 3: "REP prefix"})
    if widths:
        parts.append(f"{' and '.join(widths)}-bit addresses")
    segment = info >> 10 & 7
    if info & 4:
        parts.append(f"segment {_SEGMENTS[segment] if segment < len(_SEGMENTS) else segment}")
    return "; ".join(parts + unknown_bits(info, 0xFFFF1FFD))


def _cr(info: int) -> str:
    if info & _MOV:
        return "; ".join([f"MOV with {_GPRS[info & 0xF]}", *unknown_bits(info, _MOV | 0xF)])
    return "no register given (no decode assist, or not a MOV)" if not info else "not a MOV, or stale"


def describe_exitinfo1(code: int, info: int) -> str:
    """What EXITINFO1 says under this exit code."""
    vector = code - EXCEPTION_BASE
    if code == NPF:
        return describe_page_fault_error(info, nested=True)
    if code == PF:
        return describe_page_fault_error(info, nested=False)
    if 0 <= code <= 0x1F or code == 0x65:
        return _cr(info)
    if 0x20 <= code <= 0x3F:
        return "; ".join([f"register {_GPRS[info & 0xF]} (with decode assist)", *unknown_bits(info, 0xF)])
    if 0 <= vector < 32:
        if vector in PUSHES_ERROR_CODE:
            return "the exception's error code"
        return "none" if not info else "not defined for this exception"
    if code == 0x79:
        return "the linear address of INVLPG (with decode assist)"
    if code == 0x7B:
        return _io(info)
    if code == 0x7C:
        return "; ".join(["WRMSR" if info & 1 else "RDMSR", *unknown_bits(info, 1)])
    if code == 0x7D:
        return "; ".join([f"to TSS selector {hx(info & 0xFFFF)}", *unknown_bits(info, 0xFFFF)])
    if code == 0xA2:
        return "the linear address of INVPCID's descriptor"
    if 0x8F <= code <= 0x9F:
        return "the new value of the register"
    if code == 0x401:
        return f"the interrupt command (ICR): high {hx(info >> 32)}, low {hx(info & 0xFFFFFFFF)}"
    if code == 0x402:
        access = "write to" if info >> 32 & 1 else "read of"
        return "; ".join([f"{access} APIC offset {hx(info & 0xFF0)}", *unknown_bits(info, 1 << 32 | 0xFF0)])
    if code == 0x403 or is_ghcb_code(code):
        return "as the guest put it into its GHCB"
    return "none" if not info else "not defined for this exit"


_IPI_FAILURES = (
    "invalid interrupt type",
    "target not running",
    "invalid target",
    "invalid backing page",
)


def _task_switch(info: int) -> str:
    parts = [f"error code {hx(info & 0xFFFFFFFF)}"] if info >> 44 & 1 else ["no error code"]
    parts += names_of_bits(info, {36: "by IRET", 38: "by JMP", 48: "RF was set"})
    known = 1 << 36 | 1 << 38 | 1 << 44 | 1 << 48 | 0xFFFFFFFF
    return "; ".join(parts + unknown_bits(info, known))


def describe_exitinfo2(code: int, info: int) -> str:
    """What EXITINFO2 says under this exit code."""
    if code == NPF:
        return "the guest physical address that was accessed"
    if code == PF:
        return "the guest linear address that faulted (CR2)"
    if code == 0x7B:
        return "RIP of the next instruction"
    if code == 0x7D:
        return _task_switch(info)
    if code == 0xA2:
        return "the invalidation type"
    if code == 0x401:
        cause = info >> 32
        why = _IPI_FAILURES[cause] if cause < len(_IPI_FAILURES) else f"failure {cause}, not known"
        return f"{why}; table index {hx(info & 0xFFFFFFFF)}"
    if code == 0x402:
        vector = info & 0xFFFFFFFF
        return "; ".join([f"vector {vector} ({hx(vector)})", *unknown_bits(info, 0xFFFFFFFF)])
    if code == 0x403 or is_ghcb_code(code):
        return "as the guest put it into its GHCB"
    return "none" if not info else "not defined for this exit"
