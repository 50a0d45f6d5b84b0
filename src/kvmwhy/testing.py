"""For authors of a VMM: ``kvm_run`` pages of every failure, to test an error path without a failing guest.

Each function returns the 4096 bytes that the kernel would have left behind. Where your VMM handles
an exit, hand it the page instead of the mapping of its vCPU:

>>> from kvmwhy.testing import emulation_failure_page
>>> page = emulation_failure_page(bytes.fromhex("d9 07"), address=0xD0000000)
>>> int.from_bytes(page[8:12], "little")  # kvm_run.exit_reason: KVM_EXIT_INTERNAL_ERROR
17

``FAILURES`` has one page of each kind by name, to parametrise a test with:

>>> from kvmwhy.testing import FAILURES
>>> list(FAILURES)[:3]
['emulation-failure', 'emulation-failure-svm', 'emulation-failure-5.14']

What an older exit left in the page is still there behind what the kernel wrote, as with a real one, if
it is given as ``stale`` (up to 256 bytes, from offset 32 on). All values are unsigned; one that does
not fit raises ValueError.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal

from kvmwhy.abi import encode_page as build
from kvmwhy.abi.encode_page import ExitInfo
from kvmwhy.abi.internal_error import EmulationFailure
from kvmwhy.abi.kvm_run import encode_page

Vendor = Literal["vmx", "svm"]
Era = Literal["5.10", "5.14", "5.16"]

_FLDS: Final = bytes.fromhex("d9 07")  # flds (%edi): KVM's emulator has no x87 loads
_HOLE: Final = 0xD0000000
_ALL_ONES: Final = (1 << 64) - 1
# An access by an instruction, to a GPA that EPT does not map, with the linear address valid (SDM vol.
# 3C, table 28-7); the same as a nested page fault: not the guest's own page walk (APM vol. 2, 15.25.6).
_EPT_VIOLATION, _EPT_READ, _EPT_FETCH = 48, 0x181, 0x184
_NPF, _NPF_READ, _NPF_FETCH = 0x400, 0x1_0000_0004, 0x1_0000_0014


def emulation_failure_page(
    insn: bytes = _FLDS,
    *,
    exit_info: ExitInfo | None = None,
    vendor: Vendor = "vmx",
    address: int = _HOLE,
    since: Era = "5.16",
    stale: bytes = b"",
) -> bytes:
    """Suberror 1: KVM had to emulate ``insn`` and could not.

    ``insn`` is filled up to the 15 bytes that KVM fetches, with what may well follow it in memory: NOP.
    ``exit_info`` are the vendor's words; by default those of a read from ``address`` under ``vendor``.
    ``since`` is the first kernel that reports in this form: 5.10 says nothing, 5.14 the bytes, 5.16 also
    ``exit_info``.

    >>> emulation_failure_page(bytes.fromhex("d9 07"))[40:50].hex(" ")  # flags, insn_size, the first byte
    '01 00 00 00 00 00 00 00 0f d9'
    """
    window = insn.ljust(15, b"\x90") if insn else b""
    if since == "5.10":
        return build.emulation_failure_in(EmulationFailure("none"), stale=stale)
    if since == "5.14":
        return build.emulation_failure_in(EmulationFailure("bytes-5.14", 1, window), stale=stale)
    info = exit_info or _access(vendor, address, fetch=False)
    return build.emulation_failure(info, insn=window, stale=stale)


def fetch_failure_page(
    address: int = 0xB0000, *, exit_info: ExitInfo | None = None, vendor: Vendor = "vmx", stale: bytes = b""
) -> bytes:
    """Suberror 1 without bytes: the guest jumped to ``address``, where there is nothing to fetch from.

    >>> int.from_bytes(fetch_failure_page(0xB0000, vendor="svm")[64:72], "little")  # info2: the GPA
    720896
    """
    return build.emulation_failure(exit_info or _access(vendor, address, fetch=True), stale=stale)


def simultaneous_exceptions_page(
    vectoring: int = 0x80000B0E, intr_info: int = 0x80000B0E, *, error_code: int = 0, cpu: int = 0
) -> bytes:
    """Suberror 2, since 5.9: an exception that KVM intercepts, while it delivered another."""
    return build.internal_error(2, (vectoring, intr_info, error_code, cpu))


def delivery_failure_page(
    vectoring: int = 0x80000B0E, reason: int = 49, *, info1: int = 0, gpa: int = _ALL_ONES, cpu: int = 0
) -> bytes:
    """Suberror 3, since 6.14: an event could not be delivered. ``vectoring`` is what was under way.

    On VMX that is the IDT-vectoring information; on SVM it is EXITINFO2.
    """
    return build.internal_error(3, (vectoring, reason, info1, gpa, cpu))


def unexpected_exit_page(reason: int = 79, *, cpu: int = 0) -> bytes:
    """Suberror 4, since 5.9: the hardware exited for a reason that KVM has no handler for."""
    return build.internal_error(4, (reason, cpu))


def entry_failure_page(reason: int = 0x80000021, *, cpu: int = 0) -> bytes:
    """KVM_EXIT_FAIL_ENTRY; the default is VMX's "invalid guest state".

    >>> entry_failure_page()[32:40].hex()
    '2100008000000000'
    """
    return build.fail_entry(reason, cpu=cpu)


def unknown_exit_page(reason: int = 0x63) -> bytes:
    """KVM_EXIT_UNKNOWN: an exit that no handler took."""
    return build.unknown_exit(reason)


def exception_page(vector: int = 1, error_code: int = 0) -> bytes:
    """KVM_EXIT_EXCEPTION: an intercepted exception that no handler took."""
    return build.exception_exit(vector, error_code)


def shutdown_page() -> bytes:
    """KVM_EXIT_SHUTDOWN: a triple fault."""
    return build.shutdown()


def memory_fault_page(gpa: int = _HOLE, size: int = 4096, *, private: bool = False) -> bytes:
    """KVM_EXIT_MEMORY_FAULT; ioctl(KVM_RUN) fails with EFAULT at the same time."""
    return encode_page(39, {"flags": 8 if private else 0, "gpa": gpa, "size": size})


def unheard_of_page(exit_reason: int = 0x7FFF, payload: bytes = bytes(range(256))) -> bytes:
    """An exit that no kernel up to 7.3 has: a VMM should report its number and all 256 bytes."""
    return encode_page(exit_reason, stale=payload)


def _access(vendor: Vendor, address: int, *, fetch: bool) -> ExitInfo:
    if vendor == "vmx":
        return ExitInfo(_EPT_VIOLATION, _EPT_FETCH if fetch else _EPT_READ)
    return ExitInfo(_NPF, _NPF_FETCH if fetch else _NPF_READ, address)


FAILURES: Final = MappingProxyType(
    {
        "emulation-failure": emulation_failure_page(),
        "emulation-failure-svm": emulation_failure_page(vendor="svm"),
        "emulation-failure-5.14": emulation_failure_page(since="5.14"),
        "emulation-failure-5.10": emulation_failure_page(since="5.10"),
        "emulation-failure-stale": emulation_failure_page(since="5.10", stale=bytes(8) + b"\xaa" * 248),
        "fetch-failure": fetch_failure_page(),
        "fetch-failure-svm": fetch_failure_page(vendor="svm"),
        "simultaneous-exceptions": simultaneous_exceptions_page(),
        "delivery-failure": delivery_failure_page(),
        "unexpected-exit": unexpected_exit_page(),
        "entry-failure": entry_failure_page(),
        "unknown-exit": unknown_exit_page(),
        "exception": exception_page(),
        "shutdown": shutdown_page(),
        "memory-fault": memory_fault_page(),
        "unheard-of": unheard_of_page(),
    }
)
