"""What an exit other than x86's says, in words: from its number and the fields of kvm_run's union.

Documentation/virt/kvm/api.rst, section 5; include/uapi/linux/kvm.h; arch/*/include/uapi/asm/kvm.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from kvmwhy.abi import kvm_run

Arch = Literal["arm64", "riscv64", "s390x", "ppc64", "loongarch"]
Fields = Mapping[str, int]

# Exits that only one architecture's KVM has.
_OWNERS: Final[dict[int, Arch]] = {
    13: "s390x", 14: "s390x", 20: "s390x", 22: "s390x", 25: "s390x", 15: "ppc64", 18: "ppc64", 19: "ppc64", 21: "ppc64",
    23: "ppc64", 28: "arm64", 35: "riscv64", 36: "riscv64", 38: "loongarch", 41: "arm64", 42: "arm64",
}  # fmt: skip
_SEA_GPA_VALID: Final = 1
_HYPERCALL_SMC: Final = 1
_RESET2: Final = 1  # KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2, _SHUTDOWN_FLAG_PSCI_OFF2
_NO_CPU: Final = 1  # the one reason of arm64 and riscv64


def owner(exit_reason: int) -> Arch | None:
    """The architecture that an exit is of, where it is of one only."""
    return _OWNERS.get(exit_reason)


def words(exit_reason: int, fields: Fields, arch: str | None) -> str | None:
    """One clause; ``None``: nothing can be said beyond the exit's name."""
    match exit_reason:
        case 6 | 38:
            return _access(fields, "I/O register space" if exit_reason == 38 else "guest physical address")
        case 9:
            return _fail_entry(fields, arch)
        case 10:
            return "a signal ended KVM_RUN"
        case 24:
            return _system_event(fields, arch)
        case 39 if "gpa" in fields:
            size = f", {fields['size']:#x} bytes" if "size" in fields else ""
            flags = f", {kvm_run.memory_fault_flags(fields['flags'])}" if "flags" in fields else ""
            return f"KVM could not get guest memory at {fields['gpa']:#x}{size}{flags}"
    if arch == "arm64" or owner(exit_reason) == "arm64":
        return _arm64(exit_reason, fields)
    if arch == "riscv64" or owner(exit_reason) == "riscv64":
        return _riscv64(exit_reason, fields)
    if arch == "s390x" or owner(exit_reason) == "s390x":
        return _s390x(exit_reason, fields)
    if arch in {"ppc64", "ppc"} or owner(exit_reason) == "ppc64":
        return _ppc64(exit_reason, fields)
    return None


def _access(fields: Fields, where: str) -> str | None:
    if "phys_addr" not in fields:
        return None
    kind = {0: "read", 1: "write"}.get(fields.get("is_write", -1), "access")
    size = f" of {fields['len']} bytes" if "len" in fields else ""
    return f"a {kind}{size} at {where} {fields['phys_addr']:#x}".replace("a access", "an access")


def _fail_entry(fields: Fields, arch: str | None) -> str | None:
    reason, cpu = fields.get("hardware_entry_failure_reason"), fields.get("cpu")
    where = f", on the host's CPU {cpu}" if cpu is not None else ""
    if reason != _NO_CPU:
        return None
    if arch == "arm64":  # KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED
        return f"the vCPU's thread came to run on a CPU of the host that the vCPU's PMU does not fit{where}"
    if arch == "riscv64":  # KVM_EXIT_FAIL_ENTRY_NO_VSFILE
        return f"no guest interrupt file of the IMSIC is free{where}"
    return None


def _system_event(fields: Fields, arch: str | None) -> str | None:
    if "type" not in fields:
        return None
    asked = {
        1: "the guest asked to be switched off", 2: "the guest asked for a reset", 3: "the guest reported its crash",
        4: "the vCPU woke up", 5: "the guest asked to be suspended", 6: "the guest asked for its termination (SEV)",
        7: "the guest reported a fatal error (TDX)",
    }.get(fields["type"], f"system event {fields['type']}")  # fmt: skip
    flags = fields.get("data[0]", fields.get("flags", 0))
    if arch == "arm64" and flags & _RESET2:
        asked += {1: " (PSCI SYSTEM_OFF2)", 2: " (PSCI SYSTEM_RESET2)"}.get(fields["type"], "")
    if arch == "riscv64" and fields["type"] in {1, 2}:
        from kvmwhy.abi.riscv64.causes import RESET_REASONS

        asked += f" {RESET_REASONS.get(flags, f'for reason {flags:#x}')}" if flags else ""
    return asked


def _arm64(exit_reason: int, fields: Fields) -> str | None:
    from kvmwhy.abi.arm64 import esr

    match exit_reason:
        case 3 if "nr" in fields:
            by = "SMC" if fields.get("flags", 0) & _HYPERCALL_SMC else "HVC"
            return f"the guest's {by} {fields['nr']:#x}, which the VMM asked for"
        case 28 if "esr_iss" in fields:
            at = f" at guest physical address {fields['fault_ipa']:#x}" if "fault_ipa" in fields else ""
            return f"an access{at} without a valid syndrome: {esr.access_of_iss(fields['esr_iss'])}"
        case 42 if "esr_iss" in fields:
            at = f" at guest physical address {fields['fault_ipa']:#x}" if "fault_ipa" in fields else ""
            return f"a load or store of 64 bytes{at}: {esr.access_of_iss(fields['esr_iss'])}"
        case 41 if "esr" in fields:
            has_gpa = "gpa" in fields and fields.get("flags", 0) & _SEA_GPA_VALID
            at = f", guest physical address {fields['gpa']:#x}" if has_gpa else ""
            return f"the host's memory failed under the guest: {esr.describe(fields['esr'])}{at}"
    return None


def _riscv64(exit_reason: int, fields: Fields) -> str | None:
    from kvmwhy.abi.riscv64 import causes

    if exit_reason == 35 and "extension_id" in fields:
        name = causes.sbi_extension(fields["extension_id"])
        function = f", function {fields['function_id']:#x}" if "function_id" in fields else ""
        return f"the guest's SBI call {fields['extension_id']:#x} ({name}){function}: KVM leaves it to the VMM"
    if exit_reason == 36 and "csr_num" in fields:
        return f"the guest's access to {causes.csr(fields['csr_num'])} ({fields['csr_num']:#x}), left to the VMM"
    return None


def _s390x(exit_reason: int, fields: Fields) -> str | None:
    from kvmwhy.abi.s390x import intercepts

    match exit_reason:
        case 13 if "icptcode" in fields:
            code = fields["icptcode"]
            parts = [f"{intercepts.intercept(code)} ({code:#x})"]
            if "ipa" in fields:
                parts.append(f"instruction {fields['ipa']:04x} {fields.get('ipb', 0):08x}")
            if (fatal := intercepts.FATAL.get(code)) is not None:
                parts.append(fatal)
            return ", ".join(parts)
        case 14:
            return "the guest asked for a reset"
        case 20 if "pgm_code" in fields:
            return f"a fault of a user-controlled VM: program interruption {fields['pgm_code']:#x}"
        case 22:
            return "TEST SUBCHANNEL, for the VMM to finish"
    return None


def _ppc64(exit_reason: int, fields: Fields) -> str | None:
    from kvmwhy.abi.ppc64 import traps

    if exit_reason == 19 and "nr" in fields:
        return f"the guest's {traps.hypercall(fields['nr'])}, for the VMM to answer"
    if exit_reason == 0 and "hardware_exit_reason" in fields:
        return traps.hardware_reason(fields["hardware_exit_reason"])
    return {16: "a machine check of the guest", 18: "a call of Open Firmware", 21: "the guest's watchdog ran out"}.get(
        exit_reason
    )
