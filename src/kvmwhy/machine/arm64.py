"""The arm64 part of a machine: how a vCPU is made ready, and what a bare guest needs of the architecture."""

from __future__ import annotations

from typing import ClassVar, Final

from kvmwhy.abi.arm64 import one_reg
from kvmwhy.abi.arm64.ioctl import EXT_DABT_PENDING, FEATURE_PSCI_0_2, VCPU_EVENTS, VCPU_INIT, Arm64Ioctl
from kvmwhy.abi.uname import Arch
from kvmwhy.machine.bare_guest import Isa
from kvmwhy.machine.one_reg import OneRegVcpu, OneRegVm

_VECTORS: Final = 16
_VECTOR_SIZE: Final = 0x80
_MOVZ_X0: Final = 0xD2A00000  # movz x0, #imm16, lsl #16
_MSR_TPIDR_EL1_X0: Final = 0xD518D080
_STR_X0_X0: Final = 0xF9000000  # str x0, [x0]
_BRANCH_TO_SELF: Final = 0x14000000
_EL1H_MASKED: Final = 0x3C5  # PSTATE: EL1 with its own stack, all interrupts masked
_FPEN: Final = 3 << 20  # CPACR_EL1: no trap of SIMD and floating point


class Arm64Vcpu(OneRegVcpu):
    """At EL1, MMU off, its PC at 0."""

    __slots__ = ()

    REGISTERS = one_reg.REGISTERS

    def init(self, target: bytes) -> None:
        """KVM_ARM_VCPU_INIT, before anything else: until then KVM_RUN and KVM_GET_ONE_REG are ENOEXEC."""
        self._set(Arm64Ioctl.KVM_ARM_VCPU_INIT, bytearray(target))

    def inject_abort(self) -> None:
        """What QEMU 5.1 and later do for KVM_EXIT_ARM_NISV (target/arm/kvm.c: kvm_arm_handle_dabt_nisv)."""
        events = bytearray(VCPU_EVENTS.size)
        events[EXT_DABT_PENDING] = 1
        self._set(Arm64Ioctl.KVM_SET_VCPU_EVENTS, events)


class Arm64Machine(OneRegVm):
    """A VM of arm64. There is no interrupt controller: WFI sleeps."""

    ARCH: ClassVar[Arch] = "arm64"

    def _take_vcpu(self, number: int, fd: int, mapping_size: int) -> Arm64Vcpu:
        vcpu = Arm64Vcpu(number, fd, mapping_size)
        target, *features = VCPU_INIT.whole.unpack(self._fill(Arm64Ioctl.KVM_ARM_PREFERRED_TARGET, VCPU_INIT.size))
        features[0] |= FEATURE_PSCI_0_2
        vcpu.init(VCPU_INIT.whole.pack(target, *features))
        return vcpu


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def _ring(bell: int) -> bytes:
    return _words(_MSR_TPIDR_EL1_X0, _MOVZ_X0 | bell >> 16 << 5, _STR_X0_X0, _BRANCH_TO_SELF)


def _handlers(bell: int) -> bytes:
    return _ring(bell).ljust(_VECTOR_SIZE, b"\0") * _VECTORS


ISA: Final = Isa(
    arch="arm64",
    ram=0x4000_0000,
    bells=(0x0F00_0000, 0x0E00_0000),
    ring=_ring,
    handlers=_handlers,
    vector_size=_VECTOR_SIZE,
    start={"pstate": _EL1H_MASKED, "cpacr_el1": _FPEN},
    vectors="vbar_el1",
    stack="sp_el1",
    saved=("x0", "tpidr_el1"),
    trap=("esr_el1", "far_el1", "elr_el1"),
    general=one_reg.CORE[:31],
)
