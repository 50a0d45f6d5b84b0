"""The riscv64 part of a machine: how a vCPU is made ready, and what a bare guest needs of the architecture."""

from __future__ import annotations

from typing import ClassVar, Final

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.abi.riscv64 import one_reg
from kvmwhy.abi.uname import Arch
from kvmwhy.machine.bare_guest import Isa
from kvmwhy.machine.errors import CapabilityAbsentError
from kvmwhy.machine.one_reg import OneRegVcpu, OneRegVm

_CSRW_SSCRATCH_A0: Final = 0x14051073
_LUI_A0: Final = 0x00000537  # lui a0, imm20
_SD_A0_A0: Final = 0x00A53023  # sd a0, 0(a0)
_JUMP_TO_SELF: Final = 0x0000006F
_SUPERVISOR: Final = 1
_FS_VS: Final = 0x6600  # sstatus: floating point and vectors are on
_RUNNABLE: Final = 0  # KVM_MP_STATE_RUNNABLE


class Riscv64Vcpu(OneRegVcpu):
    """In S-mode, without translation."""

    __slots__ = ()

    REGISTERS = one_reg.REGISTERS

    def set_runnable(self) -> None:
        """All but the first vCPU wait for an SBI call of another."""
        self._set(Ioctl.KVM_SET_MP_STATE, bytearray(abi.MP_STATE.whole.pack(_RUNNABLE)))

    def inject_abort(self) -> None:
        raise CapabilityAbsentError("injection of an access fault", 0, "KVM on riscv64 has no such call")


class Riscv64Machine(OneRegVm):
    """A VM of riscv64. There is no interrupt controller: WFI sleeps."""

    ARCH: ClassVar[Arch] = "riscv64"

    def _take_vcpu(self, number: int, fd: int, mapping_size: int) -> Riscv64Vcpu:
        vcpu = Riscv64Vcpu(number, fd, mapping_size)
        vcpu.set_runnable()
        return vcpu


def _ring(bell: int) -> bytes:
    words = (_CSRW_SSCRATCH_A0, _LUI_A0 | bell, _SD_A0_A0, _JUMP_TO_SELF)
    return b"".join(word.to_bytes(4, "little") for word in words)


ISA: Final = Isa(
    arch="riscv64",
    ram=0x8000_0000,
    bells=(0x0F00_0000, 0x0E00_0000),
    ring=_ring,
    handlers=_ring,
    vector_size=0,
    start={"mode": _SUPERVISOR, "sstatus": _FS_VS, "satp": 0},
    vectors="stvec",
    stack="sp",
    saved=("a0", "sscratch"),
    trap=("scause", "stval", "sepc"),
    general=one_reg.BY_NUMBER[1:],
)
