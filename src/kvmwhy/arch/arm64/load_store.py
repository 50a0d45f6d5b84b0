"""Which loads and stores come with a syndrome: those whose access KVM can hand to a VMM.

When an access is trapped, ESR_EL2.ISV tells whether the CPU describes it: which register, how wide, signed or not. KVM
on Arm decodes no instructions, so that an access without that is lost: KVM_RUN fails with ENOSYS, or, if the VMM asked
for it, returns KVM_EXIT_ARM_NISV. Arm ARM DDI 0487, "ISS encoding for an exception from a Data Abort": ISV is 1 for a
load or store of one general-purpose register, also with acquire or release, but not exclusive and not with write-back.

The encodings are those of its chapter "Loads and Stores" of A64; bit numbers are given as there.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Form = Literal[
    "one register", "acquire or release", "literal", "write-back", "pair", "exclusive", "compare and swap", "atomic",
    "64 bytes", "SIMD and FP register", "SIMD structure", "memory tag", "memory copy or set", "prefetch",
    "authenticated",
]  # fmt: skip
_DESCRIBED: Final = frozenset({"one register", "acquire or release", "literal", "authenticated"})


class LoadStore(NamedTuple):
    """``form`` names why; ``store``: it writes memory, atomics do both and count as stores."""

    form: Form
    store: bool = False

    @property
    def described(self) -> bool | None:
        """Whether a trapped access has a valid syndrome; ``None``: a prefetch is never trapped."""
        return None if self.form == "prefetch" else self.form in _DESCRIBED


def load_store(word: int) -> LoadStore | Literal["undefined"] | None:
    """What an instruction of A64 is, ``None`` if it is no load or store. Total over all 32-bit words.

    "undefined" is what Armv9.4 does not allocate; a CPU without an extension has more that it does not know.
    """
    if _bits(word, 27, 27) != 1 or _bits(word, 25, 25) != 0:
        return None
    match _bits(word, 29, 28):
        case 0b00:
            return _exclusive_or_structure(word)
        case 0b01:
            return _literal_or_ordered(word)
        case 0b10:
            return _pair(word)
        case _:
            return _register(word)


def _bits(word: int, high: int, low: int) -> int:
    return word >> low & (1 << high - low + 1) - 1


def _exclusive_or_structure(word: int) -> LoadStore | Literal["undefined"]:
    if _bits(word, 26, 26):  # 0Q00110x: LD1 to LD4, ST1 to ST4 and their lanes; the rest follows in one group
        return "undefined" if _bits(word, 31, 31) else LoadStore("SIMD structure", not _bits(word, 22, 22))
    if _bits(word, 24, 24):
        return _unprivileged_exclusive(word)
    size, ordered, load, pair = (_bits(word, high, high) for high in (31, 23, 22, 21))
    if ordered and not pair:
        return LoadStore("acquire or release", not load)
    only_one = _bits(word, 14, 10) == _NO_REGISTER
    if ordered:
        return LoadStore("compare and swap", True) if only_one else "undefined"
    if not pair or size:
        return LoadStore("exclusive", not load)
    return LoadStore("compare and swap", True) if only_one else "undefined"


def _unprivileged_exclusive(word: int) -> LoadStore | Literal["undefined"]:
    """FEAT_LSUI: LDTXR, STTXR, CAST and CASPT."""
    if not _bits(word, 31, 31) and not _bits(word, 21, 21):
        return "undefined"
    if _bits(word, 23, 23) or _bits(word, 21, 21):
        return LoadStore("compare and swap", True)
    return LoadStore("exclusive", not _bits(word, 22, 22))


def _literal_or_ordered(word: int) -> LoadStore | Literal["undefined"]:
    size, vector = _bits(word, 31, 30), _bits(word, 26, 26)
    if not _bits(word, 24, 24):
        if vector:
            return "undefined" if size == 0b11 else LoadStore("SIMD and FP register")
        return LoadStore("prefetch") if size == 0b11 else LoadStore("literal")
    if _bits(word, 21, 21) and size == 0b11 and not vector:
        return LoadStore("memory tag", _bits(word, 23, 22) != 0b01 or _bits(word, 11, 10) != 0)
    match _bits(word, 11, 10):
        case 0b00 if not _bits(word, 21, 21) and not vector:
            return _sized(size, _bits(word, 23, 22), "acquire or release")
        case 0b01 if not _bits(word, 21, 21):
            return LoadStore("memory copy or set", True)
        case 0b10 if not _bits(word, 21, 21) and vector:
            return LoadStore("SIMD and FP register", _bits(word, 22, 22) == 0)
        case 0b10 if not _bits(word, 21, 21) and size >= 0b10:  # LDIAPP, STILP; LDAPR and STLR with write-back
            form: Form = "write-back" if _bits(word, 23, 23) else "pair"
            return LoadStore(form, not _bits(word, 22, 22))
        case _:
            return "undefined"


def _pair(word: int) -> LoadStore | Literal["undefined"]:
    """LDP, STP, LDPSW, STGP, with and without write-back, and the forms that do not allocate."""
    if _bits(word, 31, 30) == 0b11 and _bits(word, 26, 26):
        return "undefined"
    return LoadStore("pair", not _bits(word, 22, 22))


def _register(word: int) -> LoadStore | Literal["undefined"]:
    size, opc, vector = _bits(word, 31, 30), _bits(word, 23, 22), _bits(word, 26, 26)
    if _bits(word, 24, 24):
        return _vector(size, opc) if vector else _sized(size, opc, "one register")
    low = _bits(word, 11, 10)
    if not _bits(word, 21, 21):
        if low in {0b01, 0b11}:
            return _written_back(size, opc, vector)
        if vector:
            return _vector(size, opc) if low == 0b00 else "undefined"
        plain = _sized(size, opc, "one register")
        return "undefined" if low == 0b10 and plain == LoadStore("prefetch") else plain
    if low == 0b10:
        if not _bits(word, 14, 14):  # the extension of the index: a word or a double word
            return "undefined"
        return _vector(size, opc) if vector else _sized(size, opc, "one register")
    if low == 0b00:
        return "undefined" if vector else _atomic(word, size)
    if vector or size != 0b11:
        return "undefined"
    return LoadStore("write-back" if _bits(word, 11, 11) else "authenticated")  # LDRAA, LDRAB


def _atomic(word: int, size: int) -> LoadStore | Literal["undefined"]:
    """LDADD and its like, SWP, LDAPR, and the accesses of 64 bytes."""
    acquire, release, opcode = _bits(word, 23, 23), _bits(word, 22, 22), _bits(word, 14, 12)
    if not _bits(word, 15, 15):
        return LoadStore("atomic", True)
    if opcode == 0b000:
        return LoadStore("atomic", True)  # SWP
    if opcode == 0b100 and acquire and not release:
        return LoadStore("acquire or release")  # LDAPR
    if size == 0b11 and not acquire and not release and opcode in {0b001, 0b010, 0b011, 0b101}:
        return LoadStore("64 bytes", opcode != 0b101)
    if size < 0b10 and opcode in {0b001, 0b010, 0b011}:
        return LoadStore("atomic", True)  # FEAT_THE: RCWCLR, RCWSWP, RCWSET
    return "undefined"


def _sized(size: int, opc: int, form: Form) -> LoadStore | Literal["undefined"]:
    """A general-purpose register: opc 0 stores, 1 loads, 2 and 3 load with their sign."""
    if size == 0b11 and opc == 0b10:
        return LoadStore("prefetch") if form == "one register" else "undefined"
    if opc == 0b11 and size >= 0b10:
        return "undefined"
    return LoadStore(form, opc == 0)


def _vector(size: int, opc: int) -> LoadStore | Literal["undefined"]:
    """An opc of 2 or 3 means the registers of 128 bits, which have size 0."""
    return LoadStore("SIMD and FP register", not opc & 1) if opc < 0b10 or size == 0 else "undefined"


def _written_back(size: int, opc: int, vector: int) -> LoadStore | Literal["undefined"]:
    plain = _vector(size, opc) if vector else _sized(size, opc, "one register")
    if plain == "undefined" or plain.form == "prefetch":
        return "undefined"
    return plain if vector else LoadStore("write-back", plain.store)


_NO_REGISTER: Final = 0b11111
