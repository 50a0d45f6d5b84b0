"""Interruption-information words: which event was being delivered, or caused the exit.

VMX has one layout for VM-entry, VM-exit and IDT-vectoring information (SDM vol. 3C, 25.8.3,
25.9.2, 25.9.3); SVM's EXITINTINFO and EVENTINJ share it up to bit 11 (APM vol. 2, 15.20), with the
error code in the upper half, which KVM reports as a word of its own.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.bitfields import hx
from kvmwhy.abi.x86.exceptions import MNEMONICS

VALID = 1 << 31
HAS_ERROR_CODE = 1 << 11
NMI_UNBLOCKING = 1 << 12  # VMX only; undefined in IDT-vectoring information

EXTERNAL_INTERRUPT = 0
NMI = 2
HARDWARE_EXCEPTION = 3
SOFTWARE_INTERRUPT = 4
PRIVILEGED_SOFTWARE_EXCEPTION = 5
SOFTWARE_EXCEPTION = 6

VMX_TYPES: tuple[str, ...] = (
    "external interrupt",
    "reserved type 1",
    "NMI",
    "hardware exception",
    "software interrupt",
    "privileged software exception",  # INT1 (ICEBP)
    "software exception",  # INT3, INTO
    "other event",
)
SVM_TYPES: tuple[str, ...] = (
    "external interrupt",
    "reserved type 1",
    "NMI",
    "exception",
    "software interrupt",
    "reserved type 5",
    "reserved type 6",
    "reserved type 7",
)


class Event(Struct, frozen=True):
    """The fields of one interruption-information word."""

    valid: bool
    vector: int
    type: int
    type_name: str
    has_error_code: bool
    nmi_unblocking: bool
    mnemonic: str | None


def decode_event(word: int, *, vendor: str | None) -> Event:
    """Take the word apart. ``mnemonic`` is set for exceptions and the NMI only."""
    vector = word & 0xFF
    kind = word >> 8 & 7
    svm = vendor == "svm"
    raises = kind in (NMI, HARDWARE_EXCEPTION) or (
        not svm and kind in (PRIVILEGED_SOFTWARE_EXCEPTION, SOFTWARE_EXCEPTION)
    )
    return Event(
        valid=bool(word & VALID),
        vector=vector,
        type=kind,
        type_name=(SVM_TYPES if svm else VMX_TYPES)[kind],
        has_error_code=bool(word & HAS_ERROR_CODE),
        nmi_unblocking=not svm and bool(word & NMI_UNBLOCKING),
        mnemonic=MNEMONICS.get(vector) if raises else None,
    )


def undefined_bits(word: int, *, vendor: str | None) -> int:
    """The bits of the word that its manual leaves reserved (30:13; on SVM also bit 12)."""
    known = VALID | 0xFFF | (0 if vendor == "svm" else NMI_UNBLOCKING)
    return word & ~known


def looks_like_event(word: int) -> bool:
    """Shaped like a valid event of either vendor: 32 bits, bit 31, no reserved bit, no reserved type.

    A shape, not a proof: 0x80000300 is also an address.
    """
    if not word & VALID or undefined_bits(word, vendor="vmx"):
        return False
    event = decode_event(word, vendor="vmx")
    if event.type == 1:
        return False
    if event.type == NMI:
        return event.vector == 2
    if event.type in (HARDWARE_EXCEPTION, PRIVILEGED_SOFTWARE_EXCEPTION, SOFTWARE_EXCEPTION):
        return event.vector < 32
    return True


def describe_event(word: int, vendor: str | None) -> str:
    """``#PF (vector 14, hardware exception, with error code)``, ``not valid``, …"""
    if not word & VALID:
        return "not valid" if not word else f"not valid (its other bits, {hx(word)}, mean nothing)"
    event = decode_event(word, vendor=vendor)
    details = []
    if event.type == EXTERNAL_INTERRUPT:
        text = f"external interrupt, vector {event.vector} ({event.vector:#x})"
    elif event.type == SOFTWARE_INTERRUPT:
        text = f"software interrupt (INT {event.vector:#x}), vector {event.vector}"
    elif event.mnemonic == "NMI" and event.type == NMI:
        text = "NMI (vector 2)"
    elif event.mnemonic is not None:
        text = event.mnemonic
        details = [f"vector {event.vector}", event.type_name]
    else:
        text = f"{event.type_name}, vector {event.vector} ({event.vector:#x})"
    if event.has_error_code:
        details.append("with error code")
    if event.nmi_unblocking:
        details.append("NMI unblocking bit set")
    rest = undefined_bits(word, vendor=vendor)
    if rest:
        details.append(f"reserved bits {hx(rest)} set")
    return f"{text} ({', '.join(details)})" if details else text
