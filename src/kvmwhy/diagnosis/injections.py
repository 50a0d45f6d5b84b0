"""Exceptions in a trace: which of them KVM made itself, and which it only passed on to the guest that raised them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from kvmwhy.abi.x86.exceptions import MNEMONICS
from kvmwhy.record import At, Event

_VMX_EXCEPTION: Final = 0  # EXIT_REASON_EXCEPTION_NMI
_SVM_EXCEPTION: Final = 0x40  # SVM_EXIT_EXCP_BASE: one exit code for each vector
_SVM: Final = 2
_VALID: Final = 1 << 31
_UD, _PF = 6, 14
_NPF, _NPF_TABLES = 0x400, 1 << 33
_EPT_VIOLATION, _EPT_LINEAR, _EPT_TABLES = 48, 3 << 7, 1 << 7
_UNDEFINED: Final = ("0f0b", "0fb9", "0fff")  # ud2, ud1, ud0


class Injection(Struct, frozen=True):
    """An exception that KVM put into the guest. ``passed_on``: the guest had raised it, and KVM intercepts it.

    ``walk``: for the CPU's own walk of the guest's page tables, which had met what is no RAM. ``is_known``: the exit
    before it is shown, without which nobody can tell.
    """

    vector: int
    passed_on: bool
    at: At
    walk: bool = False
    is_known: bool = True

    @property
    def name(self) -> str:
        return MNEMONICS.get(self.vector, f"exception {self.vector}")


def injections(trace: tuple[Event, ...]) -> Iterator[Injection]:
    """Each once: what KVM had to inject again (``[reinjected]``) is the same."""
    exit_: Event | None = None
    undefined = False  # what was emulated last is there to raise #UD
    for index, event in enumerate(trace):
        if event.name == "kvm_exit":
            exit_ = event
        elif event.name == "kvm_emulate_insn":
            undefined = str(event.fields.get("insn", "")).replace(" ", "").startswith(_UNDEFINED)
        elif event.name == "kvm_inj_exception" and not event.fields.get("reinjected"):
            vector = event.fields.get("exception", event.fields.get("nr"))
            if isinstance(vector, int):
                own = (undefined and vector == _UD) or _raised(exit_, vector)
                walk = vector == _PF and _walked(exit_)
                yield Injection(vector, own, At(event=index), walk, is_known=own or exit_ is not None)


def in_delivery(event: Event) -> int | None:
    """The vector whose delivery an exit interrupted, as ``kvm_exit`` has it: EXITINTINFO, or IDT-vectoring."""
    word = event.fields.get("intr_info" if event.fields.get("isa") == _SVM else "info2")
    return word & 0xFF if isinstance(word, int) and word & _VALID else None


def _walked(exit_: Event | None) -> bool:
    """The exit was an access to the guest's page tables: EXITINFO1 bit 33, or a qualification with bit 7 and not 8."""
    if exit_ is None:
        return False
    reason, info = exit_.fields.get("exit_reason"), exit_.fields.get("info1")
    if not isinstance(info, int):
        return False
    if exit_.fields.get("isa") == _SVM:
        return reason == _NPF and bool(info & _NPF_TABLES)
    return reason == _EPT_VIOLATION and info & _EPT_LINEAR == _EPT_TABLES


def _raised(exit_: Event | None, vector: int) -> bool:
    """KVM intercepts #UD, #DB, #BP and others, and hands most of them back."""
    if exit_ is None:
        return False
    reason = exit_.fields.get("exit_reason", exit_.fields.get("reason"))
    if exit_.fields.get("isa") == _SVM:
        return reason == _SVM_EXCEPTION + vector
    word = exit_.fields.get("intr_info")
    return reason == _VMX_EXCEPTION and (not isinstance(word, int) or word & 0xFF == vector)
