"""KVM_EXIT_INTERNAL_ERROR: every layout of its data that was merged or proposed.

Suberror 1 (emulation failure) changed its layout several times; nothing in the record says which
kernel wrote it, so layouts are told apart by shape alone:

    layout             flags ndata  data after flags
    none                 –     0    nothing was written (before 5.14; task switch, nested pages)
    sgx-5.13             –     2    address, size: no flags word at all (5.13-5.15, ENCLS only)
    bytes-5.14           1     3    size+bytes (5.14, 5.15)
    final                1     8    size+bytes, reason, info1, info2, intr_info, error_code (5.16 …)
    final-no-bytes       0     6    reason, info1, info2, intr_info, error_code (5.16 …)
    …-debug              .    +1…4  the same, with debug words that are explicitly not ABI
    positional           2|3   4    v1/v2, 2021-06/07: size+bytes or a gap, exit reason at data[3]
    v3                   1     7    size+bytes, reason, info1, info2, error_code<<32|intr_info
    v3-no-bytes          0     5    reason, info1, info2, error_code<<32|intr_info
    packed               1|0  7|5   the picture in the discussion of 2021-08-02: a u32 reason, unpadded
    skip                 0     8    the sketch of 2021-08-07: data[1..2] skipped when there are no bytes

Merged: 5.14 ("kvm: x86: Allow userspace to handle emulation errors"), 5.16 e615e355894e ("KVM: x86:
On emulation failure, convey the exit reason, etc. to userspace"), 0d7d84498fb4 (SGX in the final
form). The rest was debated on the list and may live in vendor kernels.
"""

from __future__ import annotations

from typing import Final, Literal, TypeVar

from msgspec import Struct

from kvmwhy.abi.uname import series_of

MAX_NDATA: Final = 16

# Suberrors other than 1: since which kernel there are at least so many words, the newest first. The CPU of the last VM
# entry came with 1aa561b1a4c0 (5.9), an address in every failed delivery with 704fc6021b9e (6.14).
_LEAST_WORDS: Final[dict[int, tuple[tuple[tuple[int, int], int], ...]]] = {
    2: (((5, 9), 4),),
    3: (((6, 14), 5), ((5, 9), 4)),
    4: (((5, 9), 2),),
}
MAX_DEBUG: Final = 4
INSN_BYTES: Final = 15
NOP: Final = 0x90

SUBERRORS: Final = {
    1: "EMULATION",
    2: "SIMUL_EX",
    3: "DELIVERY_EV",
    4: "UNEXPECTED_EXIT_REASON",
}
FLAG_INSTRUCTION_BYTES: Final = 1
FLAG_EXIT_REASON: Final = 2  # v1/v2 of the 2021 series; never merged

LayoutName = Literal[
    "none",
    "sgx-5.13",
    "bytes-5.14",
    "final",
    "final-no-bytes",
    "positional",
    "v3",
    "v3-no-bytes",
    "packed",
    "packed-no-bytes",
    "skip",
    "simultaneous",
    "delivery",
    "unexpected",
    "unknown",
]

_T = TypeVar("_T")
_ENCLS: Final = 60  # VMX basic exit reason
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF


def least_words(suberror: int, kernel: str) -> int:
    """How many words this kernel writes at least, or one that was made of it; 0 if that is not known.

    ``kernel`` is a release as ``uname -r`` gives it. Vendors' kernels have what is newer more often than not, so they
    may write more.
    """
    series = series_of(kernel) or (0, 0)
    return next((words for since, words in _LEAST_WORDS.get(suberror, ()) if series >= since), 0)


class EmulationFailure(Struct, frozen=True):
    """Suberror 1, decoded. ``None`` means that the layout has no such field; words are unsigned.

    ``insn`` is the emulator's fetch window, ``insn_size`` bytes of it: usually 15, so that
    instructions after the failing one are in it too. ``debug`` is not ABI; for SGX it is
    (address, size).
    """

    layout: LayoutName
    flags: int | None = None
    insn: bytes | None = None
    reason: int | None = None
    info1: int | None = None
    info2: int | None = None
    intr_info: int | None = None
    error_code: int | None = None
    debug: tuple[int, ...] = ()

    @property
    def has_exit(self) -> bool:
        """The words of the VM-exit are there (all five, unless the record was cut)."""
        return self.reason is not None and self.info1 is not None


class Reading(Struct, frozen=True):
    """One way to read the words, the other ways that fit as well, and what does not add up."""

    failure: EmulationFailure
    also: tuple[EmulationFailure, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def ambiguous(self) -> bool:
        return bool(self.also)


class LayoutError(ValueError):
    """This failure cannot be written in that layout."""


# -- words -> meaning -----------------------------------------------------------------------------


def decode_emulation(data: tuple[int, ...] | list[int], ndata: int | None = None, *, cut: bool = False) -> Reading:
    """Read the words of suberror 1 by their shape.

    ``ndata`` is the kernel's count, if it is known apart from the words; above 16 it was not
    written by KVM. ``cut`` says that more words may have followed these. Never raises; an
    impossible shape is layout "unknown", with every word that could not be placed under ``debug``.
    """
    remarks: list[str] = []
    if ndata is not None and ndata > MAX_NDATA:
        remarks.append(f"ndata is {ndata}: the page holds 16 entries, so KVM did not write this count")
        ndata = min(len(data), MAX_NDATA)
    words = tuple(data[: MAX_NDATA if ndata is None else ndata])
    if cut or len(words) < (ndata or 0):
        return Reading(_first_words(words, None if cut else ndata, remarks), remarks=tuple(remarks))
    readings = [*_merged(words, remarks), *_proposed(words)]
    if not readings:
        readings = [_unknown(words, remarks)]
    return Reading(readings[0], tuple(readings[1:]), tuple(remarks))


def _merged(words: tuple[int, ...], remarks: list[str]) -> list[EmulationFailure]:
    ndata = len(words)
    if not words:
        return [EmulationFailure("none")]
    flags = words[0]
    if ndata == 2:
        return [EmulationFailure("sgx-5.13", debug=words)]
    if flags == FLAG_INSTRUCTION_BYTES and ndata == 3:
        return [EmulationFailure("bytes-5.14", flags, _insn(words, remarks))]
    if flags == FLAG_INSTRUCTION_BYTES and 8 <= ndata <= 8 + MAX_DEBUG:
        return [_final("final", flags, _insn(words, remarks), words[3:])]
    if not flags and 6 <= ndata <= 6 + MAX_DEBUG:
        return [_final("final-no-bytes", flags, None, words[1:])]
    return []


def _proposed(words: tuple[int, ...]) -> list[EmulationFailure]:
    flags, ndata = words[0] if words else 0, len(words)
    if ndata == 4 and flags in {2, 3}:
        insn = _insn(words, []) if flags & FLAG_INSTRUCTION_BYTES else None
        return [EmulationFailure("positional", flags, insn, reason=words[3])]
    if flags == FLAG_INSTRUCTION_BYTES and ndata == 7:
        return _packed_or_v3(flags, _insn(words, []), words[3:])
    if not flags and ndata == 5:
        return _packed_or_v3(flags, None, words[1:])
    if not flags and ndata == 8 and words[1] & 0xFFFF != _ENCLS:
        # Eight words without bytes are either this, or the final form with SGX's two debug words,
        # and then the reason is ENCLS. Anything else fits both.
        return [_final("skip", flags, None, words[3:])]
    return []


def _packed_or_v3(flags: int, insn: bytes | None, rest: tuple[int, ...]) -> list[EmulationFailure]:
    """Four words hold the same 32 bytes in two pictures; where both fit, both are returned."""
    suffix = insn is not None
    readings = []
    if rest[0] <= _U32:  # v3: the reason is a u32 in a u64
        name: LayoutName = "v3" if suffix else "v3-no-bytes"
        readings.append(EmulationFailure(name, flags, insn, rest[0], rest[1], rest[2], rest[3] & _U32, rest[3] >> 32))
    if rest[3] <= _U32:  # packed: the error code stands alone at the end
        name = "packed" if suffix else "packed-no-bytes"
        whole = rest[0] | rest[1] << 64 | rest[2] << 128
        info1, info2, intr_info = whole >> 32 & _U64, whole >> 96 & _U64, whole >> 160
        readings.append(EmulationFailure(name, flags, insn, whole & _U32, info1, info2, intr_info, rest[3]))
    return readings


def _first_words(words: tuple[int, ...], ndata: int | None, remarks: list[str]) -> EmulationFailure:
    """A record of which only the first words are here: the form that every kernel since 5.16 writes."""
    count = "more" if ndata is None else str(ndata)
    if not words:
        return EmulationFailure("none")
    remarks.append(f"only the first {len(words)} words are here, of {count}")
    flags = words[0]
    if flags == FLAG_INSTRUCTION_BYTES:
        if len(words) < 3:
            return EmulationFailure("final", flags, debug=words[1:])
        return _final("final", flags, _insn(words, remarks), words[3:])
    if not flags:
        return _final("final-no-bytes", flags, None, words[1:])
    return _unknown(words, remarks)


def _unknown(words: tuple[int, ...], remarks: list[str]) -> EmulationFailure:
    flags = words[0]
    remarks.append(f"no known layout has flags {flags:#x} with {len(words)} words")
    # The flag is ABI: whatever else was added, the bytes stand where it says.
    plausible = flags & FLAG_INSTRUCTION_BYTES and flags <= _U32 and len(words) >= 3
    if plausible and words[1] & 0xFF <= INSN_BYTES:
        return EmulationFailure("unknown", flags, _insn(words, remarks), debug=words[3:])
    return EmulationFailure("unknown", debug=words)


def _final(name: LayoutName, flags: int, insn: bytes | None, rest: tuple[int, ...]) -> EmulationFailure:
    five = (*rest[:5], None, None, None, None, None)
    return EmulationFailure(name, flags, insn, five[0], five[1], five[2], five[3], five[4], rest[5:])


def _insn(words: tuple[int, ...], remarks: list[str]) -> bytes:
    raw = words[1].to_bytes(8, "little") + words[2].to_bytes(8, "little")
    size, window = raw[0], raw[1:]
    if size > INSN_BYTES:
        remarks.append(f"insn_size is {size}: an x86 fetch window has 15 bytes, so all 15 are taken")
        return window
    if window[size:] != bytes([NOP]) * (INSN_BYTES - size):
        remarks.append("the bytes behind insn_size are not the kernel's 0x90 fill")
    return window[:size]


# -- meaning -> words -----------------------------------------------------------------------------


def encode_emulation(failure: EmulationFailure) -> tuple[int, ...]:
    """The words a kernel of that layout would have written. Raises LayoutError if it cannot say this."""
    f = failure
    head = () if f.flags is None else (f.flags,)
    match f.layout:
        case "none":
            return ()
        case "sgx-5.13":
            return f.debug
        case "unknown":
            return (*head, *(() if f.insn is None else instruction_words(f.insn)), *f.debug)
        case "bytes-5.14":
            return (*head, *instruction_words(_need(f.insn, f)))
        case "final":
            return (*head, *instruction_words(_need(f.insn, f)), *_exit_words(f), *f.debug)
        case "final-no-bytes":
            return (*head, *_exit_words(f), *f.debug)
        case "skip":
            return (*head, 0, 0, *_exit_words(f))
        case "positional":
            gap = (0, 0) if f.insn is None else instruction_words(f.insn)
            return (*head, *gap, _need(f.reason, f))
        case "v3" | "v3-no-bytes":
            reason, info1, info2, intr_info, error_code = _exit_words(f)
            insn = () if f.insn is None else instruction_words(f.insn)
            return (*head, *insn, reason, info1, info2, error_code << 32 | intr_info)
        case "packed" | "packed-no-bytes":
            reason, info1, info2, intr_info, error_code = _exit_words(f)
            insn = () if f.insn is None else instruction_words(f.insn)
            packed = reason | info1 << 32 | info2 << 96 | intr_info << 160 | error_code << 192
            return (*head, *insn, *(packed >> 64 * n & _U64 for n in range(4)))
    raise LayoutError(f"{f.layout} is not a layout of suberror 1")


def instruction_words(insn: bytes) -> tuple[int, int]:
    """insn_size and the bytes, filled up with 0x90, as data[1] and data[2]."""
    if len(insn) > INSN_BYTES:
        raise LayoutError(f"an x86 instruction has at most 15 bytes, not {len(insn)}")
    raw = bytes([len(insn)]) + insn.ljust(INSN_BYTES, bytes([NOP]))
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def _exit_words(f: EmulationFailure) -> tuple[int, int, int, int, int]:
    return (
        _need(f.reason, f),
        _need(f.info1, f),
        _need(f.info2, f),
        _need(f.intr_info, f),
        _need(f.error_code, f),
    )


def _need(value: _T | None, f: EmulationFailure) -> _T:
    if value is None:
        raise LayoutError(f"layout {f.layout} needs a field that this failure does not have")
    return value
