"""Which pages can hold a failure at all, found at the speed of a regular expression over their bytes.

Of millions of events a handful are failed emulations or returns to userspace that mean trouble. A page that has the
ID of such an event with such a value behind it is worth a look; that the bytes are no chance is for the decoder to say.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.readers.trace.formats import Format, Formats
from kvmwhy.readers.trace.vcpu_tracker import BENIGN_ERRNOS, FATAL

_NEEDED: Final = frozenset({"kvm_emulate_insn", "kvm_userspace_exit"})
NAMES: Final = _NEEDED | {"kvm_exit"}
# kvm_exit's reason and isa: a triple fault of VMX and of SVM, after which a recording may end
_TRIPLE_FAULTS: Final = ((2, 1), (0x7F, 2))


def is_anchor(event: TraceEvent) -> bool:
    """One of ``NAMES`` that is, or may be, a failure."""
    if event.name == "kvm_emulate_insn":
        return bool(event.number("failed"))
    if event.name == "kvm_exit":
        return (event.number("exit_reason"), event.number("isa")) in _TRIPLE_FAULTS
    errno = event.number("errno") or 0
    return event.number("reason") in FATAL if errno >= 0 else errno not in BENIGN_ERRNOS


class Anchors:
    """``pattern`` is None where the formats do not say enough to search for anything."""

    def __init__(self, formats: Formats) -> None:
        self.page_size = formats.page_size
        pieces = [
            _emulation(formats.by_name.get("kvm_emulate_insn")),
            _userspace_exit(formats.by_name.get("kvm_userspace_exit")),
        ]
        # kvm_exit's is only for the end of a recording, and other architectures have no such field.
        self.complete = len(_NEEDED & formats.by_name.keys()) == sum(piece is not None for piece in pieces)
        pieces.append(_triple_fault(formats.by_name.get("kvm_exit")))
        self.patterns = tuple(re.compile(piece, re.DOTALL) for piece in pieces if piece)

    def pages(self, piece: memoryview) -> Iterator[int]:
        """The indexes of the pages of ``piece`` to look at, in order, each once."""
        size = self.page_size
        indices: set[int] = set()
        for pattern in self.patterns:
            at = 0
            while match := pattern.search(piece, at):
                index, inside = divmod(match.start(), size)
                if inside & 3:  # events are aligned: these bytes are of something else
                    at = match.start() + 1
                    continue
                indices.add(index)
                at = (index + 1) * size
        return iter(sorted(indices))


def _ahead(at: int, pattern: bytes) -> bytes:
    """``pattern`` at that offset of an event whose ID has just been matched."""
    return b"(?=.{%d}%b)" % (at - 2, pattern)


def _id(one: Format) -> bytes:
    return re.escape(struct.pack("<H", one.id & 0xFFFF))


def _emulation(one: Format | None) -> bytes | None:
    at, size = one.offsets.get("failed", (0, 0)) if one else (0, 0)
    if one is None or size != 1 or at < 2:
        return None
    return _id(one) + _ahead(at, rb"[^\x00]")


def _triple_fault(one: Format | None) -> bytes | None:
    if one is None:
        return None
    (reason_at, reason_size), (isa_at, isa_size) = (one.offsets.get(n, (0, 0)) for n in ("exit_reason", "isa"))
    if (reason_size, isa_size) != (4, 4) or min(reason_at, isa_at) < 2:
        return None
    forms = (
        _ahead(reason_at, re.escape(struct.pack("<I", reason))) + _ahead(isa_at, re.escape(struct.pack("<I", isa)))
        for reason, isa in _TRIPLE_FAULTS
    )
    return _id(one) + b"(?:%b)" % b"|".join(forms)


def _userspace_exit(one: Format | None) -> bytes | None:
    if one is None:
        return None
    (reason_at, reason_size), (errno_at, errno_size) = (one.offsets.get(n, (0, 0)) for n in ("reason", "errno"))
    if (reason_size, errno_size) != (4, 4) or min(reason_at, errno_at) < 2:
        return None
    reasons = b"|".join(re.escape(struct.pack("<I", reason)) for reason in sorted(FATAL))
    benign = b"|".join(re.escape(struct.pack("<i", errno)) for errno in sorted(BENIGN_ERRNOS))
    failure = _ahead(reason_at, b"(?:%b)" % reasons) + _ahead(errno_at, rb"\x00{4}")
    error = _ahead(errno_at, rb"(?!%b).{3}\xff" % benign)
    return _id(one) + b"(?:%b|%b)" % (failure, error)
