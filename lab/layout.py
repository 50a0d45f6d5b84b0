"""What every guest of the lab has in memory and in its registers before its own part is put in.

RAM reaches from 0 to RAM_SIZE; one read-only page lies above it; all else is a hole. In protected
mode without paging and in long mode an address is its own GPA. Each vector leads to a HLT of its own
at HANDLERS, so that a guest that halts there tells which exception it took.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from kvmwhy.machine.x86.state import Dtable, Regs, Segment, Sregs, replace
from lab.cases import Chunk, Memory, Mode

RAM_SIZE: Final = 0x40000
READONLY: Final = 0x80000  # one page, and within the reach of real mode
HOLE: Final = 0xD0000000
HOLE16: Final = 0xD0000

GDT, IDT, TSS = 0x1000, 0x1800, 0x2000
STACK: Final = 0x3800  # at CPL 0
USER_STACK: Final = 0x3C00
PML4, PDPT, PD_LOW, PD_HOLE, PT = 0x4000, 0x5000, 0x6000, 0x7000, 0x8000
HANDLERS: Final = 0x9000
CODE: Final = 0x10000  # the page; the first instruction is at ENTRY
ENTRY: Final = CODE + 0x100
DATA: Final = 0x20000
VECTORS: Final = 48

CODE32, DATA_SEL, CODE64, CODE16, TASK = 0x08, 0x10, 0x18, 0x20, 0x28
USER_CODE32, USER_DATA, USER_CODE64 = 0x3B, 0x43, 0x4B
_DESCRIPTORS: Final = (
    0,
    0x00CF9B000000FFFF,  # 08 code, 32-bit
    0x00CF93000000FFFF,  # 10 data
    0x00AF9B000000FFFF,  # 18 code, 64-bit
    0x008F9B000000FFFF,  # 20 code, 16-bit
    0x00008B0000000067 | TSS << 16,  # 28 busy TSS
    0,  # 30 its upper half
    0x00CFFB000000FFFF,  # 38 code, 32-bit, DPL 3
    0x00CFF3000000FFFF,  # 40 data, DPL 3
    0x00AFFB000000FFFF,  # 48 code, 64-bit, DPL 3
)
GDT_LIMIT: Final = 8 * len(_DESCRIPTORS) - 1
_TSS_LIMIT: Final = 0x67
_IOPL3: Final = 3 << 12
_LEAF: Final = 0xE7  # 2 MiB, dirty, accessed, user, writable, present
_TABLE: Final = 0x27
_TSS_TYPE: Final = 11

CR0_PE, CR0_MP, CR0_ET, CR0_NE, CR0_PG = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 31
CR4_PAE, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE = 1 << 5, 1 << 9, 1 << 10, 1 << 18
_EFER_LONG: Final = 1 << 8 | 1 << 10  # LME, LMA
XCR0: Final = 7  # x87, SSE, AVX

MEMORY: Final = (Memory(0, RAM_SIZE), Memory(READONLY, 0x1000, readonly=True))
WORD: Final[dict[Mode, int]] = {"real16": 16, "prot16": 16, "prot32": 32, "compat32": 32, "long64": 64}


def is_long(mode: Mode) -> bool:
    """IA-32e: 64-bit code, or 32-bit code under it. Gates have 16 bytes then, else 8, in real mode 4."""
    return mode in {"long64", "compat32"}


def gate_size(mode: Mode) -> int:
    return 16 if is_long(mode) else 4 if mode == "real16" else 8


class Image:
    """The RAM of one guest, to be filled in."""

    def __init__(self, mode: Mode) -> None:
        self.ram = bytearray(RAM_SIZE)
        self.readonly = bytearray(b"\xf4" * 16)
        for vector in range(VECTORS):
            self.ram[HANDLERS + 16 * vector] = 0xF4
        handlers = range(HANDLERS, HANDLERS + 16 * VECTORS, 16)
        if mode == "real16":
            self.put(0, b"".join(struct.pack("<HH", at - HANDLERS, HANDLERS >> 4) for at in handlers))
            return
        self.put(GDT, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS))
        self.put(TSS + 0x66, struct.pack("<H", _TSS_LIMIT + 1))
        # Interrupt gates with DPL 3, so that INT n works from any CPL.
        if is_long(mode):
            self.put(TSS + 4, struct.pack("<Q", STACK))
            self.put(IDT, b"".join(struct.pack("<HHHHQ", at, CODE64, 0xEE00, 0, 0) for at in handlers))
            self.quad(PML4, PDPT | _TABLE)
            self.quad(PDPT, PD_LOW | _TABLE)
            self.quad(PDPT + 8 * 3, PD_HOLE | _TABLE)
            self.quad(PD_LOW, _LEAF)
            self.quad(PD_HOLE + 8 * (HOLE >> 21 & 511), HOLE | _LEAF)
        else:
            self.put(TSS + 4, struct.pack("<II", STACK, DATA_SEL))
            self.put(IDT, b"".join(struct.pack("<HHHH", at, CODE32, 0xEE00, 0) for at in handlers))

    def put(self, address: int, data: bytes) -> None:
        memory, start = (self.readonly, READONLY) if address >= READONLY else (self.ram, 0)
        memory[address - start : address - start + len(data)] = data

    def quad(self, address: int, value: int) -> None:
        self.put(address, value.to_bytes(8, "little"))

    def chunks(self) -> tuple[Chunk, ...]:
        """All that is not zero."""
        return (*_pieces(self.ram), Chunk(READONLY, bytes(self.readonly)))


def _pieces(ram: bytearray) -> Iterator[Chunk]:
    """Lines of 16 bytes that are not all zero, joined to their neighbours in the page."""
    line, zeros = bytes(16), bytes(0x1000)
    for page in range(0, len(ram), 0x1000):
        if ram[page : page + 0x1000] == zeros:
            continue
        start = None
        for at in range(page, page + 0x1000, 16):
            empty = ram[at : at + 16] == line
            if start is None and not empty:
                start = at
            elif start is not None and empty:
                yield Chunk(start, bytes(ram[start:at]))
                start = None
        if start is not None:
            yield Chunk(start, bytes(ram[start : page + 0x1000]))


def sregs(mode: Mode, cpl: int = 0) -> Sregs:
    cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE
    if mode == "real16":
        data = _real(0)
        return Sregs(
            *(_real(CODE, 11), data, data, data, data, data),
            *(Segment(limit=0xFFFF, type=_TSS_TYPE, present=1), Segment(limit=0xFFFF, type=2, present=1)),
            *(Dtable(0, 0xFFFF), Dtable(0, 4 * VECTORS - 1)),
            cr0=CR0_ET,
            cr4=cr4,
        )
    long = is_long(mode)
    selector, user = {
        "prot16": (CODE16, CODE16),
        "prot32": (CODE32, USER_CODE32),
        "compat32": (CODE32, USER_CODE32),
        "long64": (CODE64, USER_CODE64),
    }[mode]
    db = WORD[mode] == 32
    code = _flat(user if cpl else selector, 11, cpl, db=db, long=mode == "long64")
    data = _flat(USER_DATA if cpl else DATA_SEL, 3, cpl, db=True, long=False)
    return Sregs(
        *(code, data, data, data, data, data),
        *(Segment(TSS, _TSS_LIMIT, TASK, type=_TSS_TYPE, present=1), Segment(unusable=1)),
        *(Dtable(GDT, GDT_LIMIT), Dtable(IDT, gate_size(mode) * VECTORS - 1)),
        cr0=CR0_PE | CR0_MP | CR0_ET | CR0_NE | (CR0_PG if long else 0),
        cr3=PML4 if long else 0,
        cr4=cr4 | (CR4_PAE if long else 0),
        efer=_EFER_LONG if long else 0,
    )


def regs(mode: Mode, cpl: int = 0) -> Regs:
    """RBX is for the operand's address; IOPL is 3 at CPL 3, so that OUT ends the guest."""
    rip = ENTRY - CODE if mode == "real16" else ENTRY
    stack = USER_STACK if cpl else STACK
    return Regs(rip=rip, rsp=stack, rflags=2 | (_IOPL3 if cpl else 0))


def with_segment(state: Sregs, name: str, base: int) -> Sregs:
    """Real mode: a segment register that has been loaded with ``base`` >> 4."""
    return replace(state, **{name: _real(base, 11 if name == "cs" else 3)})


def _real(base: int, kind: int = 3) -> Segment:
    return Segment(base, 0xFFFF, base >> 4, type=kind, present=1, s=1)


def _flat(selector: int, kind: int, dpl: int, *, db: bool, long: bool) -> Segment:
    return Segment(0, 0xFFFF_FFFF, selector, type=kind, present=1, dpl=dpl, db=int(db), s=1, l=int(long), g=1)
