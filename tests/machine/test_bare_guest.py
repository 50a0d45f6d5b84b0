"""Guests of arm64 and riscv64: what they are made of, and on a host of that architecture what its KVM makes of them."""

from __future__ import annotations

import errno
import platform
from typing import Any

import pytest

from kvmwhy.machine import (
    ArmNisv,
    GuestError,
    ImageTooLargeError,
    KvmMachine,
    MachineError,
    Mmio,
    RegisterError,
    SlotAlignmentError,
    WrongArchitectureError,
)
from kvmwhy.machine.arm64 import ISA as ARM64
from kvmwhy.machine.arm64 import Arm64Machine
from kvmwhy.machine.bare_guest import BareGuest, Isa, Stopped
from kvmwhy.machine.exits import Exit, TimedOut
from kvmwhy.machine.one_reg import OneRegVm
from kvmwhy.machine.riscv64 import ISA as RISCV64
from kvmwhy.machine.riscv64 import Riscv64Machine

HOLE = 0x0D00_0000
LIMIT = 5.0
MACHINES: dict[str, tuple[type[OneRegVm], Any, str]] = {
    "aarch64": (Arm64Machine, ARM64, "x0"),
    "riscv64": (Riscv64Machine, RISCV64, "a0"),
}
ON_ARM64 = pytest.mark.skipif(platform.machine() != "aarch64", reason="takes a host that is arm64")
ON_RISCV64 = pytest.mark.skipif(platform.machine() != "riscv64", reason="takes a host that is riscv64")


def word(number: int) -> bytes:
    return number.to_bytes(4, "little")


def outcome(code: bytes, *, cap: str | None = None, inject: bool = False) -> Stopped:
    """What became of ``code`` on this host, with its first argument's register pointing where no memory is."""
    kind, isa, register = MACHINES[platform.machine()]
    with kind() as machine:
        if cap:
            machine.enable(cap)
        guest = BareGuest(isa, code, regs={register: HOLE})
        vcpu = guest.load(machine)
        stopped = guest.run(vcpu, timeout=LIMIT, inject=inject)
        assert guest.registers(vcpu, stopped)[register] == HOLE, "the register that ringing takes is put back"
    return stopped


# -- anywhere ----------------------------------------------------------------------------------------


def test_handlers_and_the_end_are_the_instructions_they_say() -> None:
    """As capstone reads them: save a register, load the bell's address, store there, stay."""
    capstone = pytest.importorskip("capstone")
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    text = [f"{i.mnemonic} {i.op_str}" for i in decoder.disasm(ARM64.ring(HOLE), 0)]
    assert text == ["msr tpidr_el1, x0", "mov x0, #0xd000000", "str x0, [x0]", "b #0xc"]
    decoder = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64)
    text = [f"{i.mnemonic} {i.op_str}" for i in decoder.disasm(RISCV64.ring(HOLE), 0)]
    assert text == ["csrw sscratch, a0", "lui a0, 0xd000", "sd a0, 0(a0)", "j 0"]
    assert len(ARM64.handlers(HOLE)) == 16 * 0x80, "VBAR_EL1: sixteen vectors of 128 bytes"


class Scripted:
    """A vCPU that leaves by these exits, each with the PC that it then has, and whose other registers are 0."""

    def __init__(self, *exits: tuple[Exit, int]) -> None:
        self._exits = list(exits)
        self._pc = 0

    def run(self, timeout: float) -> Exit:
        exit_, self._pc = self._exits.pop(0) if self._exits else (TimedOut(timeout), self._pc)
        return exit_

    def get(self, name: str) -> int:
        return self._pc if name == "pc" else 0


@pytest.mark.parametrize(
    ("isa", "pc", "how", "accesses"),
    [
        (ARM64, 0x4000_1000, "timeout", 1),  # str x1, [x0] of the code itself, to the bell's address
        (ARM64, 0x4000_100C, "end", 0),  # the third instruction of four behind the one of the code
        (ARM64, 0x4000_1020, "timeout", 1),  # behind all of them, where no code of ours is
        (ARM64, 0x4000_0208, "trap", 0),  # vector 0x200: a synchronous exception of EL1h
        (RISCV64, 0x8000_1000, "timeout", 1),
        (RISCV64, 0x8000_100C, "end", 0),
        (RISCV64, 0x8000_0008, "trap", 0),
    ],
)
def test_a_store_of_the_guests_own_rings_no_bell(isa: Isa, pc: int, how: str, accesses: int) -> None:
    """Where the PC is tells: in the code it is MMIO like any other, and the guest goes on."""
    store = Mmio(isa.bells[0], bytes(8), 8, True)
    stopped = BareGuest(isa, bytes(4)).run(Scripted((store, pc)), timeout=LIMIT)  # type: ignore[arg-type]
    assert stopped.how == how
    assert stopped.exits[:1] == (store,) * accesses


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"memory": 100}, SlotAlignmentError),
        ({"memory": 0x1000}, ImageTooLargeError),
        ({"regs": {"rax": 1}}, RegisterError),
        ({"regs": {"x0": 1 << 64}}, RegisterError),
        ({"mmio": ((0x4000_0000, 0x1000),)}, GuestError),
    ],
)
def test_a_guest_that_cannot_be_is_refused(wish: dict[str, Any], error: type[MachineError]) -> None:
    """Before any machine is asked."""
    with pytest.raises(error):
        BareGuest(ARM64, word(0xD503201F), **wish)


@pytest.mark.parametrize("kind", [KvmMachine, Arm64Machine, Riscv64Machine])
def test_a_machine_of_another_architecture_is_refused_in_one_sentence(kind: type[KvmMachine | OneRegVm]) -> None:
    """KVM runs guests of the host's own architecture, and no others."""
    names = {"x86_64": "x86", "aarch64": "arm64", "riscv64": "riscv64"}
    if names.get(platform.machine()) == kind.ARCH:
        pytest.skip("this host is of that architecture")
    with pytest.raises(WrongArchitectureError, match=rf"its KVM runs no {kind.ARCH} guests: it takes a host that is"):
        kind()


# -- on real KVM of arm64 (arch/arm64/kvm/mmio.c: io_mem_abort) ------------------------------------------


@ON_ARM64
@pytest.mark.live
@pytest.mark.parametrize(("code", "size"), [(0xF9400001, 8), (0x39400001, 1), (0xB8AF6801, 4)])
def test_one_register_becomes_mmio(code: int, size: int) -> None:
    """LDR, LDRB, LDRSW with an index: the CPU describes the access, so KVM hands it out."""
    stopped = outcome(word(code))
    assert stopped == Stopped("end", (Mmio(HOLE, b"", size, False),))


@ON_ARM64
@pytest.mark.live
@pytest.mark.parametrize("code", [0xA9400801, 0x3DC00000, 0xF8408401, 0xC85F7C01])
def test_without_a_syndrome_kvm_run_fails_with_enosys(code: int) -> None:
    """LDP, LDR of a Q register, LDR with write-back, LDXR."""
    assert outcome(word(code)) == Stopped("errno", errno=errno.ENOSYS)


@ON_ARM64
@pytest.mark.live
def test_a_vmm_may_ask_for_them_and_give_the_guest_an_abort() -> None:
    """KVM_EXIT_ARM_NISV has only direction and fault status; injected, the guest's ESR_EL1 is 0x96000010."""
    cap = "KVM_CAP_ARM_NISV_TO_USER"
    assert outcome(word(0xA9000801), cap=cap).exits == (ArmNisv(0x45, HOLE),)
    stopped = outcome(word(0xA9400801), cap=cap, inject=True)
    assert stopped.trap is not None
    assert (stopped.trap.cause & 0xFFFF_FFFF, stopped.trap.address, stopped.trap.vector) == (0x9600_0010, HOLE, 0x200)


@ON_ARM64
@pytest.mark.live
def test_a_vcpu_before_its_initialisation_is_enoexec() -> None:
    """KVM_RUN and KVM_GET_ONE_REG alike (arch/arm64/kvm/arm.c: kvm_vcpu_initialized)."""
    from kvmwhy.machine.arm64 import Arm64Vcpu

    class Uninitialised(Arm64Machine):
        def _take_vcpu(self, number: int, fd: int, mapping_size: int) -> Arm64Vcpu:
            return Arm64Vcpu(number, fd, mapping_size)

    with Uninitialised() as machine, pytest.raises(OSError, match="ENOEXEC"):
        machine.create_vcpu().run(LIMIT)


# -- on real KVM of riscv64 (arch/riscv/kvm/vcpu_insn.c) ---------------------------------------------


@ON_RISCV64
@pytest.mark.live
@pytest.mark.parametrize(("code", "size"), [(0x00053583, 8), (0x00050583, 1), (0x00052583, 4)])
def test_loads_that_kvm_decodes_become_mmio(code: int, size: int) -> None:
    """ld, lb, lw."""
    assert outcome(word(code)) == Stopped("end", (Mmio(HOLE, b"", size, False),))


@ON_RISCV64
@pytest.mark.live
@pytest.mark.parametrize(
    ("code", "name"), [(0x00053507, "EOPNOTSUPP"), (0x0015352F, "EOPNOTSUPP"), (0x00153583, "EIO")]
)
def test_what_kvm_does_not_decode_fails(code: int, name: str) -> None:
    """fld and amoadd.d are unknown to it; ld of an odd address it refuses."""
    assert outcome(word(code)) == Stopped("errno", errno=getattr(errno, name))


@ON_RISCV64
@pytest.mark.live
def test_an_exception_is_the_guests_own() -> None:
    """An illegal instruction ends in the guest's handler, with its cause."""
    stopped = outcome(bytes(4))
    assert stopped.trap is not None
    assert stopped.trap.cause == 2
