"""``hardware_entry_failure_reason`` of KVM_EXIT_FAIL_ENTRY: one field, several numberings.

VMX stores the whole exit reason (bit 31 set) or, when VMLAUNCH or VMRESUME itself failed, the
VM-instruction error; SVM stores VMEXIT_INVALID, 32 bits wide before 7.0, 64 from then on. Other
architectures and some paths store a negative errno.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.bitfields import hx
from kvmwhy.abi.x86.vmx import ENTRY_FAILURE, REASONS, VM_ENTRY_ERRORS, VM_INSTRUCTION_ERRORS, describe_reason
from kvmwhy.abi.x86.vmx import is_reason as is_vmx_reason

EXIT_REASON = "VMX exit reason"
INSTRUCTION_ERROR = "VM-instruction error"
VMEXIT_INVALID = "SVM VMEXIT_INVALID"
ERRNO = "negative errno"
UNKNOWN = "unknown"

ERRNO_NAMES: dict[int, str] = {
    1: "EPERM",
    2: "ENOENT",
    4: "EINTR",
    5: "EIO",
    11: "EAGAIN",
    12: "ENOMEM",
    14: "EFAULT",
    16: "EBUSY",
    17: "EEXIST",
    19: "ENODEV",
    22: "EINVAL",
    38: "ENOSYS",
    95: "EOPNOTSUPP",
}


# kvm-userspace until 2009 printed the reason & 0xffff (libkvm.c: kvm_run). VM-instruction errors end below 33.
_LOW_HALF = 0xFFFF


class EntryFailure(Struct, frozen=True):
    """Which numbering the code belongs to, its name there, and what it says."""

    scheme: str
    name: str
    sentence: str
    vendor: str | None


_SENTENCES: dict[int, str] = {
    33: "the CPU refused to enter the guest because the guest state KVM loaded is invalid",
    34: "the CPU refused to enter the guest because an MSR of the guest could not be loaded",
    41: "a machine check happened while the CPU entered the guest",
}


def _negative(code: int) -> int | None:
    """The code as -1 … -4095, from 32 or 64 bits."""
    for width in (32, 64):
        value = (1 << width) - code
        if 0 < value <= 4095:
            return value
    return None


def describe_entry_failure(code: int) -> EntryFailure:
    """Name the numbering first: 0x7 and 0x80000021 are not numbers of one list."""
    if code == 0:
        return EntryFailure(
            INSTRUCTION_ERROR,
            "none",
            "0: the entry failed without a number; on Intel, VMLAUNCH or VMRESUME failed with no "
            "current VMCS or no error stored (VMfailInvalid)",
            None,
        )
    # Before the exit reasons: the two lists share no value, errnos and VMEXIT_INVALID share -1.
    errno = _negative(code)
    if errno == 1:
        return EntryFailure(
            VMEXIT_INVALID,
            "VMEXIT_INVALID",
            f"{hx(code)}: VMRUN refused to enter the guest: its state or control block is invalid",
            "svm",
        )
    if errno is not None:
        name = ERRNO_NAMES.get(errno, f"errno {errno}")
        return EntryFailure(
            ERRNO,
            name,
            f"{hx(code)}: -{errno} ({name}), an error of the kernel's own in place of a hardware number",
            None,
        )
    if code & ENTRY_FAILURE and is_vmx_reason(code):
        basic = code & 0xFFFF
        plain = code == ENTRY_FAILURE | basic
        more = "" if plain else f" ({describe_reason(code)})"
        return EntryFailure(EXIT_REASON, REASONS[basic].name, f"{hx(code)}: {_SENTENCES[basic]}{more}", "vmx")
    if code in VM_INSTRUCTION_ERRORS:
        text = VM_INSTRUCTION_ERRORS[code]
        if code in VM_ENTRY_ERRORS:
            return EntryFailure(
                INSTRUCTION_ERROR,
                f"VM-instruction error {code}",
                f"{hx(code)}: VM-instruction error {code}: {text}",
                "vmx",
            )
        return EntryFailure(
            INSTRUCTION_ERROR,
            f"VM-instruction error {code}",
            f"{hx(code)}: as a VM-instruction error of Intel it would be {code}, {text}, which entering a "
            "guest cannot give; other architectures number their failures in their own way",
            None,
        )
    if code == _LOW_HALF:
        return EntryFailure(
            VMEXIT_INVALID,
            "VMEXIT_INVALID",
            f"{hx(code)}: the low half of 0xffffffff: VMRUN refused to enter the guest: its state or control block is"
            " invalid",
            "svm",
        )
    if code in _SENTENCES:
        whole = ENTRY_FAILURE | code
        return EntryFailure(
            EXIT_REASON, REASONS[code].name, f"{hx(code)}: the low half of {hx(whole)}: {_SENTENCES[code]}", "vmx"
        )
    return EntryFailure(UNKNOWN, hx(code), f"{hx(code)}: not a number of any known list", None)
