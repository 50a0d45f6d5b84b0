"""Page-fault and nested-page-fault error codes (SDM vol. 3A, 4.7; APM vol. 2, 15.25.6; KVM's PFERR_*)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from kvmwhy.abi.bitfields import names_of_bits, unknown_bits

PRESENT = 1 << 0
WRITE = 1 << 1
USER = 1 << 2
RESERVED = 1 << 3
FETCH = 1 << 4
GUEST_FINAL = 1 << 32
GUEST_PAGE = 1 << 33

# Bits above the five basic ones. 48 and 49 are KVM's own and never come from hardware.
_MORE: dict[int, str] = {
    5: "protection key violation",
    6: "shadow-stack access",
    15: "SGX access-control violation",
}
_MORE_NESTED: dict[int, str] = {
    31: "RMP violation (SEV-SNP)",
    32: "the access itself, at its final guest physical address",
    33: "while walking the guest's own page tables",
    34: "encrypted access (C-bit)",
    35: "page-size mismatch with the RMP (SEV-SNP)",
    36: "VMPL permission violation (SEV-SNP)",
    37: "supervisor shadow stack",
}
_KVM_BITS: dict[int, str] = {
    48: "implicit access (a bit KVM adds)",
    49: "private memory (a bit KVM adds)",
}


def kind_of_access(code: int) -> Literal["fetch", "read", "write"]:
    """``fetch``, ``write`` or ``read``."""
    if code & FETCH:
        return "fetch"
    return "write" if code & WRITE else "read"


@lru_cache(maxsize=256)  # pure, and there are few that occur
def describe_page_fault_error(code: int, *, nested: bool) -> str:
    """The error code as one plain phrase; bits without a meaning here stay raw.

    ``nested`` is SVM's NPF (EXITINFO1), where P and RSVD speak of the host's nested page tables
    and U is set for practically every access.
    """
    table = {**_MORE, **_MORE_NESTED, **_KVM_BITS} if nested else {**_MORE, **_KVM_BITS}
    parts = [{"fetch": "instruction fetch", "write": "write", "read": "read"}[kind_of_access(code)]]
    if code & FETCH and code & WRITE:
        parts.append("marked as a write as well")
    if nested:
        if code & RESERVED:
            parts.append("the host's page table entry has a reserved bit set, which is how KVM marks MMIO")
        else:
            parts.append("the host maps a page there" if code & PRESENT else "the host maps nothing there")
    else:
        parts.append("user mode" if code & USER else "supervisor mode")
        parts.append("the page is present" if code & PRESENT else "the page is not present")
        if code & RESERVED:
            parts.append("a reserved bit is set in the page tables")
    parts += names_of_bits(code, table)
    if nested and not code & USER:
        parts.append("not a user access")
    known = 0x1F
    for bit in table:
        known |= 1 << bit
    return "; ".join(parts + unknown_bits(code, known))
