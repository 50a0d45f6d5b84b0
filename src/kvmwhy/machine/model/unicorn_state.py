"""The CPU state inside Unicorn, field by field.

Unicorn's own interface cannot set the hidden part of a segment register, nor read an exception's
error code; both are in the state that ``uc_context_save`` copies (``CPUX86State`` of QEMU 5.0,
target/i386/cpu.h, as Unicorn 2.1 builds it). ``check`` compares this layout with Unicorn's own
interface before it is used.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_uint8, c_uint32, c_uint64
from typing import TYPE_CHECKING, Final

from kvmwhy.machine.errors import MachineError
from kvmwhy.machine.model.paging import Regime
from kvmwhy.machine.x86.state import Dtable, Regs, Segment, Sregs

if TYPE_CHECKING:
    from unicorn.unicorn_py3.arch.intel import UcIntel
    from unicorn.unicorn_py3.unicorn import UcContext

_DATA: Final = 40  # of struct uc_context
ES, CS, SS, DS, FS, GS, LDT, TR, GDT, IDT = range(10)
SEGMENTS: Final = {"es": ES, "cs": CS, "ss": SS, "ds": DS, "fs": FS, "gs": GS, "ldt": LDT, "tr": TR}
_GPRS: Final = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
TF, IF, DF = 0x100, 0x200, 0x400
NT, RF, VM, AC = 1 << 14, 1 << 16, 1 << 17, 1 << 18
_CC_OP_EFLAGS: Final = 1
PRESENT, LONG, BIG = 1 << 15, 1 << 21, 1 << 22  # in SegmentCache.flags
LMA: Final = 1 << 10


class SegmentCache(ctypes.Structure):
    """A segment register or descriptor table. ``flags``: the descriptor's second doubleword."""

    _fields_ = [("selector", c_uint32), ("base", c_uint64), ("limit", c_uint32), ("flags", c_uint32)]
    selector: int
    base: int
    limit: int
    flags: int


class Env(ctypes.Structure):
    """The part of the state that the model uses."""

    _fields_ = [
        ("regs", c_uint64 * 16),
        ("eip", c_uint64),
        ("eflags", c_uint64),
        ("cc_dst", c_uint64),
        ("cc_src", c_uint64),
        ("cc_src2", c_uint64),
        ("cc_op", c_uint32),
        ("df", c_int32),
        ("hflags", c_uint32),
        ("hflags2", c_uint32),
        ("segs", SegmentCache * 10),
        ("cr", c_uint64 * 5),
        ("_1", c_uint8 * (592 - 464)),
        ("efer", c_uint64),
        ("_2", c_uint8 * (824 - 600)),
        ("vectors", (c_uint8 * 64) * 32),
        ("_4", c_uint8 * (4904 - 2872)),
        ("xcr0", c_uint64),
        ("_3", c_uint8 * (5384 - 4912)),
        ("error_code", c_uint32),
        ("exception_is_int", c_uint32),
        ("exception_next_eip", c_uint64),
        ("dr", c_uint64 * 8),
        ("_5", c_uint8 * (5496 - 5464)),
        ("old_exception", c_int32),  # QEMU's memory for double faults; events are delivered here instead
    ]
    regs: ctypes.Array[c_uint64]
    eip: int
    eflags: int
    cc_op: int
    hflags: int
    segs: ctypes.Array[SegmentCache]
    cr: ctypes.Array[c_uint64]
    efer: int
    vectors: ctypes.Array[ctypes.Array[c_uint8]]
    xcr0: int
    error_code: int
    exception_is_int: int
    exception_next_eip: int
    dr: ctypes.Array[c_uint64]
    old_exception: int


def env_of(context: UcContext) -> Env:
    """The state inside a saved context; it lives as long as the context does."""
    address = ctypes.cast(context.context, ctypes.c_void_p).value or 0
    return Env.from_address(address + _DATA)


def check(uc: UcIntel) -> None:
    """Raises MachineError if this Unicorn keeps its state elsewhere."""
    from unicorn import x86_const as x86

    values = {
        x86.UC_X86_REG_RAX: 0x1111_2222_3333_4444,
        x86.UC_X86_REG_R15: 0x5555_6666_7777_8888,
        x86.UC_X86_REG_RIP: 0x1234_5678_9ABC,
        x86.UC_X86_REG_FS_BASE: 0x7F00_1122_3344,
        x86.UC_X86_REG_CR3: 0x77000,
        x86.UC_X86_REG_DR0: 0x1234_5678,
        x86.UC_X86_REG_XMM3: 0xAABB_CCDD_1122_3344,
    }
    for register, value in values.items():
        uc.reg_write(register, value)
    uc.msr_write(0xC000_0080, 0xD01)
    context = uc.context_save()
    env = env_of(context)
    vector = int.from_bytes(get_vector(env, 3, 16), "little")
    read_back = (env.regs[0], env.regs[15], env.eip, env.segs[FS].base, env.cr[3], env.dr[0], vector, env.efer)
    complete = context.size >= _DATA + ctypes.sizeof(Env) and env.cc_op == _CC_OP_EFLAGS and env.old_exception == -1
    if not complete or read_back != (*values.values(), 0xD01):
        raise MachineError("this version of Unicorn keeps its CPU state in another layout", "install unicorn 2.1")


# -- flags ------------------------------------------------------------------------------------------


def get_vector(env: Env, number: int, size: int) -> bytes:
    """The low ``size`` bytes of XMM, YMM or ZMM ``number``."""
    return bytes(env.vectors[number])[:size]


def set_vector(env: Env, number: int, data: bytes) -> None:
    """What is above the data becomes zero."""
    env.vectors[number][:] = list(data.ljust(64, b"\0"))


def get_rflags(env: Env) -> int:
    """RFLAGS. Unicorn takes them apart when it starts and puts them together when it stops."""
    return env.eflags | 2


def set_rflags(env: Env, rflags: int) -> None:
    env.eflags = rflags | 2


def cpl(env: Env) -> int:
    """SS.DPL, as KVM takes it; real mode has 0, virtual-8086 mode 3."""
    if not env.cr[0] & 1:
        return 0
    return 3 if env.eflags & VM else env.segs[SS].flags >> 13 & 3


def update_hflags(env: Env) -> None:
    """What QEMU derives from the registers (cpu.h: HF_*_MASK)."""
    cr0, cr4, cs, ss = env.cr[0], env.cr[4], env.segs[CS].flags, env.segs[SS].flags
    kept = env.hflags & ((1 << 3) | (1 << 24))  # INHIBIT_IRQ; IOBPT
    long = bool(env.efer & LMA)
    hflags = kept | cpl(env)
    hflags |= (cr0 & 1) << 7 | (cr0 >> 1 & 7) << 9  # PE; MP, EM, TS
    hflags |= (1 << 22 if cr4 & 1 << 9 else 0) | (1 << 23 if cr4 & 1 << 21 else 0)  # OSFXSR, SMAP
    if long:
        hflags |= 1 << 14
    if long and cs & LONG:
        hflags |= 1 << 15 | 1 << 4 | 1 << 5
    else:
        hflags |= (1 << 4 if cs & BIG else 0) | (1 << 5 if ss & BIG else 0)
        bases = env.segs[DS].base | env.segs[ES].base | env.segs[SS].base
        if not cr0 & 1 or env.eflags & VM or not cs & BIG or bases:
            hflags |= 1 << 6  # ADDSEG
    env.hflags = hflags


def set_inhibit(env: Env, shadow: bool) -> None:
    env.hflags = env.hflags & ~(1 << 3) | (1 << 3 if shadow else 0)


def regime(env: Env) -> Regime:
    # CPL as the CPU has it right now; AC is outside the arithmetic flags
    return Regime(env.cr[0], env.cr[3], env.cr[4], env.efer, env.hflags & 3, env.eflags)


# -- in and out -------------------------------------------------------------------------------------


def get_regs(env: Env) -> Regs:
    return Regs(**dict(zip(_GPRS, env.regs, strict=True)), rip=env.eip, rflags=get_rflags(env))


def set_regs(env: Env, regs: Regs) -> None:
    env.regs[:] = [getattr(regs, name) for name in _GPRS]
    env.eip = regs.rip
    set_rflags(env, regs.rflags)


def segment_flags(segment: Segment) -> int:
    if segment.unusable:
        return 0
    return (
        (segment.type << 8 | segment.s << 12 | segment.dpl << 13 | segment.present << 15)
        | (segment.avl << 20 | segment.l << 21 | segment.db << 22 | segment.g << 23)
    )  # fmt: skip


def _segment(cache: SegmentCache) -> Segment:
    f = cache.flags
    return Segment(
        base=cache.base,
        limit=cache.limit,
        selector=cache.selector & 0xFFFF,
        type=f >> 8 & 15,
        present=f >> 15 & 1,
        dpl=f >> 13 & 3,
        db=f >> 22 & 1,
        s=f >> 12 & 1,
        l=f >> 21 & 1,
        g=f >> 23 & 1,
        avl=f >> 20 & 1,
        unusable=int(not f & PRESENT),
    )


def get_sregs(env: Env, *, cr8: int, apic_base: int, interrupt: int | None) -> Sregs:
    bitmap = [0, 0, 0, 0]
    if interrupt is not None:
        bitmap[interrupt // 64] = 1 << interrupt % 64
    s = {name: _segment(env.segs[number]) for name, number in SEGMENTS.items()}
    gdt, idt = (Dtable(env.segs[n].base, env.segs[n].limit & 0xFFFF) for n in (GDT, IDT))
    return Sregs(
        **s,
        gdt=gdt,
        idt=idt,
        cr0=env.cr[0],
        cr2=env.cr[2],
        cr3=env.cr[3],
        cr4=env.cr[4],
        cr8=cr8,
        efer=env.efer,
        apic_base=apic_base,
        interrupt_bitmap=(bitmap[0], bitmap[1], bitmap[2], bitmap[3]),
    )


def set_sregs(env: Env, sregs: Sregs) -> None:
    for name, number in SEGMENTS.items():
        segment: Segment = getattr(sregs, name)
        cache = env.segs[number]
        cache.selector, cache.base, cache.limit = segment.selector, segment.base, segment.limit
        cache.flags = segment_flags(segment)
    for number, table in ((GDT, sregs.gdt), (IDT, sregs.idt)):
        env.segs[number].base, env.segs[number].limit = table.base, table.limit
    env.cr[0], env.cr[2], env.cr[3], env.cr[4] = sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4
    env.efer = sregs.efer
