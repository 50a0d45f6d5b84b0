"""States at the edge of what a CPU enters a guest with: broken in one way each, or odd but legal.

Each says which rule of VM entry it breaks on each vendor's CPUs (ids of kvmwhy.arch.x86.vm_entry), or none.
entry_run.py runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from kvmwhy.machine.x86.state import Events, Segment, replace
from kvmwhy.record import Cpu
from kvmwhy.record import Segment as Seen
from lab import layout
from lab.cases import Case, Mode
from lab.catalogue import Guest

_NONCANONICAL: Final = 1 << 63
_HIGH: Final = 1 << 32
_RPL3: Final = 3
_TI: Final = 4
_MODES: Final[tuple[Mode, ...]] = ("real16", "prot16", "prot32", "compat32", "long64")
_DATA: Final = ("es", "ss", "ds", "fs", "gs")


class State(NamedTuple):
    """A guest, and the rule of VM entry that it breaks: ``None`` where it breaks none of that vendor's."""

    case: Case
    vmx: str | None
    svm: str | None = None


def _state(
    name: str,
    mode: Mode = "long64",
    cpl: int = 0,
    *,
    vmx: str | None = None,
    svm: str | None = None,
    segments: dict[str, dict[str, int]] | None = None,
    events: Events | None = None,
    **values: Any,
) -> State:
    """Change the usual guest of that mode: fields of segments, or registers of kvm_regs and kvm_sregs."""
    guest = Guest(mode, cpl)
    guest.code(b"\x90")
    for segment, fields in (segments or {}).items():
        guest.change(segment, **fields)
    for key, value in values.items():
        if hasattr(guest.regs, key):
            guest.set(**{key: value})
        else:
            guest.set_sregs(**{key: value})
    guest.events = events
    # A full stop, so that no id is the beginning of another: replay chooses by prefix.
    return State(guest.case("state", f"{name}.", name.replace("-", " ")), vmx, svm)


def _segment(name: str, rule: str | None, segment: str, mode: Mode = "long64", cpl: int = 0, **fields: int) -> State:
    return _state(name, mode, cpl, vmx=rule, segments={segment: fields})


# -- broken in one way ---------------------------------------------------------------------------------


def _code_segment() -> Iterator[State]:
    yield _state("cs-l-d", vmx="cs-l-d", svm="svm-cs-l-d", segments={"cs": {"db": 1}})
    yield _segment("cs-type-1", "cs-type", "cs", type=1)
    yield _segment("cs-type-5", "cs-type", "cs", "compat32", type=5)
    yield _segment("cs-type-7", "cs-type", "cs", type=7)
    yield _segment("cs-data-dpl3", "cs-dpl", "cs", type=3, dpl=3)
    yield _segment("cs-dpl3", "cs-dpl", "cs", dpl=3)
    yield _segment("cs-conforming-dpl3", "cs-dpl", "cs", type=15, dpl=3)
    yield _segment("cs-system", "segment-s", "cs", s=0)
    yield _segment("cs-absent", "segment-present", "cs", present=0)
    yield _segment("cs-base-high", "segment-base", "cs", base=_HIGH)
    yield _segment("cs-limit-g", "segment-granularity", "cs", limit=0xFFFFF000)
    yield _segment("cs-limit-no-g", "segment-granularity", "cs", "prot32", g=0)


def _data_segments() -> Iterator[State]:
    yield _segment("ss-code", "ss-type", "ss", type=11)
    yield _segment("ss-type-1", "ss-type", "ss", type=1)
    yield _segment("ss-type-5", "ss-type", "ss", "prot32", type=5)
    yield _segment("ss-dpl3-real", "ss-dpl", "ss", "real16", dpl=3)
    yield _state("ss-dpl3-cs-data", "prot32", vmx="ss-dpl", segments={"cs": {"type": 3}, "ss": {"dpl": 3}})
    for name in _DATA:
        yield _segment(f"{name}-system", "segment-s", name, s=0)
        yield _segment(f"{name}-limit-no-g", "segment-granularity", name, "prot32", g=0)
    for name in ("es", "ds", "fs", "gs"):
        yield _segment(f"{name}-type-9", "data-type", name, type=9)
    yield _segment("ds-limit-g", "segment-granularity", "ds", "prot32", limit=0xFFFFF000)
    yield _segment("ss-limit-g", "segment-granularity", "ss", limit=0x12345678)
    for name in ("es", "ss", "ds"):
        yield _segment(f"{name}-base-high", "segment-base", name, base=_HIGH)
    for name in ("fs", "gs"):
        yield _segment(f"{name}-noncanonical", "base-canonical", name, base=_NONCANONICAL)
        yield _segment(f"{name}-noncanonical-low", "base-canonical", name, base=1 << 62)


def _system_segments() -> Iterator[State]:
    yield _segment("tr-unusable", "tr-usable", "tr", unusable=1)
    yield _segment("tr-available", "tr-type", "tr", type=9)
    yield _segment("tr-tss16", "tr-type", "tr", type=3)
    yield _segment("tr-no-system", "segment-s", "tr", s=1)
    yield _segment("tr-absent", "tr-usable", "tr", present=0)
    yield _segment("tr-ti", "tr-ti", "tr", selector=layout.TASK | _TI)
    yield _segment("tr-noncanonical", "base-canonical", "tr", base=_NONCANONICAL)
    yield _segment("tr-limit-g", "segment-granularity", "tr", g=1)
    yield _segment("tr-limit-no-g", "segment-granularity", "tr", limit=0x100067)
    ldt = {"selector": 0x30, "type": 2, "present": 1, "unusable": 0, "limit": 0xFF}
    for name, rule, more in (
        ("ldtr-type", "ldtr-type", {"type": 3}),
        ("ldtr-no-system", "segment-s", {"s": 1}),
        ("ldtr-ti", "ldtr-ti", {"selector": 0x34}),
        ("ldtr-noncanonical", "base-canonical", {"base": _NONCANONICAL}),
        ("ldtr-limit-g", "segment-granularity", {"g": 1}),
    ):
        yield _state(name, vmx=rule, segments={"ldt": {**ldt, **more}})
    yield _segment("gdtr-noncanonical", "gdtr-canonical", "gdt", base=_NONCANONICAL)
    yield _segment("idtr-noncanonical", "idtr-canonical", "idt", base=_NONCANONICAL)


def _registers() -> Iterator[State]:
    for bit in (3, 5, 15, 22, 31, 32, 63):
        yield _state(f"rflags-{bit}", vmx="rflags-reserved", rflags=2 | 1 << bit)
    yield _state("rflags-vm-long", vmx="rflags-vm", rflags=0x20002)
    yield _state("rflags-vm-compat", "compat32", vmx="rflags-vm", rflags=0x20002)
    yield _state("rip-high", "prot32", vmx="rip-high", rip=_HIGH | layout.ENTRY)
    yield _state("rip-high-compat", "compat32", vmx="rip-high", rip=_HIGH | layout.ENTRY)
    yield _state("rip-high-prot16", "prot16", vmx="rip-high", rip=_HIGH | layout.ENTRY)
    yield _state("pcide-no-long", "prot32", vmx="cr4-pcide", cr4=layout.sregs("prot32").cr4 | 1 << 17)


def _control_registers() -> Iterator[State]:
    """KVM lets these through up to 5.10, and EFER's up to 6.1; newer kernels refuse them in KVM_SET_SREGS."""
    for mode in _MODES:
        for bit in (32, 63):
            cr0 = layout.sregs(mode).cr0 | 1 << bit
            yield _state(f"cr0-{bit}-{mode}", mode, vmx="cr0-high", svm="svm-cr0-high", cr0=cr0)
        for bit in (9, 22, 63):
            efer = layout.sregs(mode).efer | 1 << bit
            yield _state(f"efer-{bit}-{mode}", mode, vmx="efer-reserved", svm="svm-efer-reserved", efer=efer)
    yield _state("cr0-pg-no-pe", "prot32", vmx="cr0-pg-pe", cr0=1 << 31 | layout.CR0_ET)


def _vm86() -> Iterator[State]:
    """Virtual-8086 mode wants each segment exactly so (SDM 3C 27.3.1.2)."""
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        yield _virtual8086(f"vm86-{name}-base", "vm86-base", name, base=0x12345)
        yield _virtual8086(f"vm86-{name}-limit", "vm86-limit", name, limit=0xFFFFF)
    yield _virtual8086("vm86-cs-code", "vm86-access", "cs", type=11)
    yield _virtual8086("vm86-ss-dpl0", "vm86-access", "ss", dpl=0)
    yield _virtual8086("vm86-ds-g", "vm86-access", "ds", g=1)


def _virtual8086(name: str, rule: str | None, segment: str = "", **fields: int) -> State:
    flat = {"type": 3, "present": 1, "dpl": 3, "s": 1, "g": 0, "db": 0, "l": 0, "limit": 0xFFFF}
    segments = {key: {**flat, "selector": 0, "base": 0} for key in _DATA}
    segments["cs"] = {**flat, "selector": layout.CODE >> 4, "base": layout.CODE}
    if segment:
        segments[segment].update(fields)
    entry = layout.ENTRY - layout.CODE
    return _state(name, "prot32", vmx=rule, segments=segments, rflags=0x23002, rip=entry)


def _events() -> Iterator[State]:
    """Given with KVM_SET_VCPU_EVENTS: what is being injected, and what blocks it."""
    sti, mov_ss, shadow = 2, 1, 1 << 2  # KVM_X86_SHADOW_INT_STI, _MOV_SS, KVM_VCPUEVENT_VALID_SHADOW
    on = 0x202
    irq = Events(interrupt_injected=1, interrupt_nr=0x20)
    nmi = Events(nmi_injected=1)

    def under(events: Events, blocking: int) -> Events:
        return replace(events, interrupt_shadow=blocking, flags=shadow)

    yield _state("irq-if0", vmx="rflags-if", events=irq)
    yield _state("irq-sti", vmx="irq-blocked", events=under(irq, sti), rflags=on)
    yield _state("irq-movss", vmx="irq-blocked", events=under(irq, mov_ss), rflags=on)
    yield _state("nmi-movss", vmx="nmi-blocked", events=under(nmi, mov_ss))
    yield _state("sti-if0", vmx="sti-if", events=under(Events(), sti))
    yield _state("soft-int", vmx="inject-length", events=replace(irq, interrupt_soft=1))

    def exception(number: int, code: int | None = None) -> Events:
        has = code is not None
        return Events(
            exception_injected=1,
            exception_nr=number,
            exception_has_error_code=int(has),
            exception_error_code=code or 0,
        )

    yield _state("bp", vmx="inject-length", events=exception(3))
    yield _state("of", vmx="inject-length", events=exception(4))
    yield _state("ud-code", vmx="inject-error-code", events=exception(6, 0))
    yield _state("db-code", vmx="inject-error-code", events=exception(1, 0))
    yield _state("gp-no-code", vmx="inject-error-code", events=exception(13))
    yield _state("pf-no-code", vmx="inject-error-code", events=exception(14))
    yield _state("df-no-code", vmx="inject-error-code", events=exception(8))

    yield _state("legal-irq", events=irq, rflags=on)
    yield _state("legal-irq-real", "real16", events=irq, rflags=on)
    yield _state("legal-nmi", events=nmi)
    yield _state("legal-nmi-only-masked", events=Events(nmi_masked=1))
    yield _state("legal-sti", events=under(Events(), sti), rflags=on)
    yield _state("legal-movss", events=under(Events(), mov_ss))
    yield _state("legal-movss-if", events=under(Events(), mov_ss), rflags=on)
    yield _state("legal-gp", events=exception(13, 0x18))
    yield _state("legal-pf", events=exception(14, 0x15))
    yield _state("legal-ac", events=exception(17, 0))
    yield _state("legal-ud", events=exception(6))
    yield _state("legal-mc", events=exception(18))
    for mode in _MODES:
        yield _state(f"vector-31-{mode}", mode, svm="svm-event-vector", events=exception(31))
    yield _state("legal-gp-real", "real16", events=exception(13))


# -- odd, and legal ------------------------------------------------------------------------------------


def _legal_segments() -> Iterator[State]:
    yield _segment("legal-cs-type-9", None, "cs", type=9)
    yield _segment("legal-cs-conforming", None, "cs", type=13)
    yield _segment("legal-cs-conforming-15", None, "cs", "prot32", type=15)
    yield _segment("legal-cs-data", None, "cs", "prot32", type=3)
    yield _segment("legal-cs-base", None, "cs", base=0x12345678)
    yield _segment("legal-cs-avl", None, "cs", avl=1)
    yield _segment("legal-cs-limit-0", None, "cs", limit=0, g=0)
    yield _segment("legal-cs-selector-0", None, "cs", selector=0)
    yield _segment("legal-ss-expand-down", None, "ss", type=7)
    yield _segment("legal-ss-unusable", None, "ss", unusable=1)
    yield _segment("legal-ss-absent", None, "ss", present=0)
    yield _segment("legal-ss-rpl3", None, "ss", "prot32", selector=layout.DATA_SEL | _RPL3)
    yield _segment("legal-ss-16-bit", None, "ss", "prot32", db=0)
    yield _segment("legal-ds-read-only", None, "ds", type=1)
    yield _segment("legal-ds-expand-down", None, "ds", type=5)
    yield _segment("legal-ds-code", None, "ds", type=11)
    yield _segment("legal-ds-conforming", None, "ds", "prot32", type=15)
    yield _segment("legal-ds-unusable", None, "ds", unusable=1)
    yield _segment("legal-ds-unusable-rubbish", None, "ds", unusable=1, s=0, type=0, base=_HIGH, limit=1)
    yield _segment("legal-ds-dpl0-rpl3", None, "ds", "prot32", selector=layout.DATA_SEL | _RPL3)
    yield _segment("legal-ds-l", None, "ds", l=1)
    yield _segment("legal-ds-limit", None, "ds", "prot32", limit=0x12345, g=0)
    yield _segment("legal-es-ti", None, "es", selector=0x14)
    yield _segment("legal-fs-high", None, "fs", base=0xFFFF_8880_0000_0000)
    yield _segment("legal-gs-high", None, "gs", base=0x7FFF_FFFF_F000)
    everything = {"unusable": 1}
    yield _state("legal-all-unusable", segments=dict.fromkeys(_DATA, everything))
    yield _segment("legal-ldtr", None, "ldt", selector=0x30, type=2, present=1, unusable=0, limit=0xFF)
    yield _segment("legal-ldtr-absent", None, "ldt", selector=0x34, type=3, present=0, unusable=0)
    yield _segment("legal-tr-tss16", None, "tr", "prot32", type=3)
    yield _segment("legal-tr-rpl3", None, "tr", selector=layout.TASK | _RPL3)
    yield _segment("legal-tr-selector-0", None, "tr", selector=0)
    yield _segment("legal-tr-page", None, "tr", limit=0xFFF, g=1)
    yield _segment("legal-tr-high", None, "tr", base=0xFFFF_FFFF_8000_0000)
    yield _segment("legal-gdtr-high", None, "gdt", base=0xFFFF_FFFF_8000_0000)
    yield _segment("legal-gdtr-empty", None, "gdt", base=0, limit=0)
    yield _segment("legal-idtr-empty", None, "idt", base=0, limit=0)
    yield _segment("legal-unreal", None, "ds", "real16", limit=0xFFFFFFFF, g=1)
    yield _segment("legal-real-base", None, "ds", "real16", base=0x50000, selector=0x1234)
    yield _segment("legal-real-cs-data", None, "cs", "real16", type=3)
    yield _segment("legal-real-cs-d", None, "cs", "real16", db=1)
    yield _segment("legal-real-cs-high", None, "cs", "real16", base=0xFFFF0000, selector=0xF000)


def _mended() -> Iterator[State]:
    """Broken as given, but KVM loads something else: the accessed bit, one blocking of two, no error code.

    The accessed bit only with unrestricted guest (vmx_set_segment); where it cannot be, the rest is as well.
    """
    for name, kind in (("cs", 2), ("cs", 8), ("cs", 10), ("cs", 14), ("ss", 2), ("ss", 6), ("tr", 2)):
        yield _segment(f"mended-{name}-type-{kind}", None, name, "prot32", type=kind)
    for name in ("es", "ds", "fs", "gs"):
        for kind in (0, 2, 4, 10):
            yield _segment(f"mended-{name}-type-{kind}", None, name, type=kind)
    both = Events(interrupt_shadow=3, flags=1 << 2)
    yield _state("mended-sti-movss", events=both, rflags=0x202)
    code = Events(exception_injected=1, exception_nr=13, exception_has_error_code=1)
    yield _state("mended-gp-code-real", "real16", events=code)


def _bench_only() -> Iterator[State]:
    """Where Bochs and the manual differ: it sets CS.DPL against CS.RPL, the manual against SS.DPL."""
    yield _segment("bochs-ss-dpl3", None, "ss", "prot32", dpl=3)
    yield _segment("bochs-cs-rpl3", None, "cs", selector=layout.CODE64 | _RPL3)
    yield _state("bochs-nmi-masked", events=Events(nmi_injected=1, nmi_masked=1))
    code = Events(exception_injected=1, exception_nr=13, exception_has_error_code=1, exception_error_code=1 << 28)
    yield _state("bochs-gp-code-high", events=code)
    yield _state("bochs-rip-noncanonical", rip=_NONCANONICAL)
    blocked = Events(interrupt_shadow=1, flags=1 << 2)
    yield _state("bochs-movss-tf", events=blocked, rflags=0x102)
    blocked = Events(nmi_injected=1, interrupt_shadow=2, flags=1 << 2)
    yield _state("bochs-nmi-sti", events=blocked, rflags=0x202)


def _legal_registers() -> Iterator[State]:
    for mode in _MODES:
        yield _state(f"legal-{mode}", mode)
        yield _state(f"legal-{mode}-rflags", mode, rflags=0x254ED7)  # ID, AC, NT, RF clear, VIF, VIP clear, IOPL 0
    yield _state("legal-long64-cpl3", cpl=3)
    yield _state("legal-prot32-cpl3", "prot32", 3)
    yield _state("legal-compat32-cpl3", "compat32", 3)
    for level in (1, 2):
        code = {"dpl": level, "selector": layout.CODE32 | level}
        stack = {"dpl": level, "selector": layout.DATA_SEL | level}
        yield _state(f"legal-cpl{level}", "prot32", segments={"cs": code, "ss": stack})
    yield _virtual8086("legal-vm86", None)
    yield _state("legal-rflags-0", rflags=0)  # KVM sets bit 1
    yield _state("legal-rflags-tf", rflags=0x102)
    yield _state("legal-rflags-vif-vip", rflags=0x180002)
    yield _state("legal-rflags-rf-iopl", rflags=0x13002)
    base0, base4 = layout.sregs("long64").cr0, layout.sregs("long64").cr4
    yield _state("legal-cr0-cd", cr0=base0 | 1 << 30)
    yield _state("legal-cr0-cd-nw", cr0=base0 | 3 << 29)
    yield _state("legal-cr0-wp-am-em-ts", cr0=base0 | 1 << 16 | 1 << 18 | 1 << 2 | 1 << 3)
    yield _state("legal-cr0-no-ne", cr0=base0 & ~(1 << 5))
    yield _state("legal-cr4-many", cr4=base4 | 0x9F)  # VME, PVI, TSD, DE, PSE, PGE
    yield _state("legal-cr4-smep", cr4=base4 | 1 << 20)
    yield _state("legal-cr4-pcide", cr4=base4 | 1 << 17)
    yield _state("legal-cr4-mce-pce", cr4=base4 | 1 << 6 | 1 << 8)
    yield _state("legal-cr3-low-bits", cr3=layout.PML4 | 0x18)
    yield _state("legal-cr3-hole", cr3=layout.HOLE)
    yield _state("legal-efer-nx-sce", efer=0xD01)
    yield _state("legal-rsp-noncanonical", rsp=_NONCANONICAL)
    yield _state("legal-rip-high-half", rip=0xFFFF_FFFF_8000_0000)
    prot = layout.sregs("prot32").cr0
    yield _state("legal-paging32", "prot32", cr0=prot | 1 << 31, cr3=layout.PML4)
    yield _state("legal-paging-pae", "prot32", cr0=prot | 1 << 31, cr3=layout.PML4, cr4=base4)


@cache
def states() -> tuple[State, ...]:
    """All of them, in the order in which they run."""
    parts = (_code_segment, _data_segments, _system_segments, _registers, _control_registers, _vm86, _events)
    odd = (_legal_segments, _legal_registers, _mended, _bench_only)
    return tuple(state for part in (*parts, *odd) for state in part())


# -- what a VMM would print of it ----------------------------------------------------------------------


def cpu_of(case: Case) -> Cpu:
    """The registers of a case, as a VMM's dump has them: no interruptibility, nothing of an injected event."""
    sregs, regs = case.sregs, case.regs
    registers = {name: getattr(sregs, name) for name in ("cr0", "cr2", "cr3", "cr4", "efer")}
    registers |= {name: getattr(regs, name) for name in regs.__struct_fields__}
    registers["rflags"] |= 2
    segments = {name: _seen(getattr(sregs, name)) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")}
    segments |= {name: Seen(0, getattr(sregs, name).base, getattr(sregs, name).limit, 0) for name in ("gdt", "idt")}
    return Cpu(registers=registers, segments=segments)


def _seen(segment: Segment) -> Seen:
    present = segment.present and not segment.unusable
    low = segment.type | segment.s << 4 | segment.dpl << 5 | present << 7
    high = segment.avl | segment.l << 1 | segment.db << 2 | segment.g << 3
    return Seen(segment.selector, segment.base, segment.limit, low << 8 | high << 20)
