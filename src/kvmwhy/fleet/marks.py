"""The strings by which a log is searched: what announces a failure, and what else shows that there is one."""

from __future__ import annotations

from typing import Final

from kvmwhy.evidence.finder import finder

# QEMU's announcements: each is followed by a dump that ends with the line of its code bytes.
HEADS: Final = (
    b"KVM internal error",
    b"KVM: entry failed",
    b"KVM: unknown exit",
    b"KVM: exception",
    b"kvm run failed",
    b"unhandled exit",
)
END: Final = b"Code="
LIBVIRT: Final = b": starting up libvirt"

# A dump without its announcement; the lines of other VMMs; a host's kernel; traces; records of kvmwhy.
LOOSE: Final = (
    b"EFER=",
    b"kvm_run returned",
    b"VMCB State Save Area",
    b"INTERNAL_ERROR",
    b"nternalError",
    b"suberror",
    b"entry_failure_reason",
    b"FailEntry",
    b"FAIL_ENTRY",
    b"ExitInternalError",
    b"UnhandledKvmExit",
    b"hw run failure",
    b"vm entry failed",
    b"KVM exit reason: ",
    b"KVM exit code: ",
    b"unknown kvm exit reason",
    b"KVM_CREATE_VM",
    b"o create VM",
    b"o initialize KVM",
    b"o initialize kvm",
    b"reating the KVM object",
    b"reating the Kvm object",
    b"CreateVm(",
    b"KVM_RUN",
    b"vcpu run",
    b"o run v",
    b"o run the v",
    b"VcpuRun(",
    b"VCPU error",
    b"vcpu hit unknown",
    b"*** Guest State ***",
    b"VMCB Control Area",
    b"last attempted VM",
    b"unexpected exit reason 0x",
    b".dump_invalid_vmc",
    b"EPT: Misconfiguration",
    b"kvm_emulate_insn: ",
    b"efail-2",
    b'{"schema":',
    b'{"schema" :',
)

_ALL: Final = (*HEADS, *LOOSE, LIBVIRT)
LONGEST: Final = max(map(len, _ALL))
EFER: Final = len(HEADS)

find = finder(_ALL)


def is_head(which: int) -> bool:
    """Whether the anchor with this number announces a failure."""
    return which < len(HEADS)


def goes_on(which: int) -> bool:
    """Whether the anchor with this number stands inside of what others begin."""
    return EFER <= which < EFER + 3


def is_header(which: int) -> bool:
    """Whether the anchor with this number is the first line of what libvirt writes about a guest's start."""
    return which == len(_ALL) - 1
