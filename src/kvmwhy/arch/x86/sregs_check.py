"""The rules by which KVM itself accepts or refuses the special registers of KVM_SET_SREGS and KVM_SET_SREGS2.

Linux arch/x86/kvm/x86.c: kvm_is_valid_sregs (kvm_valid_sregs from 4.16 on), kvm_is_valid_cr0 (asked since 6.5),
__kvm_is_valid_cr4. A VM that KVM runs can be in a state that KVM_SET_SREGS refuses: outside long mode the CPU loads a
code descriptor with L=1 without complaint, and KVM refuses it when the VMM writes the registers back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from kvmwhy.record import Cpu

_PE: Final = 1 << 0
_PG: Final = 1 << 31
_NW: Final = 1 << 29
_CD: Final = 1 << 30
_PAE: Final = 1 << 5
_LME: Final = 1 << 8
_LMA: Final = 1 << 10
# CR4 bits that no processor has: 15, 19 (KL is 19, which KVM never gives), 26 to 31 and 33 to 63 (CR4_RESERVED_BITS).
_CR4_RESERVED: Final = 1 << 15 | 0x3F << 26 | (1 << 64) - (1 << 33)
# Bits of CR4 that KVM takes only if the guest's CPUID has the feature (__cr4_reserved_bits, kvm_vcpu_after_set_cpuid).
CR4_FEATURES: Final = {
    11: ("UMIP", "umip"), 12: ("LA57", "la57"), 13: ("VMXE", "vmx"),
    16: ("FSGSBASE", "fsgsbase"), 17: ("PCIDE", "pcid"),
    18: ("OSXSAVE", "xsave"), 20: ("SMEP", "smep"), 21: ("SMAP", "smap"),
    22: ("PKE", "pku"), 23: ("CET", "shstk"), 28: ("LAM_SUP", "lam"),
}  # fmt: skip
EFER_FEATURES: Final = {
    0: ("SCE", "syscall"), 8: ("LME", "lm"), 10: ("LMA", "lm"), 11: ("NXE", "nx"), 12: ("SVME", "svm"),
    14: ("FFXSR", "fxsr-opt"), 21: ("AIBRSE", "auto-ibrs"),
}  # fmt: skip


class Violation(NamedTuple):
    """A rule that the registers break, as far as they are shown."""

    rule: str  # a slug
    text: str
    registers: tuple[str, ...]


class _State(NamedTuple):
    cr0: int | None
    cr3: int | None
    cr4: int | None
    efer: int | None
    cs_long: bool | None
    narrow: bool  # QEMU printed 32-bit names, as it does unless LMA and CS.L are both set


def check_sregs(cpu: Cpu) -> tuple[Violation, ...]:
    """Every rule that is broken for certain; one whose registers are not shown says nothing."""
    cs = cpu.segments.get("cs")
    long = cs.long if cs else None
    state = _State(
        cpu.get("cr0"), cpu.get("cr3"), cpu.get("cr4"), cpu.get("efer"), long, narrow=cpu.wide is False
    )  # fmt: skip
    return tuple(refusal for rule in _RULES if (refusal := rule(state)) is not None)


def bits_by_feature(cpu: Cpu) -> tuple[tuple[str, str, str], ...]:
    """(register, bit, CPU feature) of each set bit that KVM takes only with that feature in the guest's CPUID."""
    out = []
    for register, table in (("cr4", CR4_FEATURES), ("efer", EFER_FEATURES)):
        value = cpu.get(register) or 0
        out += [(register, name, feature) for bit, (name, feature) in table.items() if value >> bit & 1]
    return tuple(out)


def _in_long_mode(s: _State) -> bool | None:
    """EFER.LME and CR0.PG: what kvm_is_valid_sregs goes by. ``None``: not shown."""
    if s.efer is not None and not s.efer & _LME:
        return False
    if s.cr0 is not None and not s.cr0 & _PG:
        return False
    if s.efer is None and s.cs_long and s.narrow:
        return False  # with EFER.LMA the registers had been printed wide
    return None if s.efer is None or s.cr0 is None else True


def _outside(s: _State) -> str:
    if s.efer is not None:
        return "CR0.PG is clear" if s.efer & _LME else "EFER.LME is clear"
    return "CR0.PG is clear" if s.cr0 is not None and not s.cr0 & _PG else "the registers are printed with 32 bits"


def _code_long(s: _State) -> Violation | None:
    """Outside long mode the code segment cannot be a 64-bit one."""
    if not s.cs_long or _in_long_mode(s) is not False:
        return None
    return Violation(
        "sregs-cs-l", f"CS is a 64-bit code segment (L=1) outside long mode: {_outside(s)}", ("cs", "efer", "cr0")
    )  # fmt: skip


def _lma_set(s: _State) -> Violation | None:
    if s.efer is None or not s.efer & _LMA or _in_long_mode(s) is not False:
        return None
    return Violation("sregs-lma-set", f"EFER.LMA is set outside long mode: {_outside(s)}", ("efer", "cr0"))


def _lma_clear(s: _State) -> Violation | None:
    if s.efer is None or s.efer & _LMA or not _in_long_mode(s):
        return None
    return Violation("sregs-lma-clear", "EFER.LME and CR0.PG are set, and EFER.LMA is clear", ("efer", "cr0"))


def _long_without_pae(s: _State) -> Violation | None:
    if s.cr4 is None or s.cr4 & _PAE or not _in_long_mode(s):
        return None
    return Violation("sregs-long-pae", "EFER.LME and CR0.PG are set, and CR4.PAE is clear", ("efer", "cr0", "cr4"))


def _cr0(s: _State) -> Violation | None:
    if s.cr0 is None:
        return None
    if s.cr0 >> 32:
        return Violation("sregs-cr0-high", "CR0 has bits above 31 set", ("cr0",))
    if s.cr0 & _NW and not s.cr0 & _CD:
        return Violation("sregs-cr0-nw", "CR0.NW is set and CR0.CD is clear", ("cr0",))
    if s.cr0 & _PG and not s.cr0 & _PE:
        return Violation("sregs-cr0-pg", "CR0.PG is set and CR0.PE is clear", ("cr0",))
    return None


def _cr4(s: _State) -> Violation | None:
    if s.cr4 is not None and s.cr4 & _CR4_RESERVED:
        return Violation("sregs-cr4-reserved", f"CR4 has reserved bits set: {s.cr4 & _CR4_RESERVED:#x}", ("cr4",))
    return None


def _cr3(s: _State) -> Violation | None:
    """In long mode CR3 must fit the guest's physical width, which is at most 52 bits; 61 and 62 are LAM's."""
    if s.cr3 is None or not _in_long_mode(s) or not s.cr3 & _ABOVE_52 & ~(3 << 61):
        return None
    return Violation("sregs-cr3-width", "CR3 has bits set above the widest physical address", ("cr3",))


_ABOVE_52: Final = (1 << 64) - (1 << 52)
_RULES: Final[tuple[Callable[[_State], Violation | None], ...]] = (
    _code_long, _lma_set, _lma_clear, _long_without_pae, _cr0, _cr4, _cr3,
)  # fmt: skip
