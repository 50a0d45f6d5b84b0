"""A vCPU's state as frozen values, and each as the bytes that KVM's ioctls take and give.

Fields have the kernel's names and order (``struct kvm_regs``, ``kvm_sregs``, …); numbers are unsigned.
``replace(value, field=…)`` makes a changed copy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from kvmwhy.abi import ioctl as abi
from kvmwhy.machine.errors import RegisterError

replace = msgspec.structs.replace


class Regs(msgspec.Struct, frozen=True, gc=False):
    """``struct kvm_regs``. Bit 1 of RFLAGS is always set on a CPU, so it is the default here."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rsp: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = 2


class Segment(msgspec.Struct, frozen=True, gc=False):
    """``struct kvm_segment``: a segment register with its hidden part; ``limit`` in bytes, whatever ``g``."""

    base: int = 0
    limit: int = 0
    selector: int = 0
    type: int = 0
    present: int = 0
    dpl: int = 0
    db: int = 0
    s: int = 0
    l: int = 0  # noqa: E741 -- the kernel's name of the bit
    g: int = 0
    avl: int = 0
    unusable: int = 0


class Dtable(msgspec.Struct, frozen=True, gc=False):
    """``struct kvm_dtable``: GDTR or IDTR."""

    base: int = 0
    limit: int = 0


class Sregs(msgspec.Struct, frozen=True):
    """``struct kvm_sregs``. ``interrupt_bitmap`` has at most one bit: an interrupt waiting for delivery."""

    cs: Segment
    ds: Segment
    es: Segment
    fs: Segment
    gs: Segment
    ss: Segment
    tr: Segment
    ldt: Segment
    gdt: Dtable
    idt: Dtable
    cr0: int = 0
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    cr8: int = 0
    efer: int = 0
    apic_base: int = 0
    interrupt_bitmap: tuple[int, int, int, int] = (0, 0, 0, 0)


class Events(msgspec.Struct, frozen=True, gc=False):
    """``struct kvm_vcpu_events``, with underscores for C's dots. The default is: nothing pending.

    ``flags`` says which of the optional fields count (``abi.ioctl.VCPUEVENT_VALID``).
    """

    exception_injected: int = 0
    exception_nr: int = 0
    exception_has_error_code: int = 0
    exception_pending: int = 0
    exception_error_code: int = 0
    interrupt_injected: int = 0
    interrupt_nr: int = 0
    interrupt_soft: int = 0
    interrupt_shadow: int = 0
    nmi_injected: int = 0
    nmi_pending: int = 0
    nmi_masked: int = 0
    sipi_vector: int = 0
    flags: int = 0
    smi_smm: int = 0
    smi_pending: int = 0
    smi_smm_inside_nmi: int = 0
    smi_latched_init: int = 0
    triple_fault_pending: int = 0
    exception_has_payload: int = 0
    exception_payload: int = 0


class DebugRegs(msgspec.Struct, frozen=True):
    """``struct kvm_debugregs``: DR0 to DR3, DR6, DR7, with their values after reset as the default."""

    db: tuple[int, int, int, int] = (0, 0, 0, 0)
    dr6: int = 0xFFFF_0FF0
    dr7: int = 0x400
    flags: int = 0


class CpuidEntry(msgspec.Struct, frozen=True, gc=False):
    """``struct kvm_cpuid_entry2``. ``index`` counts only where ``flags`` has SIGNIFICANT_INDEX (1)."""

    function: int
    index: int = 0
    flags: int = 0
    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0


_EVENT_PADS = (12, 20)  # nmi.pad, reserved: where they stand among the values of the structure
_XCRS = 2 + 3 * abi.MAX_XCRS


def regs_to_bytes(regs: Regs) -> bytes:
    """Raises RegisterError for a value that does not fit."""
    return _pack(abi.REGS, msgspec.structs.astuple(regs))


def regs_from_bytes(data: bytes) -> Regs:
    return Regs(*abi.REGS.whole.unpack(data))


def sregs_to_bytes(sregs: Sregs) -> bytes:
    """Raises RegisterError for a value that does not fit."""
    values: list[int | bytes] = []
    for name in abi.SEGMENTS:
        values += msgspec.structs.astuple(getattr(sregs, name))
        values.append(0)
    for name in abi.TABLES:
        table: Dtable = getattr(sregs, name)
        values += (table.base, table.limit, 0, 0, 0)
    values += (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8, sregs.efer, sregs.apic_base)
    values += sregs.interrupt_bitmap
    return _pack(abi.SREGS, values)


def sregs_from_bytes(data: bytes) -> Sregs:
    v = abi.SREGS.whole.unpack(data)
    cs, ds, es, fs, gs, ss, tr, ldt = (Segment(*v[i : i + 12]) for i in range(0, 8 * 13, 13))
    gdt, idt = Dtable(*v[104:106]), Dtable(*v[109:111])
    cr0, cr2, cr3, cr4, cr8, efer, apic_base, *bitmap = v[114:]
    control = (cr0, cr2, cr3, cr4, cr8, efer, apic_base)
    return Sregs(cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, *control, (bitmap[0], bitmap[1], bitmap[2], bitmap[3]))


def events_to_bytes(events: Events) -> bytes:
    """Raises RegisterError for a value that does not fit."""
    values: list[int | bytes] = list(msgspec.structs.astuple(events))
    values.insert(_EVENT_PADS[0], 0)
    values.insert(_EVENT_PADS[1], bytes(26))
    return _pack(abi.VCPU_EVENTS, values)


def events_from_bytes(data: bytes) -> Events:
    return Events(*(v for n, v in enumerate(abi.VCPU_EVENTS.whole.unpack(data)) if n not in _EVENT_PADS))


def debugregs_to_bytes(regs: DebugRegs) -> bytes:
    """Raises RegisterError for a value that does not fit."""
    return _pack(abi.DEBUGREGS, (*regs.db, regs.dr6, regs.dr7, regs.flags, *[0] * 9))


def debugregs_from_bytes(data: bytes) -> DebugRegs:
    v = abi.DEBUGREGS.whole.unpack(data)
    return DebugRegs((v[0], v[1], v[2], v[3]), v[4], v[5], v[6])


def xcrs_to_bytes(xcrs: Mapping[int, int]) -> bytes:
    """``{0: XCR0}``. Raises RegisterError for a value that does not fit, or more than 16 registers."""
    if len(xcrs) > abi.MAX_XCRS:
        raise RegisterError(f"xcr[{len(xcrs) - 1}]", None, 0)
    values = [len(xcrs), 0, *(n for item in xcrs.items() for n in (item[0], 0, item[1]))]
    return _pack(abi.XCRS, [*values, *[0] * (_XCRS - len(values))])


def xcrs_from_bytes(data: bytes) -> dict[int, int]:
    v = abi.XCRS.whole.unpack(data)
    return {v[i]: v[i + 2] for i in range(2, 2 + 3 * v[0], 3)}


def msrs_to_bytes(msrs: Mapping[int, int]) -> bytearray:
    """``{index: value}``. Raises RegisterError for a value that does not fit."""
    table = bytearray(abi.MSRS.whole.pack(len(msrs)))
    for index, value in msrs.items():
        table += _pack(abi.MSR_ENTRY, (index, 0, value), f"MSR {index:#x}")
    return table


def msrs_from_bytes(data: bytes | bytearray) -> dict[int, int]:
    return {index: value for index, _, value in abi.MSR_ENTRY.whole.iter_unpack(data[abi.MSRS.size :])}


def cpuid_to_bytes(entries: Iterable[CpuidEntry]) -> bytearray:
    """Raises RegisterError for a value that does not fit."""
    body = b"".join(_pack(abi.CPUID_ENTRY2, msgspec.structs.astuple(e), "cpuid") for e in entries)
    return bytearray(abi.CPUID2.whole.pack(len(body) // abi.CPUID_ENTRY2.size) + body)


def cpuid_from_bytes(data: bytes | bytearray) -> tuple[CpuidEntry, ...]:
    (nent,) = abi.CPUID2.whole.unpack_from(data)
    return _cpuid(bytes(data[abi.CPUID2.size : abi.CPUID2.size + nent * abi.CPUID_ENTRY2.size]))


@lru_cache(maxsize=8)  # a hundred entries, and nearly always those that KVM supports
def _cpuid(body: bytes) -> tuple[CpuidEntry, ...]:
    return tuple(CpuidEntry(*values) for values in abi.CPUID_ENTRY2.whole.iter_unpack(body))


def _pack(structure: abi.Structure, values: Iterable[object], what: str = "") -> bytes:
    values = tuple(values)
    try:
        return structure.whole.pack(*values)
    except struct.error:
        raise _misfit(structure, values, what) from None


def _misfit(structure: abi.Structure, values: tuple[object, ...], what: str) -> RegisterError:
    """Say which one of the values it was."""
    names = [(f.name, f) for f in structure.fields for _ in range(1 if f.size == 1 else f.length)]
    for (name, field), value in zip(names, values, strict=False):
        bits = 8 * field.size
        if isinstance(value, bytes):
            continue
        if not (isinstance(value, int) and 0 <= value < 1 << bits):
            return RegisterError(f"{what} {name}".strip(), value, bits)
    return RegisterError(what or structure.name, values, 0)
