"""Intel VMX: exit reasons, exit qualifications, VM-instruction errors, guest-state words.

SDM vol. 3D, appendix C (exit reasons); vol. 3C, 28.2.1 (qualifications), 31.4 (VM-instruction
errors), 25.4.2 (interruptibility and activity). Names are the ones the kernel's ``kvm_exit``
tracepoint prints; where it prints only a number the name is ours and ``ftrace`` is false.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.bitfields import hx, named, names_of_bits, unknown_bits
from kvmwhy.abi.x86.intr_info import VALID


class Reason(Struct, frozen=True):
    """A basic exit reason. ``handled``: KVM 7.3 has a handler; without one it is suberror 4."""

    name: str
    ftrace: bool
    handled: bool
    phrase: str


EXCEPTION_NMI = 0
TASK_SWITCH = 9
INVALID_STATE = 33
MSR_LOAD_FAIL = 34
MCE_DURING_VMENTRY = 41
APIC_ACCESS = 44
EPT_VIOLATION = 48
EPT_MISCONFIG = 49
UNDEFINED = 0xDEAD  # KVM's own, stored after VMLAUNCH or VMRESUME itself failed

ENTRY_FAILURE = 1 << 31

REASONS: dict[int, Reason] = {
    0: Reason("EXCEPTION_NMI", True, True, "an exception or an NMI"),
    1: Reason("EXTERNAL_INTERRUPT", True, True, "an interrupt for the host"),
    2: Reason("TRIPLE_FAULT", True, True, "the guest triple-faulted"),
    3: Reason("INIT_SIGNAL", True, False, "an INIT signal arrived"),
    4: Reason("SIPI_SIGNAL", True, False, "a start-up IPI arrived"),
    5: Reason("IO_SMI", False, False, "a system-management interrupt right after an I/O instruction"),
    6: Reason("OTHER_SMI", False, False, "a system-management interrupt"),
    7: Reason("INTERRUPT_WINDOW", True, True, "the guest can take an interrupt again"),
    8: Reason("NMI_WINDOW", True, True, "the guest can take an NMI again"),
    9: Reason("TASK_SWITCH", True, True, "a hardware task switch"),
    10: Reason("CPUID", True, True, "CPUID"),
    11: Reason("GETSEC", False, False, "GETSEC"),
    12: Reason("HLT", True, True, "HLT"),
    13: Reason("INVD", True, True, "INVD"),
    14: Reason("INVLPG", True, True, "INVLPG"),
    15: Reason("RDPMC", True, True, "RDPMC"),
    16: Reason("RDTSC", True, False, "RDTSC"),
    17: Reason("RSM", False, False, "RSM"),
    18: Reason("VMCALL", True, True, "VMCALL, a hypercall"),
    19: Reason("VMCLEAR", True, True, "VMCLEAR"),
    20: Reason("VMLAUNCH", True, True, "VMLAUNCH"),
    21: Reason("VMPTRLD", True, True, "VMPTRLD"),
    22: Reason("VMPTRST", True, True, "VMPTRST"),
    23: Reason("VMREAD", True, True, "VMREAD"),
    24: Reason("VMRESUME", True, True, "VMRESUME"),
    25: Reason("VMWRITE", True, True, "VMWRITE"),
    26: Reason("VMOFF", True, True, "VMXOFF"),
    27: Reason("VMON", True, True, "VMXON"),
    28: Reason("CR_ACCESS", True, True, "a control-register access"),
    29: Reason("DR_ACCESS", True, True, "a debug-register access"),
    30: Reason("IO_INSTRUCTION", True, True, "a port I/O instruction"),
    31: Reason("MSR_READ", True, True, "RDMSR"),
    32: Reason("MSR_WRITE", True, True, "WRMSR"),
    33: Reason("INVALID_STATE", True, False, "VM entry refused: invalid guest state"),
    34: Reason("MSR_LOAD_FAIL", True, False, "VM entry refused: an MSR could not be loaded"),
    35: Reason("RESERVED_35", False, False, "reserved by Intel"),
    36: Reason("MWAIT_INSTRUCTION", True, True, "MWAIT"),
    37: Reason("MONITOR_TRAP_FLAG", True, True, "the monitor trap flag (a single step)"),
    38: Reason("RESERVED_38", False, False, "reserved by Intel"),
    39: Reason("MONITOR_INSTRUCTION", True, True, "MONITOR"),
    40: Reason("PAUSE_INSTRUCTION", True, True, "PAUSE"),
    41: Reason("MCE_DURING_VMENTRY", True, True, "a machine check during VM entry"),
    42: Reason("RESERVED_42", False, False, "reserved by Intel"),
    43: Reason("TPR_BELOW_THRESHOLD", True, True, "the task priority fell below its threshold"),
    44: Reason("APIC_ACCESS", True, True, "an access to the APIC page"),
    45: Reason("EOI_INDUCED", True, True, "an end-of-interrupt KVM had asked to see"),
    46: Reason("GDTR_IDTR", True, True, "LGDT, LIDT, SGDT or SIDT"),
    47: Reason("LDTR_TR", True, True, "LLDT, LTR, SLDT or STR"),
    48: Reason("EPT_VIOLATION", True, True, "an access the host's page tables (EPT) do not allow"),
    49: Reason("EPT_MISCONFIG", True, True, "an access to a page KVM has marked as MMIO"),
    50: Reason("INVEPT", True, True, "INVEPT"),
    51: Reason("RDTSCP", True, False, "RDTSCP"),
    52: Reason("PREEMPTION_TIMER", True, True, "the VMX preemption timer ran out"),
    53: Reason("INVVPID", True, True, "INVVPID"),
    54: Reason("WBINVD", True, True, "WBINVD or WBNOINVD"),
    55: Reason("XSETBV", True, True, "XSETBV"),
    56: Reason("APIC_WRITE", True, True, "a write to the virtual APIC page"),
    57: Reason("RDRAND", True, True, "RDRAND"),
    58: Reason("INVPCID", True, True, "INVPCID"),
    59: Reason("VMFUNC", True, True, "VMFUNC"),
    60: Reason("ENCLS", True, True, "ENCLS (SGX)"),
    61: Reason("RDSEED", True, True, "RDSEED"),
    62: Reason("PML_FULL", True, True, "the page-modification log is full"),
    63: Reason("XSAVES", True, False, "XSAVES"),
    64: Reason("XRSTORS", True, False, "XRSTORS"),
    65: Reason("PCONFIG", False, False, "PCONFIG"),
    66: Reason("SPP_EVENT", False, False, "a sub-page write-permission event"),
    67: Reason("UMWAIT", True, False, "UMWAIT"),
    68: Reason("TPAUSE", True, False, "TPAUSE"),
    69: Reason("LOADIWKEY", False, False, "LOADIWKEY"),
    70: Reason("ENCLV", False, False, "ENCLV (SGX)"),
    71: Reason("RESERVED_71", False, False, "reserved by Intel"),
    72: Reason("ENQCMD_PASID", False, False, "ENQCMD without a PASID translation"),
    73: Reason("ENQCMDS_PASID", False, False, "ENQCMDS without a PASID translation"),
    74: Reason("BUS_LOCK", True, True, "the guest took a bus lock"),
    75: Reason("NOTIFY", True, True, "the guest kept the CPU busy with no chance for an event (notify)"),
    76: Reason("SEAMCALL", False, True, "SEAMCALL (TDX)"),
    77: Reason("TDCALL", False, True, "TDCALL (TDX)"),
    78: Reason("RDMSRLIST", False, False, "RDMSRLIST"),
    79: Reason("WRMSRLIST", False, False, "WRMSRLIST"),
    80: Reason("URDMSR", False, False, "URDMSR"),
    81: Reason("UWRMSR", False, False, "UWRMSR"),
    82: Reason("RESERVED_82", False, False, "not assigned when this was written"),
    83: Reason("RESERVED_83", False, False, "not assigned when this was written"),
    84: Reason("MSR_READ_IMM", True, True, "RDMSR with the MSR number in the instruction"),
    85: Reason("MSR_WRITE_IMM", True, True, "WRMSRNS with the MSR number in the instruction"),
    86: Reason("RESERVED_86", False, False, "not assigned when this was written"),
    UNDEFINED: Reason(
        "UNDEFINED", False, False, "no exit happened: VMLAUNCH or VMRESUME itself failed (KVM's own number)"
    ),
}

# Bits of the exit-reason word above the basic reason (SDM vol. 3C, 25.9.1; KVM's union
# vmx_exit_reason has 26-29 and 31; bit 25 from the SDM alone).
MODIFIERS: dict[int, str] = {
    25: "a prematurely busy shadow stack",
    26: "a bus lock was detected",
    27: "from inside an SGX enclave",
    28: "with a monitor-trap exit pending",
    29: "from VMX root operation",
    31: "VM entry failed",
}
_MODIFIER_BITS = sum(1 << bit for bit in MODIFIERS)

# The basic reasons bit 31 may come with (SDM vol. 3C, 27.8).
ENTRY_FAILURE_REASONS: tuple[int, ...] = (INVALID_STATE, MSR_LOAD_FAIL, MCE_DURING_VMENTRY)


def is_reason(word: int) -> bool:
    """A word the CPU or KVM could have stored as an exit reason: known basic part, no reserved bit."""
    if word & ~(0xFFFF | _MODIFIER_BITS) or word & 0xFFFF not in REASONS:
        return False
    return not word & ENTRY_FAILURE or word & 0xFFFF in ENTRY_FAILURE_REASONS


def reason_name(word: int) -> str | None:
    """The basic reason's name; ``None`` if it has none."""
    reason = None if word >> 32 else REASONS.get(word & 0xFFFF)
    return reason.name if reason else None


def describe_reason(word: int) -> str:
    """``EPT_VIOLATION: an access …``, with the modifier bits that are set."""
    reason = REASONS.get(word & 0xFFFF)
    parts = [named(reason.name, reason.phrase) if reason else f"basic reason {word & 0xFFFF} is not known"]
    parts += names_of_bits(word, MODIFIERS)
    return "; ".join(parts + unknown_bits(word, 0xFFFF | _MODIFIER_BITS))


# Exit qualifications (SDM vol. 3C, 28.2.1, tables 28-1 to 28-7)

GPRS = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{n}" for n in range(8, 16)))

# Where the CPU puts the displacement of the instruction's memory operand.
_DISPLACEMENT = frozenset((19, 21, 22, 23, 25, 27, 46, 47, 50, 53, 58, 63, 64, 72, 73))
# Reasons with a qualification this module does not take apart, or none the sources describe.
_NO_LAYOUT = frozenset((65, 66, 69, 70, 71, 76, 77, 78, 79, 80, 81, 82, 83, 86))

_APIC_ACCESS_TYPES: dict[int, str] = {
    0: "linear read",
    1: "linear write",
    2: "linear instruction fetch",
    3: "linear access while delivering an event",
    10: "physical access while delivering an event",
    15: "physical access for an instruction fetch or execution",
}
_ENTRY_FAILURES: dict[int, str] = {
    0: "no further detail",
    2: "the PDPTEs could not be loaded",
    3: "an NMI was to be injected while blocking by STI forbids it",
    4: "the VMCS link pointer is bad",
}
_TASK_SWITCH_SOURCES = ("by CALL", "by IRET", "by JMP", "through a task gate in the IDT")
_CR_ACCESSES = ("MOV to CR", "MOV from CR", "CLTS", "LMSW")
_DEBUG_CONDITIONS: dict[int, str] = {
    0: "breakpoint 0 met",
    1: "breakpoint 1 met",
    2: "breakpoint 2 met",
    3: "breakpoint 3 met",
    11: "bus lock",
    13: "debug register access detected",
    14: "single step",
    16: "inside a transaction (RTM)",
}


def _ept_violation(q: int) -> str:
    kinds = [name for bit, name in enumerate(("read", "write", "instruction fetch")) if q >> bit & 1]
    parts = [" and ".join(kinds) if kinds else "no kind of access given"]
    allowed = [name for bit, name in enumerate(("read", "write", "execute"), 3) if q >> bit & 1]
    if allowed:
        parts.append(f"the host's page tables (EPT) allow {', '.join(allowed)}")
    else:
        parts.append("nothing is mapped at the guest physical address")
    known = 0x1F1FF  # 8:0 and 16:12
    if q >> 6 & 1:
        parts.append("user-mode execution allowed")
    if q >> 7 & 1:
        parts.append("guest linear address valid")
        if q >> 8 & 1:
            parts.append("the access itself, not a page walk")
            known |= 0xE00  # advanced information is defined for the final access only
            if q & 0xE00:
                user = "user" if q >> 9 & 1 else "supervisor"
                writable = "writable" if q >> 10 & 1 else "read-only"
                fetchable = "not executable" if q >> 11 & 1 else "executable"
                parts.append(f"the guest's own page tables say {user}, {writable}, {fetchable}")
        else:
            parts.append("a walk of the guest's own page tables, not the access itself")
    else:
        parts.append("no guest linear address")
        known &= ~0x100  # bit 8 says something only beside bit 7
    more = {
        12: "NMI unblocking by IRET",
        13: "shadow-stack access",
        14: "supervisor shadow-stack page",
        15: "guest-paging verification failed",
        16: "asynchronous to the instruction",
    }
    return "; ".join(parts + names_of_bits(q, more) + unknown_bits(q, known))


def _exception(q: int, intr_info: int) -> str:
    if not intr_info & VALID:
        return (
            "no interruption information to read it by"
            if q
            else "nothing given, and the interruption information is not valid"
        )
    vector, kind = intr_info & 0xFF, intr_info >> 8 & 7
    if vector == 14 and kind == 3:
        return "the guest linear address that faulted (CR2)"
    if vector == 1 and kind != 4:
        conditions = names_of_bits(q, _DEBUG_CONDITIONS) or ["no debug condition given"]
        return "; ".join(conditions + unknown_bits(q, sum(1 << bit for bit in _DEBUG_CONDITIONS)))
    return "not defined for this event" if q else "none"


def _cr_access(q: int) -> str:
    kind = q >> 4 & 3
    known = 0x3F
    if kind < 2:
        gpr = GPRS[q >> 8 & 0xF]
        text = f"MOV to CR{q & 0xF} from {gpr}" if kind == 0 else f"MOV from CR{q & 0xF} to {gpr}"
        known |= 0xF00
    elif kind == 2:
        text = "CLTS"
    else:
        where = "memory" if q >> 6 & 1 else "a register"
        text = f"LMSW with {hx(q >> 16 & 0xFFFF)} from {where}"
        known |= 0xFFFF0040
    return "; ".join([text, *unknown_bits(q, known)])


def _io(q: int) -> str:
    size = {0: "1 byte", 1: "2 bytes", 3: "4 bytes"}.get(q & 7, f"size code {q & 7}")
    text = f"{'IN from' if q >> 3 & 1 else 'OUT to'} port {hx(q >> 16 & 0xFFFF)}, {size}"
    extra = names_of_bits(q, {4: "string instruction", 5: "REP prefix", 6: "port number in the instruction"})
    return "; ".join([text, *extra, *unknown_bits(q, 0xFFFF007F)])


def _apic_access(q: int) -> str:
    kind = q >> 12 & 0xF
    text = _APIC_ACCESS_TYPES.get(kind, f"access type {kind}, not known")
    parts = [f"{text} at offset {hx(q & 0xFFF)} of the APIC page"]
    if kind in (10, 15):
        parts[0] = f"{text} to the APIC page"
        return "; ".join(parts + unknown_bits(q, 0x1FFFF))  # the offset is undefined for these
    parts += names_of_bits(q, {16: "asynchronous to the instruction"})
    return "; ".join(parts + unknown_bits(q, 0x1FFFF))


def _entry_failure(basic: int, q: int) -> str:
    if basic == MSR_LOAD_FAIL:
        return f"entry {q} of the MSR-load list (counted from 1)"
    if basic == INVALID_STATE:
        return _ENTRY_FAILURES.get(q, "a detail that is not known")
    return "none" if not q else "not defined for this failure"


def describe_qualification(basic_reason: int, qualification: int, *, failed_entry: bool, intr_info: int = 0) -> str:
    """What the exit qualification says under this basic reason.

    ``intr_info`` (VM-exit interruption information) decides the reading for reason 0.
    """
    q = qualification
    if failed_entry or basic_reason in (INVALID_STATE, MSR_LOAD_FAIL):
        return _entry_failure(basic_reason, q)
    if basic_reason in _DISPLACEMENT:
        return f"displacement of the memory operand ({q - (1 << 64) if q >> 63 else q})"
    if basic_reason in _NO_LAYOUT or basic_reason not in REASONS:
        return "none" if not q else "no layout known for this exit reason"
    match basic_reason:
        case 0:
            return _exception(q, intr_info)
        case 4:
            return "; ".join([f"start-up vector {hx(q & 0xFF)}", *unknown_bits(q, 0xFF)])
        case 9:
            text = f"to TSS selector {hx(q & 0xFFFF)} {_TASK_SWITCH_SOURCES[q >> 30 & 3]}"
            return "; ".join([text, *unknown_bits(q, 0xC000FFFF)])
        case 14:
            return "the guest linear address of INVLPG"
        case 28:
            return _cr_access(q)
        case 29:
            gpr, dr = GPRS[q >> 8 & 0xF], q & 7
            text = f"MOV from DR{dr} to {gpr}" if q >> 4 & 1 else f"MOV to DR{dr} from {gpr}"
            return "; ".join([text, *unknown_bits(q, 0xF17)])
        case 30:
            return _io(q)
        case 31 | 32:
            return "none (the MSR number is in ECX)" if not q else "not defined for this exit (MSR in ECX)"
        case 36:
            text = "address monitoring was armed" if q & 1 else "address monitoring was not armed"
            return "; ".join([text, *unknown_bits(q, 1)])
        case 44:
            return _apic_access(q)
        case 45:
            return "; ".join([f"vector {q & 0xFF} ({hx(q & 0xFF)})", *unknown_bits(q, 0xFF)])
        case 48:
            return _ept_violation(q)
        case 49:
            return "none" if not q else "undefined for EPT misconfigurations"
        case 56:
            return "; ".join([f"offset {hx(q & 0xFFF)} of the APIC page", *unknown_bits(q, 0xFFF)])
        case 75:
            flags = names_of_bits(q, {0: "the guest's context is invalid", 12: "NMI unblocking by IRET"})
            return "; ".join((flags or ["the guest's context is valid"]) + unknown_bits(q, 0x1001))
        case 62:
            flags = names_of_bits(q, {12: "NMI unblocking by IRET"})
            return "; ".join(flags + unknown_bits(q, 0x1000)) or "none"
        case 84 | 85:
            return f"MSR number {hx(q)}"
        case _:
            return "none" if not q else "not defined for this exit"


# VM-instruction errors (SDM vol. 3C, 31.4). Only those of VMLAUNCH and VMRESUME can be why
# KVM_RUN reported a failed entry.
VM_INSTRUCTION_ERRORS: dict[int, str] = {
    1: "VMCALL executed in VMX root operation",
    2: "VMCLEAR with an invalid physical address",
    3: "VMCLEAR with the VMXON pointer",
    4: "VMLAUNCH with a VMCS that is not clear",
    5: "VMRESUME with a VMCS that was not launched",
    6: "VMRESUME after VMXOFF",
    7: "VM entry with invalid control fields",
    8: "VM entry with invalid host-state fields",
    9: "VMPTRLD with an invalid physical address",
    10: "VMPTRLD with the VMXON pointer",
    11: "VMPTRLD with an incorrect VMCS revision identifier",
    12: "VMREAD or VMWRITE of a field this CPU does not support",
    13: "VMWRITE to a read-only field",
    15: "VMXON executed in VMX root operation",
    16: "VM entry with an invalid executive-VMCS pointer",
    17: "VM entry with an executive VMCS that was not launched",
    18: "VM entry with an executive-VMCS pointer that is not the VMXON pointer",
    19: "VMCALL with a VMCS that is not clear (dual-monitor treatment)",
    20: "VMCALL with invalid VM-exit control fields (dual-monitor treatment)",
    22: "VMCALL with an incorrect MSEG revision identifier (dual-monitor treatment)",
    23: "VMXOFF under dual-monitor treatment of SMIs",
    24: "VMCALL with invalid SMM-monitor features (dual-monitor treatment)",
    25: "VM entry with invalid execution control fields in the executive VMCS",
    26: "VM entry with events blocked by MOV SS",
    28: "invalid operand to INVEPT or INVVPID",
}
VM_ENTRY_ERRORS: frozenset[int] = frozenset((4, 5, 6, 7, 8, 16, 17, 18, 25, 26))

# Guest interruptibility state and activity state (SDM vol. 3C, 25.4.2)
INTERRUPTIBILITY: dict[int, str] = {
    0: "blocking by STI",
    1: "blocking by MOV SS",
    2: "blocking by SMI",
    3: "blocking by NMI",
    4: "enclave interruption",
}
ACTIVITY_STATES: dict[int, str] = {
    0: "active",
    1: "halted (HLT)",
    2: "shutdown",
    3: "waiting for a start-up IPI",
}


def describe_interruptibility(word: int) -> str:
    """``blocking by STI; blocking by NMI``, or ``nothing is blocked``."""
    blocked = names_of_bits(word, INTERRUPTIBILITY) + unknown_bits(word, 0x1F)
    return "; ".join(blocked) or "nothing is blocked"


def describe_activity(word: int) -> str:
    return ACTIVITY_STATES.get(word, f"activity state {hx(word)} is not known")
