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
    0x0301: ("TDX_PAGE_ALREADY_FREE", "the page is free already"),
    0x0302: ("TDX_PAGE_NOT_OWNED_BY_TD", "the page belongs to another guest"),
    0x0303: ("TDX_PAGE_NOT_FREE", "the page is in use"),
    0x0400: ("TDX_TD_ASSOCIATED_PAGES_EXIST", "the guest still has pages"),
    0x0500: ("TDX_SYSINIT_NOT_PENDING", "the TDX module was initialised already"),
    0x0501: ("TDX_SYSINIT_NOT_DONE", "the TDX module is not initialised"),
    0x0502: ("TDX_SYSINITLP_NOT_DONE", "the TDX module is not initialised on every logical CPU"),
    0x0503: ("TDX_SYSINITLP_DONE", "the TDX module was initialised on this logical CPU already"),
    0x0504: ("TDX_SYSCONFIGKEY_NOT_DONE", "the module's key is not set up on every package"),
    0x0505: ("TDX_SYS_NOT_READY", "the TDX module is not ready"),
    0x0506: ("TDX_SYS_SHUTDOWN", "the TDX module has been shut down"),
    0x0507: ("TDX_SYSCONFIG_NOT_DONE", "the TDX module is not configured"),
    0x0600: ("TDX_TD_NOT_INITIALIZED", "the guest (TD) is not initialised"),
    0x0601: ("TDX_TD_INITIALIZED", "the guest (TD) was initialised already"),
    0x0602: ("TDX_TD_NOT_FINALIZED", "the guest (TD) is not finalised"),
    0x0603: ("TDX_TD_FINALIZED", "the guest (TD) was finalised already: its memory cannot be added to any more"),
    0x0604: ("TDX_TD_FATAL", "the guest (TD) was marked fatally broken earlier and cannot be entered"),
    0x0605: ("TDX_TD_NON_DEBUG", "the guest (TD) is not a debug one"),
    0x0606: ("TDX_TDCS_NOT_ALLOCATED", "the guest's control structure is not allocated"),
    0x0607: ("TDX_LIFECYCLE_STATE_INCORRECT", "the guest (TD) is in the wrong life-cycle state"),
    0x0608: ("TDX_OP_STATE_INCORRECT", "the guest (TD) is in the wrong operation state"),
    0x0700: ("TDX_VCPU_STATE_INCORRECT", "the vCPU is in the wrong state"),
    0x0701: ("TDX_VCPU_ASSOCIATED", "the vCPU is tied to another logical CPU"),
    0x0702: ("TDX_VCPU_NOT_ASSOCIATED", "the vCPU is not tied to this logical CPU"),
    0x0705: ("TDX_MAX_VCPUS_EXCEEDED", "the guest has as many vCPUs as it may"),
    0x0706: ("TDX_TSC_ROLLBACK", "the time-stamp counter went back"),
    0x0800: ("TDX_KEY_GENERATION_FAILED", "no key could be generated: entropy ran out; it can be tried again"),
    0x0811: ("TDX_KEY_STATE_INCORRECT", "the key is in the wrong state"),
    0x0815: ("TDX_KEY_CONFIGURED", "the key is set up already"),
    0x0821: ("TDX_NO_HKID_READY_TO_WBCACHE", "no key waits for its cache to be flushed"),
    0x0824: ("TDX_FLUSHVP_NOT_DONE", "a vCPU was not flushed"),
    0x0B00: ("TDX_EPT_WALK_FAILED", "the walk of the secure EPT failed"),
    0x0B08: ("TDX_TLB_TRACKING_NOT_DONE", "TLBs may still hold the page"),
    0x0B0D: ("TDX_EPT_ENTRY_STATE_INCORRECT", "an entry of the secure EPT is in the wrong state"),
    0x0C00: (
        "TDX_METADATA_FIELD_ID_INCORRECT",
        "the module does not know this field: module and kernel do not fit",
    ),
    0x0C01: ("TDX_METADATA_FIELD_NOT_WRITABLE", "the field cannot be written"),
    0x0C02: ("TDX_METADATA_FIELD_NOT_READABLE", "the field cannot be read"),
}
# Leaf numbers of SEAMCALL: arch/x86/virt/vmx/tdx/tdx.h, TDX module ABI specification.
LEAVES: dict[int, str] = dict(enumerate((
    "TDH_VP_ENTER", "TDH_MNG_ADDCX", "TDH_MEM_PAGE_ADD", "TDH_MEM_SEPT_ADD", "TDH_VP_ADDCX", "TDH_MEM_PAGE_RELOCATE",
    "TDH_MEM_PAGE_AUG", "TDH_MEM_RANGE_BLOCK", "TDH_MNG_KEY_CONFIG", "TDH_MNG_CREATE", "TDH_VP_CREATE", "TDH_MNG_RD",
    "TDH_MEM_RD", "TDH_MNG_WR", "TDH_MEM_WR", "TDH_MEM_PAGE_DEMOTE", "TDH_MR_EXTEND", "TDH_MR_FINALIZE", "TDH_VP_FLUSH",
    "TDH_MNG_VPFLUSHDONE", "TDH_MNG_KEY_FREEID", "TDH_MNG_INIT", "TDH_VP_INIT", "TDH_MEM_PAGE_PROMOTE",
    "TDH_PHYMEM_PAGE_RDMD", "TDH_MEM_SEPT_RD", "TDH_VP_RD", "TDH_MNG_KEY_RECLAIMID", "TDH_PHYMEM_PAGE_RECLAIM",
    "TDH_MEM_PAGE_REMOVE", "TDH_MEM_SEPT_REMOVE", "TDH_SYS_KEY_CONFIG", "TDH_SYS_INFO", "TDH_SYS_INIT", "TDH_SYS_RD",
    "TDH_SYS_LP_INIT", "TDH_SYS_TDMR_INIT", "TDH_SYS_RDALL", "TDH_MEM_TRACK", "TDH_MEM_RANGE_UNBLOCK",
    "TDH_PHYMEM_CACHE_WB", "TDH_PHYMEM_PAGE_WBINVD", "TDH_MEM_SEPT_WR", "TDH_VP_WR",
    "TDH_SYS_LP_SHUTDOWN", "TDH_SYS_CONFIG",
)))  # fmt: skip
_LEAF_BITS: int = 0xFFFF  # above: version, and flags of the call
# Statuses whose low half is a VMX exit reason (Linux, tdx_to_vmx_exit_reason).
_WITH_EXIT_REASON = frozenset((0x0000, 0x0001, 0x0002, 0x0005, 0x0007))
_HIGHEST_CLASS = 0x11


def _key(status: int) -> int:
    return status >> 32 & 0xFFFF


def status_name(status: int) -> str | None:
    entry = STATUSES.get(_key(status))
    return entry[0] if entry else None


def leaf_name(leaf: int) -> str | None:
    """TDH_SYS_INIT of 33; version bits of the call are left out."""
    return LEAVES.get(leaf & _LEAF_BITS)


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
