"""What KVM_SET_SREGS refuses before any CPU sees it (kvm_is_valid_sregs in arch/x86/kvm/x86.c)."""

from __future__ import annotations

import errno
from typing import Final

from kvmwhy.machine.errors import RefusedStateError
from kvmwhy.machine.model.kernel import Kernel
from kvmwhy.machine.x86.state import Sregs

_PE, _NW, _CD, _PG = 1 << 0, 1 << 29, 1 << 30, 1 << 31
_PAE, _LME, _LMA = 1 << 5, 1 << 8, 1 << 10
_CR4_RESERVED: Final = ~0x00FF_FFFF & 0xFFFF_FFFF_FFFF_FFFF | 1 << 15
# SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE: what a CPU without the newer bits has.
EFER_DEFINED: Final = 0xFD01


def check_sregs(sregs: Sregs, release: Kernel, physical_bits: int) -> None:
    """Raises RefusedStateError. ``physical_bits`` is MAXPHYADDR of the vCPU's CPUID."""
    fact = _wrong(sregs, release, physical_bits)
    if fact is not None:
        raise RefusedStateError("KVM_SET_SREGS", errno.EINVAL, "CR0, CR3, CR4, EFER and CS must agree", fact)


def _wrong(sregs: Sregs, release: Kernel, physical_bits: int) -> str | None:
    if release.checks_cr0 and (fact := _wrong_cr0(sregs.cr0)) is not None:
        return fact
    if sregs.cr4 & _CR4_RESERVED:
        return "CR4 has a reserved bit set"
    if release.checks_efer and sregs.efer & ~EFER_DEFINED:
        return "EFER has a reserved bit set"
    if sregs.efer & _LME and sregs.cr0 & _PG:
        if not sregs.cr4 & _PAE or not sregs.efer & _LMA:
            return "EFER.LME and CR0.PG are set without CR4.PAE and EFER.LMA"
        if sregs.cr3 >> physical_bits:
            return f"CR3 has a bit above the {physical_bits} of a physical address"
    elif sregs.efer & _LMA or sregs.cs.l:
        return "EFER.LMA or CS.L is set while long mode is not active"
    return None


def _wrong_cr0(cr0: int) -> str | None:
    if cr0 & _PG and not cr0 & _PE:
        return "CR0.PG is set without CR0.PE"
    if cr0 & _NW and not cr0 & _CD:
        return "CR0.NW is set without CR0.CD"
    return "CR0 has 32 bits" if cr0 >> 32 else None
