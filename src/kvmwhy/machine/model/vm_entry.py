"""The checks that VM entry makes on the guest's state, and what the failure is called.

VMX: SDM vol. 3C, 27.3.1, as far as userspace can set such a state; each was met on kvm-intel 5.10 to
7.3 with unrestricted_guest=1. SVM: APM vol. 2, 15.5.1, canonicalization and consistency checks.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.context import Settings
from kvmwhy.machine.model.events import EXTERNAL, HARDWARE, NON_MASKABLE, SOFTWARE, Event
from kvmwhy.machine.model.exit_info import BAD_CONTROL, INVALID_STATE
from kvmwhy.machine.model.sregs_check import EFER_DEFINED
from kvmwhy.machine.model.traps import BP, NMI, OF, WITH_ERROR_CODE
from kvmwhy.machine.model.unicorn_state import CS, DS, ES, FS, GDT, GS, IDT, LDT, SS, TR, Env

_PRESENT, _S, _LONG, _BIG, _G = 1 << 15, 1 << 12, 1 << 21, 1 << 22, 1 << 23
_LMA, _LME = 1 << 10, 1 << 8


class Shadow(NamedTuple):
    """Interrupts are held off for one instruction: after STI, or after a load of SS."""

    sti: bool
    mov_ss: bool


def refusal(settings: Settings, env: Env, event: Event | None, shadow: Shadow) -> int | None:
    """The hardware_entry_failure_reason, or None if the guest may run."""
    if settings.vendor == "vmx":
        if event is not None and _bad_injection(event, bool(env.cr[0] & 1)):
            return BAD_CONTROL
        return INVALID_STATE if _vmx_invalid(env, event, shadow) else None
    if settings.vendor == "svm" and (_svm_invalid(env) or (event is not None and _svm_bad_event(event))):
        # VMEXIT_INVALID is -1, of which QEMU writes 32 bits.
        wide = settings.kernel.wide_svm_codes and settings.bench != "tcg"
        return 0xFFFF_FFFF_FFFF_FFFF if wide else 0xFFFF_FFFF
    return None


def _bad_injection(event: Event, protected: bool) -> bool:
    """SDM vol. 3C, 27.2.1.3: type, error code and instruction length must go together."""
    if event.type == SOFTWARE or (event.type == HARDWARE and event.vector in {BP, OF}):
        return event.length == 0  # KVM injects these as software events, and knows no length
    if event.type == HARDWARE:
        wants = event.vector in WITH_ERROR_CODE and protected
        return event.vector > 31 or event.vector == NMI or wants != (event.error_code is not None and protected)
    return False


def _svm_bad_event(event: Event) -> bool:
    """APM vol. 2, 15.20: an exception's vector must be one, and NMI is none."""
    return event.type == HARDWARE and (event.vector > 31 or event.vector == NMI)


def _canonical(address: int) -> bool:
    return address >> 47 in (0, 0x1FFFF)


def _vmx_invalid(env: Env, event: Event | None, shadow: Shadow) -> bool:
    long = bool(env.efer & _LMA)
    flags = env.eflags
    vm = bool(flags & state.VM)
    cs = env.segs[CS]
    if vm and (long or not env.cr[0] & 1):
        return True
    if (env.cr[0] & 1 << 31 and not env.cr[0] & 1) or env.cr[0] >> 32 or env.efer & ~EFER_DEFINED:
        return True
    if flags >> 22 or flags & (1 << 15 | 1 << 5 | 1 << 3):
        return True
    if not (long and cs.flags & _LONG) and env.eip >> 32:
        return True
    if shadow.sti and not flags & state.IF:
        return True
    if event is not None:
        if event.type == EXTERNAL and (not flags & state.IF or any(shadow)):
            return True
        if event.type == NON_MASKABLE and any(shadow):
            return True
    if vm:
        return any(_vm86_segment(env.segs[n]) for n in (CS, SS, DS, ES, FS, GS)) or _tables(env)
    return _code(env, long) or _stack(env) or any(_data(env, n) for n in (DS, ES, FS, GS)) or _tables(env)


def _vm86_segment(segment: state.SegmentCache) -> bool:
    return segment.base != segment.selector << 4 or segment.limit != 0xFFFF or segment.flags & 0xFFFF != 0xF300


def _granularity(segment: state.SegmentCache) -> bool:
    low, high = segment.limit & 0xFFF, segment.limit >> 20
    return (low != 0xFFF and bool(segment.flags & _G)) or (bool(high) and not segment.flags & _G)


def _code(env: Env, long: bool) -> bool:
    cs = env.segs[CS]
    kind, dpl = cs.flags >> 8 & 15, cs.flags >> 13 & 3
    if cs.flags & _LONG and cs.flags & _BIG and long:
        return True
    if not cs.flags & _PRESENT or not cs.flags & _S or cs.base >> 32 or _granularity(cs):
        return True
    ss_dpl = env.segs[SS].flags >> 13 & 3
    if kind == 3:  # a data segment as code: only with unrestricted guest, only at DPL 0
        return dpl != 0
    if kind in (9, 11):
        return bool(env.cr[0] & 1) and dpl != ss_dpl
    return kind not in (13, 15) or (bool(env.cr[0] & 1) and dpl > ss_dpl)


def _usable(segment: state.SegmentCache) -> bool:
    """KVM tells VMX that an absent segment is unusable (vmx_segment_access_rights)."""
    return bool(segment.flags & _PRESENT)


def _stack(env: Env) -> bool:
    ss = env.segs[SS]
    if not _usable(ss):
        return False
    wrong = ss.flags >> 8 & 15 not in (3, 7) or not ss.flags & _S
    return wrong or bool(ss.base >> 32) or _granularity(ss)


def _data(env: Env, number: int) -> bool:
    segment = env.segs[number]
    if number in (FS, GS) and not _canonical(segment.base):
        return True
    if not _usable(segment):
        return False
    kind = segment.flags >> 8 & 15
    if not kind & 1 or (kind & 8 and not kind & 2) or not segment.flags & _S:
        return True
    return (number in (DS, ES) and bool(segment.base >> 32)) or _granularity(segment)


def _tables(env: Env) -> bool:
    task, ldt = env.segs[TR], env.segs[LDT]
    kind = task.flags >> 8 & 15
    if not _usable(task) or task.flags & _S or task.selector & 4:
        return True
    if kind != 11 and (kind != 3 or env.efer & _LMA):
        return True
    if not _canonical(task.base) or _granularity(task):
        return True
    if _usable(ldt) and (ldt.flags >> 8 & 15 != 2 or ldt.flags & _S):
        return True
    if _usable(ldt) and (not _canonical(ldt.base) or _granularity(ldt)):
        return True
    return any(not _canonical(env.segs[n].base) or env.segs[n].limit >> 16 for n in (GDT, IDT))


def _svm_invalid(env: Env) -> bool:
    cr0, cr4 = env.cr[0], env.cr[4]
    # CR0.NW without CD is no matter: KVM clears both (KVM_X86_QUIRK_CD_NW_CLEARED).
    if cr0 >> 32 or env.efer & ~EFER_DEFINED:
        return True
    if env.dr[6] >> 32 or env.dr[7] >> 32:
        return True
    if env.efer & _LME and cr0 & 1 << 31:
        cs = env.segs[CS].flags
        return not cr4 & 1 << 5 or not cr0 & 1 or bool(cr4 & 1 << 5 and cs & _LONG and cs & _BIG)
    return False
