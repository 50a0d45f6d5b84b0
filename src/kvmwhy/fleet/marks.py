"""The strings by which a log is searched: what announces a failure, and what else shows that there is one."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.marks import LOOSE
from kvmwhy.ingest.multi_search import finder

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
