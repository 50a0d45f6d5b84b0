"""Intel TDX: the status TDH.VP.ENTER returns, and what KVM puts into the exit-reason slot.

The status is 64 bits: 63 error, 62 not recoverable, 61 fatal, 60 host recoverability hint, 47:40
class, 39:32 number within the class, 31:0 details (TDX module's ``api_error_code_t``; Linux
``arch/x86/include/asm/shared/tdx_errno.h``).
"""

from __future__ import annotations

from kvmwhy.abi.bitfields import hx, names_of_bits, unknown_bits
from kvmwhy.abi.x86.vmx import UNDEFINED, describe_reason, reason_name

_FLAGS: dict[int, str] = {
    63: "error",
    62: "not recoverable",
    61: "fatal",
    60: "the host may be able to recover",
}

# Keyed by class and number only (bits 47:32): Linux's and the module's constants differ in the
# flag bits of some.
STATUSES: dict[int, tuple[str, str]] = {
    0x0000: ("TDX_SUCCESS", "the guest ran"),
    0x0001: ("TDX_NON_RECOVERABLE_VCPU", "this vCPU cannot run again"),
    0x0002: ("TDX_NON_RECOVERABLE_TD", "the guest (TD) cannot run again"),
    0x0003: ("TDX_INTERRUPTED_RESUMABLE", "interrupted, can be resumed"),
    0x0004: ("TDX_INTERRUPTED_RESTARTABLE", "interrupted, can be restarted"),
    0x0005: ("TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE", "the guest's memory cannot be accessed any more"),
    0x0006: ("TDX_INVALID_RESUMPTION", "an interrupted operation was resumed wrongly"),
    0x0007: ("TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE", "the host's APIC is not in x2APIC mode"),
    0x0008: ("TDX_CROSS_TD_FAULT", "a fault across guests"),
    0x0009: ("TDX_CROSS_TD_TRAP", "a trap across guests"),
    0x000A: ("TDX_NON_RECOVERABLE_TD_CORRUPTED_MD", "the guest's metadata is corrupted"),
    0x0100: ("TDX_OPERAND_INVALID", "the TDX module refused an operand"),
    0x0101: ("TDX_OPERAND_ADDR_RANGE_ERROR", "an operand's address is out of range"),
    0x0200: ("TDX_OPERAND_BUSY", "something the operation needs is locked"),
    0x0201: ("TDX_PREVIOUS_TLB_EPOCH_BUSY", "the previous TLB epoch is still in use"),
    0x0202: ("TDX_SYS_BUSY", "the TDX module is busy"),
    0x0203: ("TDX_RND_NO_ENTROPY", "no random numbers were available"),
    0x0300: ("TDX_PAGE_METADATA_INCORRECT", "a page is not of the expected kind"),
    0x0505: ("TDX_SYS_NOT_READY", "the TDX module is not ready"),
    0x0506: ("TDX_SYS_SHUTDOWN", "the TDX module has been shut down"),
    0x0604: ("TDX_TD_FATAL", "the guest (TD) was marked fatally broken earlier and cannot be entered"),
    0x0605: ("TDX_TD_NON_DEBUG", "the guest (TD) is not a debug one"),
    0x0606: ("TDX_TDCS_NOT_ALLOCATED", "the guest's control structure is not allocated"),
    0x0607: ("TDX_LIFECYCLE_STATE_INCORRECT", "the guest (TD) is in the wrong life-cycle state"),
    0x0608: ("TDX_OP_STATE_INCORRECT", "the guest (TD) is in the wrong operation state"),
    0x0700: ("TDX_VCPU_STATE_INCORRECT", "the vCPU is in the wrong state"),
    0x0701: ("TDX_VCPU_ASSOCIATED", "the vCPU is tied to another logical CPU"),
    0x0702: ("TDX_VCPU_NOT_ASSOCIATED", "the vCPU is not tied to this logical CPU"),
    0x0706: ("TDX_TSC_ROLLBACK", "the time-stamp counter went back"),
}
# Statuses whose low half is a VMX exit reason (Linux, tdx_to_vmx_exit_reason).
_WITH_EXIT_REASON = frozenset((0x0000, 0x0001, 0x0002, 0x0005, 0x0007))
_HIGHEST_CLASS = 0x11


def _key(status: int) -> int:
    return status >> 32 & 0xFFFF


def status_name(status: int) -> str | None:
    entry = STATUSES.get(_key(status))
    return entry[0] if entry else None


def has_exit_reason(status: int) -> bool:
    """The low half is a VMX exit reason."""
    return _key(status) in _WITH_EXIT_REASON


def looks_like_status(word: int) -> bool:
    """A 64-bit word formed like a TDX status that reports something wrong (bit 63 or 62)."""
    if not word >> 62 or word >> 48 & 0xFFF:
        return False
    return _key(word) != 0 and word >> 40 & 0xFF <= _HIGHEST_CLASS


def describe_status(status: int) -> str:
    """Name, flags, class and number, and the details in the low half."""
    entry = STATUSES.get(_key(status))
    parts = [f"{entry[0]}: {entry[1]}"] if entry else ["a TDX status kvmwhy has no name for"]
    parts += names_of_bits(status, _FLAGS)
    parts.append(f"class {status >> 40 & 0xFF}, number {status >> 32 & 0xFF}")
    parts += unknown_bits(status, 0xF000FFFFFFFFFFFF)
    low = status & 0xFFFFFFFF
    if has_exit_reason(status):
        parts.append(f"exit reason {hx(low)} ({describe_reason(low)})")
    elif low:
        parts.append(f"details {hx(low)}")
    return "; ".join(parts)


def slot_name(word: int) -> str | None:
    """The name for an exit-reason slot of a TDX guest, which holds a reason or a whole status."""
    return status_name(word) if word >> 32 else reason_name(word)


def describe_slot(word: int) -> str:
    """The exit-reason slot: a VMX-like reason made from the status, or that there is none.

    KVM stores all ones (0xdead in some versions) when the status carries no exit reason.
    """
    if word >> 32:
        return describe_status(word)
    if word in (0xFFFFFFFF, UNDEFINED):
        return "no exit reason: the TDX module did not run this vCPU"
    return describe_reason(word)
