"""The tables that a CPU reads by itself: GDT, TSS, IDT, real-mode vectors, page tables. As bytes.

They all lie below 0x10000 and identity-map the first 4 GiB, so that a GPA is a linear address.
Descriptor formats: SDM vol. 3A, 3.4.5 (segments), 6.11 and 6.14.1 (gates), 7.2 (TSS), 4.5 (paging).
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final, Literal

from kvmwhy.machine.x86.state import Dtable, Segment, Sregs

Mode = Literal["real16", "prot32", "long64"]
MODES: Final[tuple[Mode, ...]] = ("real16", "prot32", "long64")

GDT, TSS, IDT, STUBS = 0x500, 0x600, 0x1000, 0x2000
PML4, PDPT, PD = 0x3000, 0x4000, 0x5000  # PD: four pages, 4 GiB of 2 MiB pages
KERNEL_STACK, USER_STACK = 0xA000, 0xB000  # their tops
STACK_SIZE: Final = 0x400  # of each vCPU
ORIGIN: Final = 0x10000  # of the code, unless the guest says otherwise
STUB_SIZE: Final = 16
VECTORS: Final = 256

CODE32, DATA, CODE64 = 0x08, 0x10, 0x18
USER_CODE64, USER_DATA, USER_CODE32 = 0x20 | 3, 0x28 | 3, 0x40 | 3
TASK: Final = 0x30
_DESCRIPTORS: Final = (
    0,
    0x00CF9B000000FFFF,  # 08 code, 32-bit
    0x00CF93000000FFFF,  # 10 data
    0x00AF9B000000FFFF,  # 18 code, 64-bit
    0x00AFFB000000FFFF,  # 20 code, 64-bit, DPL 3
    0x00CFF3000000FFFF,  # 28 data, DPL 3
    0x00008B0000000067 | TSS << 16,  # 30 busy TSS
    0,  # 38 its upper half (long mode)
    0x00CFFB000000FFFF,  # 40 code, 32-bit, DPL 3
)
_TSS_LIMIT: Final = 0x67

CR0_PE, CR0_MP, CR0_ET, CR0_NE, CR0_PG = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 31
CR4_PAE, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE = 1 << 5, 1 << 9, 1 << 10, 1 << 18
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
_APIC_BASE, _APIC_ENABLED, _APIC_BSP = 0xFEE00000, 1 << 11, 1 << 8


@cache
def low_memory(mode: Mode) -> bytes:
    """What lies at 0 … 0x9000: every vector leads to its own stub, which halts."""
    image = bytearray(PD if mode != "long64" else PD + 4 * 0x1000)

    def put(address: int, data: bytes) -> None:
        image[address : address + len(data)] = data

    stub = b"\xf4\xeb\xfd".ljust(STUB_SIZE, b"\xf4")  # 1: hlt; jmp 1b
    put(STUBS, stub * VECTORS)
    stubs = range(STUBS, STUBS + VECTORS * STUB_SIZE, STUB_SIZE)
    if mode == "real16":
        put(0, b"".join(struct.pack("<HH", at, 0) for at in stubs))
        return bytes(image)
    put(GDT, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS))
    # Interrupt gates with DPL 3, so that INT n works from any CPL; handlers run at CPL 0.
    if mode == "prot32":
        put(TSS + 4, struct.pack("<II", KERNEL_STACK, DATA))  # ESP0, SS0
        put(IDT, b"".join(struct.pack("<HHHH", at, CODE32, 0xEE00, 0) for at in stubs))
    else:
        put(TSS + 4, struct.pack("<Q", KERNEL_STACK))  # RSP0
        put(IDT, b"".join(struct.pack("<HHHHQ", at, CODE64, 0xEE00, 0, 0) for at in stubs))
        # Accessed (20), dirty (40), user, writable and present (07): no walk has anything to write back.
        put(PML4, struct.pack("<Q", PDPT | 0x27))
        put(PDPT, struct.pack("<4Q", *(PD + n * 0x1000 | 0x27 for n in range(4))))
        put(PD, struct.pack("<2048Q", *(n << 21 | 0xE7 for n in range(2048))))  # 80: 2 MiB page
    put(TSS + 0x66, struct.pack("<H", _TSS_LIMIT + 1))  # no I/O permission map
    return bytes(image)


def sregs(mode: Mode, *, cpl: int, origin: int, idt: Dtable | None, xsave: bool, bsp: bool) -> Sregs:
    """Segments, tables and control registers for code at ``origin``."""
    apic_base = _APIC_BASE | _APIC_ENABLED | (_APIC_BSP if bsp else 0)
    cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | (CR4_OSXSAVE if xsave else 0)
    if mode == "real16":
        code = Segment(origin, 0xFFFF, origin >> 4, type=11, present=1, s=1)
        data = Segment(0, 0xFFFF, 0, type=3, present=1, s=1)
        task = Segment(0, 0xFFFF, 0, type=11, present=1)
        ldt = Segment(0, 0xFFFF, 0, type=2, present=1)
        gdt, own = Dtable(0, 0xFFFF), Dtable(0, 4 * VECTORS - 1)
        cr0, cr3, efer = CR0_ET, 0, 0
    else:
        long = mode == "long64"
        selector = (USER_CODE64 if long else USER_CODE32) if cpl else (CODE64 if long else CODE32)
        code = _flat(selector, 11, cpl, db=not long, long=long)
        data = _flat(USER_DATA if cpl else DATA, 3, cpl, db=True, long=False)
        task = Segment(TSS, _TSS_LIMIT, TASK, type=11, present=1)
        ldt = Segment(unusable=1)
        gdt = Dtable(GDT, 8 * len(_DESCRIPTORS) - 1)
        own = Dtable(IDT, (16 if long else 8) * VECTORS - 1)
        cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | (CR0_PG if long else 0)
        cr4 |= CR4_PAE if long else 0
        cr3, efer = (PML4, EFER_LME | EFER_LMA) if long else (0, 0)
    return Sregs(
        *(code, data, data, data, data, data, task, ldt, gdt, own if idt is None else idt),
        cr0=cr0,
        cr3=cr3,
        cr4=cr4,
        efer=efer,
        apic_base=apic_base,
    )


def _flat(selector: int, kind: int, dpl: int, *, db: bool, long: bool) -> Segment:
    return Segment(0, 0xFFFF_FFFF, selector, type=kind, present=1, dpl=dpl, db=int(db), s=1, l=int(long), g=1)
