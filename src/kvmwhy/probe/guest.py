"""The guests that a probe runs in: one for each mode and each pointer that leads to the operand.

RAM is 64 KiB at 0. Linear 4 MiB to 4 MiB + 16 KiB, through a page table, are the code, two pages of operand,
and one of RAM for a string instruction's other side. The page under test lies at NEW; OLD has, at the same
place, two instructions that make KVM ask for it:

``stale``: the first rewrites the code page's own entry in the page table, without a flush, to lead to NEW. The
CPU goes on with its old translation, and faults in the second, a plain load from no memory; KVM walks the
tables itself and fetches from NEW. So any bytes at all reach the emulator, whatever the CPU knows. Real mode has
no pages: there, the prefix of ``kvm.force_emulation_prefix`` stands before the instruction (``forced``), or the CPU
comes to the instruction by itself (``plain``).

Each guest comes twice: the operand where there is no memory, and in RAM, where the CPU executes the instruction.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final, Literal, NamedTuple

from kvmwhy.machine.x86.state import Dtable, Regs, Segment, Sregs, regs_to_bytes, replace, sregs_to_bytes
from kvmwhy.probe.encodings import Mode, Side
from kvmwhy.probe.operand_values import stack_frame

RAM_SIZE: Final = 0x10000
HOLE, HOLE16 = 0xD0000000, 0xD0000
HOLE_SIZE: Final = 0x2000
GDT, IDT, TSS, STACK, TOP = 0xB000, 0xB800, 0x2000, 0x3000, 0x3800
PML4, PDPT, PD, PT = 0x4000, 0x5000, 0x6000, 0x7000
NEW, HANDLERS, OLD, DATA, OTHER = 0x1000, 0x9000, 0xA000, 0xC000, 0xE000
NEAR: Final = 0x100  # HLT lies there too: a jump that keeps 16 bits of IP
VECTORS: Final = 48
HANDLER_SIZE: Final = 16
LINEAR: Final = 0x400000
OPERAND: Final = LINEAR + 0x1000
AT: Final = 0x106  # of the instruction, in its page
FIELD: Final = 0x100  # of the operand, in its page; so the pointer that leads there is aligned to 64 bytes
_APART: Final = 0x800
_REACHABLE: Final = 0x800  # where a jump to AX leads, in the code page or, with flat segments, in page 0: HLT
FORCED: Final = bytes.fromhex("0f 0b 6b 76 6d")  # ud2; .ascii "kvm"
CODE32, DATA_SELECTOR, CODE64, CODE16, TASK = 0x08, 0x10, 0x18, 0x20, 0x28

_DESCRIPTORS: Final = (
    0,
    0x00CF9B000000FFFF,  # 08 code, 32-bit
    0x00CF93000000FFFF,  # 10 data
    0x00AF9B000000FFFF,  # 18 code, 64-bit
    0x00009B000000FFFF,  # 20 code, 16-bit
    0x00008B0000000067 | TSS << 16,  # 28 busy TSS
    *(0, 0, 0, 0),
    0x0000890000000067 | TSS << 16,  # 50 available TSS
    0,
)
_GDT_LIMIT: Final = 8 * len(_DESCRIPTORS) - 1
_CR0: Final = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 31  # PE, MP, ET, NE, PG
_CR0_REAL: Final = 1 << 4 | 1 << 1  # ET, MP
_CR4: Final = 1 << 9 | 1 << 10  # OSFXSR, OSXMMEXCPT
CR4_OSXSAVE: Final = 1 << 18
_CR4_PSE, _CR4_PAE = 1 << 4, 1 << 5
_EFER: Final = 1 << 8 | 1 << 10  # LME, LMA
_LEAF, _TABLE = 0xE7, 0x27  # large page or page, dirty, accessed, user, writable, present
_PAGE: Final = 0x67
# mov to the code page's entry, then the load: at AT - 6 or less, and at AT.
_TRIGGER: Final[dict[Mode, tuple[bytes, bytes]]] = {
    "long64": (bytes.fromhex("4d 89 37"), bytes.fromhex("8b 03")),  # mov %r14,(%r15); mov (%rbx),%eax
    "prot32": (bytes.fromhex("89 55 00"), bytes.fromhex("8b 03")),  # mov %edx,(%ebp); mov (%ebx),%eax
    "prot16": (bytes.fromhex("66 89 56 00"), bytes.fromhex("8b 07")),  # mov %edx,(%bp); mov (%bx),%ax
}

Technique = Literal["stale", "forced", "plain", "native"]


class Template(NamedTuple):
    """A guest but for the instruction (at ``code_at`` in RAM) and the operand's value.

    ``data_at``: where that value goes in RAM; None: to the device, at FIELD, or above it for the stack.
    """

    mode: Mode
    side: Side
    technique: Technique
    ram: bytes
    regs: Regs
    sregs: Sregs
    code_at: int
    data_at: int | None
    hole: int

    @property
    def linear(self) -> int:
        """The linear address of the instruction under test."""
        return NEW + AT if self.mode == "real16" else LINEAR + AT

    def pack(self) -> bytes:
        """For sweep.c: code_at, data_at, hole, linear address; registers; RAM."""
        data_at = 0xFFFFFFFF if self.data_at is None else self.data_at
        head = struct.pack("<IIII", self.code_at, data_at, self.hole, self.linear)
        return head + regs_to_bytes(self.regs) + sregs_to_bytes(self.sregs) + self.ram


def field(side: Side) -> int:
    """Where in its page the operand's value goes; what is pushed goes below the stack pointer."""
    return FIELD + 0x80 if side == "sp" else FIELD


@cache
def template(mode: Mode, side: Side, technique: Technique) -> Template:
    """``native``: the operand is in RAM, and the CPU executes; else it is in the hole, and KVM has to."""
    image = _Image(mode)
    native = technique == "native"
    at = AT - len(FORCED) if technique == "forced" else AT
    image.put(NEW, b"\xf4" * 0x1000)
    image.put(OLD, b"\xf4" * 0x1000)
    if technique == "forced":
        image.put(NEW + at, FORCED)
    if technique == "stale":
        store, load = _TRIGGER[mode]
        at -= len(store)
        image.put(OLD + at, store + load)
    image.map(mode, native=native, start=OLD if technique == "stale" else NEW)
    frame = stack_frame(mode, 64 if mode == "long64" else 32 if mode == "prot32" else 16)
    image.put(TOP, frame)
    hole = HOLE16 if mode == "real16" else HOLE
    data_at = DATA + field(side) if native else None
    return Template(
        *(mode, side, technique, bytes(image.ram), _regs(mode, side, at)),
        *(_sregs(mode, side, native=native), NEW + AT, data_at, hole),
    )


class _Image:
    def __init__(self, mode: Mode) -> None:
        self.ram = bytearray(RAM_SIZE)
        handlers = range(HANDLERS, HANDLERS + HANDLER_SIZE * VECTORS, HANDLER_SIZE)
        self.put(HANDLERS, b"\xf4" * (HANDLER_SIZE * VECTORS))
        self.put(NEAR, b"\xf4" * 0x100)
        self.put(_REACHABLE, b"\xf4" * 0x100)
        if mode == "real16":
            self.put(0, b"".join(struct.pack("<HH", at - HANDLERS, HANDLERS >> 4) for at in handlers))
            return
        self.put(GDT, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS))
        self.put(TSS + 0x66, struct.pack("<H", 0x68))
        if mode == "long64":  # each gate has a stack of its own, IST1: the stack may be the operand
            self.put(TSS + 0x24, struct.pack("<Q", STACK + 0x400))
            self.put(IDT, b"".join(struct.pack("<HHBBHQ", at, CODE64, 1, 0xEE, 0, 0) for at in handlers))
        else:
            self.put(IDT, b"".join(struct.pack("<HHHH", at, CODE32, 0xEE00, 0) for at in handlers))

    def put(self, at: int, data: bytes) -> None:
        self.ram[at : at + len(data)] = data

    def map(self, mode: Mode, *, native: bool, start: int) -> None:
        """Low memory one to one; at LINEAR: code, two pages of operand, the other side of strings."""
        if mode == "real16":
            return
        operand = DATA if native else HOLE
        pages = (start, operand, operand + 0x1000, OTHER)
        if mode == "long64":
            for table, index, entry in ((PML4, 0, PDPT | _TABLE), (PDPT, 0, PD | _TABLE), (PD, 0, _LEAF)):
                self.put(table + 8 * index, struct.pack("<Q", entry))
            self.put(PD + 8 * (LINEAR >> 21), struct.pack("<Q", PT | _TABLE))
            self.put(PT, struct.pack("<4Q", *(page | _PAGE for page in pages)))
        else:
            self.put(PML4, struct.pack("<2I", _LEAF, PT | _TABLE))
            self.put(PT, struct.pack("<4I", *(page | _PAGE for page in pages)))


def _regs(mode: Mode, side: Side, at: int) -> Regs:
    flat = mode in {"long64", "prot32"}
    operand = OPERAND + FIELD if flat else FIELD
    # KVM takes an address with the page offset of the one that faulted for that one: no two may share it.
    other = operand + _APART + (0 if mode == "real16" else 0x2000)  # in real mode DS and ES have bases of their own
    stack = TOP
    if side == "sp":
        stack = (OPERAND if mode != "real16" else 0) + field(side)
    wide = mode == "long64"
    values = {
        "rip": (LINEAR if flat else 0) + at,
        "rax": _REACHABLE | 0x87,
        "rbx": operand,
        "rcx": 4,
        "rdx": 0x1122334400000000 * wide | NEW | _PAGE,
        "rsi": other if side == "di" else operand,
        "rdi": operand if side == "di" else other,
        "rbp": PT,
        "rsp": stack,
    }
    if wide:
        values |= {f"r{n}": 0x0101010101010101 * n for n in range(8, 14)} | {"r14": NEW | _PAGE, "r15": PT}
    return Regs(**values)


def _sregs(mode: Mode, side: Side, *, native: bool) -> Sregs:
    if mode == "real16":
        return _real(side, native=native)
    long = mode == "long64"
    selector = {"prot16": CODE16, "prot32": CODE32, "long64": CODE64}[mode]
    code = _flat(selector, 11, db=mode == "prot32", long=long)
    data = _flat(DATA_SELECTOR, 3, db=True, long=False)
    stack = data
    if mode == "prot16":  # offsets have 16 bits: the bases lead there
        code = Segment(LINEAR, 0xFFFF, selector, type=11, present=1, s=1)
        data = replace(data, base=OPERAND)
    return Sregs(
        *(code, data, data, data, data, stack),
        *(Segment(TSS, 0x67, TASK, type=11, present=1), Segment(unusable=1)),
        *(Dtable(GDT, _GDT_LIMIT), Dtable(IDT, (16 if long else 8) * VECTORS - 1)),
        cr0=_CR0,
        cr3=PML4,
        cr4=_CR4 | CR4_OSXSAVE | (_CR4_PAE if long else _CR4_PSE),
        efer=_EFER if long else 0,
    )


def _real(side: Side, *, native: bool) -> Sregs:
    # The selector is the same in both, as it can be pushed or stored.
    there, here = replace(_segment(HOLE16), base=DATA if native else HOLE16), _segment(OTHER)
    ds, es = (here, there) if side == "di" else (there, here)
    ss = there if side == "sp" else _segment(0)
    return Sregs(
        *(_segment(NEW, 11), ds, es, there, there, ss),
        *(Segment(limit=0xFFFF, type=11, present=1), Segment(limit=0xFFFF, type=2, present=1)),
        *(Dtable(0, 0xFFFF), Dtable(0, 4 * VECTORS - 1)),
        cr0=_CR0_REAL,
        cr4=_CR4 | CR4_OSXSAVE,
    )


def _segment(base: int, kind: int = 3) -> Segment:
    return Segment(base, 0xFFFF, base >> 4, type=kind, present=1, s=1)


def _flat(selector: int, kind: int, *, db: bool, long: bool) -> Segment:
    return Segment(0, 0xFFFF_FFFF, selector, type=kind, present=1, db=int(db), s=1, l=int(long), g=1)


def tables_of(mode: Mode) -> tuple[tuple[int, int], tuple[int, int]]:
    """(base, limit) of GDT and IDT, for LGDT and LIDT to load again."""
    if mode == "real16":
        return (0, 0xFFFF), (0, 4 * VECTORS - 1)
    return (GDT, _GDT_LIMIT), (IDT, (16 if mode == "long64" else 8) * VECTORS - 1)


_MXCSR: Final = 0x1F80


@cache
def xsave_area() -> bytes:
    """4096 bytes for KVM_SET_XSAVE: x87, SSE and AVX hold values that can be told apart, none in its initial state.

    SDM vol. 1, 13.4: legacy region, header, and AVX at 576 in the standard format.
    """
    area = bytearray(4096)
    struct.pack_into("<HHB", area, 0, 0x37F, 0, 0xFF)  # FCW, FSW, all eight registers in use
    struct.pack_into("<II", area, 24, _MXCSR, 0xFFFF)
    for n in range(8):
        struct.pack_into("<QH", area, 32 + 16 * n, 0x8000000000000000 | 0x0101 * (n + 1), 0x3FFF + n)
    for n in range(16):
        area[160 + 16 * n : 176 + 16 * n] = bytes((0x10 * n + k) & 0xFF for k in range(16))
        area[576 + 16 * n : 592 + 16 * n] = bytes((0x10 * n + k ^ 0xA5) & 0xFF for k in range(16))
    struct.pack_into("<Q", area, 512, 7)
    return bytes(area)
