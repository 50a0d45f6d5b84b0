"""KvmMachine on the real /dev/kvm: what is asserted here must hold on any host that has one."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

import kvmwhy.machine as exported
from kvmwhy.abi.internal_error import encode_emulation
from kvmwhy.abi.kvm_run import decode_page
from kvmwhy.machine import (
    CapabilityAbsentError,
    ClosedError,
    CompletionError,
    Guest,
    Hlt,
    InternalError,
    Intr,
    Io,
    KvmMachine,
    Machine,
    Mmio,
    Mode,
    RefusedStateError,
    RegisterError,
    Shutdown,
    SlotError,
    SlotOverlapError,
    TimedOut,
    UnknownCapabilityError,
    Vcpu,
    X86Rdmsr,
    X86Wrmsr,
    replace,
)
from kvmwhy.machine.linux import KICK

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("_kvm_works")]

HOLE = 0xD0000000
LIMIT = 5.0  # seconds; no guest here needs more than some milliseconds
ENDLESS = "eb fe"  # 1: jmp 1b
CAP204 = "KVM_CAP_EXIT_ON_EMULATION_FAILURE"


def run(guest: Guest, machine: Machine) -> tuple[Vcpu, object]:
    vcpu = guest.load(machine)
    return vcpu, vcpu.run(LIMIT)


def long64(text: str, cpl: int = 0, **regs: int) -> Guest:
    return Guest("long64", bytes.fromhex(text), cpl=cpl, regs={"rbx": HOLE, **regs})


# -- the protocol ---------------------------------------------------------------------------------


def test_a_kvm_machine_is_a_machine(machine: KvmMachine) -> None:
    """The type checker holds KvmMachine and KvmVcpu to the protocols: this function's types are the test."""
    as_protocol: Machine = machine
    vcpu: Vcpu = as_protocol.create_vcpu()
    assert as_protocol.vcpus == (vcpu,)


def test_the_twenty_line_vmm_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    """The example in the package's docstring runs and prints what it says, in twenty lines."""
    doc = exported.__doc__ or ""
    lines = re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", doc, re.MULTILINE)
    expected = doc[doc.index("+SKIP") :].split("\n", 1)[1]
    exec(compile("\n".join(lines), "doc", "exec"), {})  # noqa: S102 -- our own text
    assert capsys.readouterr().out == expected
    assert len(lines) <= 20


# -- exits and their completion -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["real16", "prot32", "long64"])
def test_an_mmio_read_gets_the_answer(machine: KvmMachine, mode: Mode) -> None:
    """In every mode: a load from a hole exits with its GPA and size, and the register gets what was answered."""
    hole = 0xB0000 if mode == "real16" else HOLE
    code = {"real16": "b8 00 b0 8e d8 a1 34 12 f4", "prot32": "8b 03 f4", "long64": "8b 03 f4"}[mode]
    guest = Guest(mode, bytes.fromhex(code), mmio=((0xB0000, 0x10000),), regs={"rbx": hole + 0x1234})
    vcpu, exit_ = run(guest, machine)
    size = 2 if mode == "real16" else 4
    assert exit_ == Mmio(hole + 0x1234, b"", size, is_write=False)
    vcpu.complete(b"\x78\x56\x34\x12"[:size])
    assert vcpu.run(LIMIT) == Hlt()
    assert vcpu.get_regs().rax == (0x5678 if mode == "real16" else 0x12345678)


def test_an_mmio_write_says_what_was_written(machine: KvmMachine) -> None:
    """A store of each size into a hole exits with exactly its bytes."""
    guest = long64("48 89 03 89 03 66 89 03 88 03", rax=0x1122334455667788)
    vcpu = guest.load(machine)
    value = (0x1122334455667788).to_bytes(8, "little")
    for size in (8, 4, 2, 1):
        assert vcpu.run(LIMIT) == Mmio(HOLE, value[:size], size, is_write=True)
    assert vcpu.run(LIMIT) == Hlt()
    assert guest.ran_through(machine, vcpu)


def test_ports_are_read_and_written(machine: KvmMachine) -> None:
    """OUT exits with its data, IN takes an answer, and string output carries all its bytes."""
    machine_code = "e4 10 e7 11 ba 12 00 00 00 b9 03 00 00 00 f3 6e"  # in; out; rep outsb
    guest = long64(machine_code, rsi=0x10000)
    vcpu, exit_ = run(guest, machine)
    assert isinstance(exit_, Io)
    assert (exit_.is_write, exit_.port, exit_.size, exit_.count, exit_.data) == (False, 0x10, 1, 1, b"")
    vcpu.complete(b"\x2a")
    exit_ = vcpu.run(LIMIT)
    assert isinstance(exit_, Io)
    assert (exit_.is_write, exit_.port, exit_.data) == (True, 0x11, b"\x2a\0\0\0")
    written = b""
    while isinstance(exit_ := vcpu.run(LIMIT), Io):  # KVM may give them one by one
        assert (exit_.is_write, exit_.port) == (True, 0x12)
        written += exit_.data
    assert written == guest.code[:3]


def test_an_answer_must_fit_the_question(machine: KvmMachine) -> None:
    """complete() with the wrong size, or where nothing was asked, is refused, and the exit can still be answered."""
    guest = long64("8b 03 89 03 f4")
    vcpu, _ = run(guest, machine)
    with pytest.raises(CompletionError, match=r"KVM_EXIT_MMIO asks for 4 bytes, here are 1"):
        vcpu.complete(b"1")
    with pytest.raises(CompletionError, match="cannot be refused"):
        vcpu.refuse()
    vcpu.complete(b"1234")
    assert vcpu.run(LIMIT) == Mmio(HOLE, b"1234", 4, is_write=True)
    with pytest.raises(CompletionError, match="KVM_EXIT_MMIO asks for nothing"):
        vcpu.complete(b"1234")


def test_msr_accesses_are_answered_or_refused(machine: KvmMachine) -> None:
    """With the capability, unknown MSRs exit; an answer reaches EDX:EAX, a refusal is #GP."""
    machine.enable("KVM_CAP_X86_USER_SPACE_MSR", 2)
    guest = long64("0f 32 0f 30 0f 32", rcx=0xDEADBEEF)  # rdmsr; wrmsr; rdmsr
    vcpu, exit_ = run(guest, machine)
    assert isinstance(exit_, X86Rdmsr)
    assert (exit_.index, exit_.reason) == (0xDEADBEEF, 2)
    vcpu.complete((0x11112222_33334444).to_bytes(8, "little"))
    exit_ = vcpu.run(LIMIT)
    assert isinstance(exit_, X86Wrmsr)
    assert exit_.data == 0x11112222_33334444
    assert isinstance(vcpu.run(LIMIT), X86Rdmsr)
    vcpu.refuse()
    assert vcpu.run(LIMIT) == Hlt()
    fault = guest.fault(machine, vcpu)
    assert fault is not None
    assert (fault.vector, fault.error_code, fault.rip) == (13, 0, guest.entry + 4)


def test_settle_finishes_the_io_and_no_more(machine: KvmMachine) -> None:
    """After settle() the register has the answer and RIP is behind the load, yet nothing else has run."""
    guest = long64("8b 03 ff c0 f4")
    vcpu, _ = run(guest, machine)
    vcpu.complete(b"\x07\0\0\0")
    vcpu.settle()
    assert (vcpu.get_regs().rax, vcpu.get_regs().rip) == (7, guest.entry + 2)


# -- memory ---------------------------------------------------------------------------------------


def test_a_write_to_a_readonly_slot_is_mmio_and_a_read_is_not(machine: KvmMachine) -> None:
    """The guest reads a read-only slot as memory; its write exits as MMIO and changes nothing."""
    machine.add_memory(0x200000, 0x1000, readonly=True, data=b"\x11\x22\x33\x44")
    guest = long64("8b 03 ff 03 f4", rbx=0x200000)
    vcpu, exit_ = run(guest, machine)
    assert exit_ == Mmio(0x200000, b"\x12\x22\x33\x44", 4, is_write=True)
    assert vcpu.run(LIMIT) == Hlt()
    assert machine.read(0x200000, 4) == b"\x11\x22\x33\x44"


def test_a_deleted_slot_becomes_a_hole(machine: KvmMachine) -> None:
    """The same load reads memory, and after the slot is deleted it exits as MMIO; the slot can come back."""
    slot = machine.add_memory(0x200000, 0x1000, data=b"\x2a")
    guest = long64("8a 03 f4", rbx=0x200000)
    vcpu, exit_ = run(guest, machine)
    assert (exit_, vcpu.get_regs().rax) == (Hlt(), 42)
    machine.remove_memory(slot)
    guest.restart(vcpu)
    assert vcpu.run(LIMIT) == Mmio(0x200000, b"", 1, is_write=False)
    with pytest.raises(SlotError, match="no slot 0 at 0x200000"):
        machine.remove_memory(slot)
    assert machine.add_memory(0x200000, 0x1000) == slot
    guest.restart(vcpu)
    assert vcpu.run(LIMIT) == Hlt()


def test_memory_is_read_and_written_across_slots(machine: KvmMachine) -> None:
    """Slots side by side are one piece for read() and write(); a gap is refused before anything is written."""
    machine.add_memory(0, 0x1000)
    machine.add_memory(0x1000, 0x1000)
    machine.write(0xFFE, b"abcd")
    assert machine.read(0xFFE, 4) == b"abcd"
    with pytest.raises(ValueError, match=r"no slot holds 2 bytes at 0x2000"):
        machine.write(0x1FFE, b"wxyz")
    assert machine.read(0x1FFE, 2) == b"\0\0"


# -- failures -------------------------------------------------------------------------------------


def test_an_internal_error_is_the_page(machine: KvmMachine) -> None:
    """flds from a hole at CPL 0: the exit is decoded from the page word for word, and encodes back to it."""
    vcpu, exit_ = run(long64("d9 03"), machine)
    assert isinstance(exit_, InternalError)
    page = decode_page(vcpu.page())
    assert (exit_.exit_reason, exit_.name) == (page.exit_reason, page.name) == (17, "KVM_EXIT_INTERNAL_ERROR")
    assert {"suberror": exit_.suberror, "ndata": exit_.ndata, "data": exit_.data} == page.payload
    assert exit_.suberror == 1
    reading = exit_.emulation
    assert reading is not None
    assert encode_emulation(reading.failure) == exit_.words
    if reading.failure.insn is not None:  # 5.14 and later
        assert reading.failure.insn.startswith(bytes.fromhex("d9 03 f4"))


def test_a_wild_jump_has_no_bytes(machine: KvmMachine) -> None:
    """A fetch from a hole is an emulation failure without instruction bytes."""
    _, exit_ = run(long64("ff e3"), machine)
    assert isinstance(exit_, InternalError)
    assert exit_.emulation is not None
    assert not exit_.emulation.failure.insn


def test_a_restored_state_is_there_before_the_guest_runs(machine: KvmMachine) -> None:
    """The second time the registers wait in the page for KVM_RUN; whoever reads or sets them finds them loaded."""
    guest = Guest("long64", b"\xf4", regs={"rbx": 0x1234})
    vcpu = guest.load(machine)
    for _ in range(3):
        guest.restart(vcpu)
        assert vcpu.get_regs() == guest.start_regs()
        vcpu.set_regs(msgspec.structs.replace(vcpu.get_regs(), rbx=0x5678))
        assert vcpu.run(1.0) == Hlt()
        assert vcpu.get_regs().rbx == 0x5678
        guest.restart(vcpu)
        assert vcpu.run(1.0) == Hlt()
        assert vcpu.get_regs().rbx == 0x1234


def test_a_restart_forgets_what_is_queued_and_going_on_does_not(machine: KvmMachine) -> None:
    """After a failure at CPL 0 a restart fails once more; going on gives the guest #UD there, except on kvm_pvm."""
    guest = long64("d9 03")
    vcpu, exit_ = run(guest, machine)
    assert isinstance(exit_, InternalError)
    guest.restart(vcpu)
    assert vcpu.run(LIMIT) == exit_
    if not isinstance(vcpu.run(LIMIT), InternalError):
        fault = guest.fault(machine, vcpu)
        assert fault is not None
        assert (fault.vector, fault.rip) == (6, guest.entry)


def test_cap_204_exits_at_cpl_3(machine: KvmMachine) -> None:
    """With the capability, a failure in user mode exits with the instruction; the VMM may skip it and go on."""
    machine.enable(CAP204, 1)
    guest = long64("d9 03", cpl=3)
    vcpu, exit_ = run(guest, machine)
    assert isinstance(exit_, InternalError)
    assert exit_.emulation is not None
    assert exit_.emulation.failure.insn is not None
    assert exit_.emulation.failure.insn.startswith(b"\xd9\x03")
    vcpu.set_regs(replace(vcpu.get_regs(), rip=guest.entry + 2))
    assert vcpu.run(LIMIT) == Hlt()
    assert guest.ran_through(machine, vcpu)


def test_without_cap_204_cpl_3_gets_ud_or_exits(machine: KvmMachine) -> None:
    """Without it, stock KVM gives the guest #UD; kvm_pvm exits all the same. Nothing else may happen."""
    guest = long64("d9 03", cpl=3)
    vcpu, exit_ = run(guest, machine)
    if not isinstance(exit_, InternalError):
        assert exit_ == Hlt()
        fault = guest.fault(machine, vcpu)
        assert fault is not None
        assert (fault.vector, fault.rip, fault.cs & 3) == (6, guest.entry, 3)


@pytest.mark.parametrize(
    ("mode", "cpl", "code", "vector", "behind"),
    [
        # Only what kvm_pvm can do as well: it has INT n in real mode alone, and UD2 everywhere else.
        ("real16", 0, "cc", 3, 1),
        ("real16", 0, "cd 41", 0x41, 2),
        ("real16", 0, "31 c9 f7 f1", 0, 2),  # xor cx,cx; div cx
        ("prot32", 0, "31 c9 f7 f1", 0, 2),
        ("prot32", 0, "90 0f 0b", 6, 1),
        ("prot32", 3, "31 c9 f7 f1", 0, 2),
        ("prot32", 3, "90 0f 0b", 6, 1),
        ("long64", 0, "90 0f 0b", 6, 1),
        ("long64", 3, "31 c9 f7 f1", 0, 2),
        ("long64", 3, "90 0f 0b", 6, 1),
        ("long64", 3, "cc", 3, 1),
        ("long64", 3, "8e dc", 13, 0),  # mov %sp,%ds: no such selector
    ],
)
def test_the_handler_names_the_vector(
    machine: KvmMachine, *, mode: Mode, cpl: int, code: str, vector: int, behind: int
) -> None:
    """In every mode, each entry of the IDT leads to a halt that tells its vector and where it came from."""
    guest = Guest(mode, bytes.fromhex(code), cpl=cpl)
    vcpu, exit_ = run(guest, machine)
    assert exit_ == Hlt()
    fault = guest.fault(machine, vcpu)
    assert fault is not None
    assert (fault.vector, fault.cs & 3) == (vector, cpl)
    base = guest.origin if mode == "real16" else 0
    assert fault.rip + base == guest.entry + behind


@pytest.mark.parametrize("mode", ["prot32", "long64"])
def test_cpl_3_is_cpl_3(machine: KvmMachine, mode: Mode) -> None:
    """User code runs with CS.RPL 3, cannot execute CLI, and its fault arrives on the kernel's stack."""
    guest = Guest(mode, bytes.fromhex("89 c8 fa"), cpl=3, regs={"rcx": 5})
    vcpu, exit_ = run(guest, machine)
    assert exit_ == Hlt()
    fault = guest.fault(machine, vcpu)
    assert fault is not None
    assert (fault.vector, fault.cs & 3, fault.rip) == (13, 3, guest.entry + 2)
    assert vcpu.get_regs().rax == 5
    assert not guest.ran_through(machine, vcpu)


@pytest.mark.parametrize(("mode", "cpl"), [("real16", 0), ("prot32", 0), ("prot32", 3), ("long64", 0), ("long64", 3)])
def test_a_guest_that_runs_through_says_so(machine: KvmMachine, mode: Mode, cpl: int) -> None:
    """Code without an end comes to the HLT behind it, at any CPL."""
    guest = Guest(mode, b"\x90", cpl=cpl)
    vcpu, exit_ = run(guest, machine)
    assert exit_ == Hlt()
    assert guest.ran_through(machine, vcpu)


def test_a_triple_fault_is_a_shutdown(machine: KvmMachine) -> None:
    """UD2 with an empty IDT ends in KVM_EXIT_SHUTDOWN."""
    _, exit_ = run(Guest("long64", b"\x0f\x0b", idt=(0, 0)), machine)
    assert exit_ == Shutdown()


# -- state ----------------------------------------------------------------------------------------


def test_state_survives_the_round_trip(machine: KvmMachine) -> None:
    """What is set is what is read back: registers, segments, XCR0, MSRs, events, debug registers, FPU, XSAVE, CPUID."""
    guest = Guest("long64", b"\x90", xcr0=3)
    vcpu = guest.load(machine)
    regs = replace(vcpu.get_regs(), rax=1, r15=(1 << 64) - 1, rflags=0x246)
    vcpu.set_regs(regs)
    assert vcpu.get_regs() == regs
    sregs = vcpu.get_sregs()
    moved = replace(sregs, fs=replace(sregs.fs, base=0x7FFF_0000_1234), cr2=0xABCDEF, cr8=5)
    vcpu.set_sregs(moved)
    assert vcpu.get_sregs() == moved
    assert vcpu.get_xcrs() == {0: 3}
    vcpu.set_msrs({0xC0000102: 0x1234_5678_9ABC, 0x277: 0x0007040600070406})
    assert vcpu.get_msrs([0xC0000102, 0x277]) == {0xC0000102: 0x1234_5678_9ABC, 0x277: 0x0007040600070406}
    events = vcpu.get_events()
    vcpu.set_events(replace(events, interrupt_shadow=1, flags=4))
    assert vcpu.get_events().interrupt_shadow in {1, 3}  # STI's and MOV SS's are two bits on VMX
    debug = replace(vcpu.get_debugregs(), db=(1, 2, 3, 4))
    vcpu.set_debugregs(debug)
    assert vcpu.get_debugregs() == debug
    vcpu.set_fpu(vcpu.get_fpu())
    vcpu.set_xsave(vcpu.get_xsave())
    assert len(vcpu.get_fpu()) == 416
    # Some hosts' KVM drops leaves of features that the vCPU was not given (AMX, AVX10) from what it was told.
    given = {entry.function for entry in vcpu.get_cpuid()}
    assert {0, 1, 0x80000000} <= given <= {entry.function for entry in machine.supported_cpuid()}


def test_registers_out_of_range_are_named(machine: KvmMachine) -> None:
    """A value that does not fit names its register and width; KVM never sees it."""
    vcpu = Guest("long64", b"\x90").load(machine)
    before = vcpu.get_regs()
    with pytest.raises(RegisterError, match=r"r9 has 64 bits, 0x1_?0{16} does not fit"):
        vcpu.set_regs(replace(before, r9=1 << 64))
    with pytest.raises(RegisterError, match=r"rip has 64 bits, -0x1 does not fit: values are unsigned"):
        vcpu.set_regs(replace(before, rip=-1))
    sregs = vcpu.get_sregs()
    with pytest.raises(RegisterError, match=r"ss\.selector has 16 bits, 0x10000"):
        vcpu.set_sregs(replace(sregs, ss=replace(sregs.ss, selector=0x10000)))
    with pytest.raises(RegisterError, match="MSR 0x10 data has 64 bits"):
        vcpu.set_msrs({0x10: 1 << 64})
    with pytest.raises(RegisterError, match="interrupt vector"):
        vcpu.interrupt(256)
    with pytest.raises(RegisterError, match="kvm_fpu of 3 bytes"):
        vcpu.set_fpu(b"abc")
    assert vcpu.get_regs() == before


def test_state_that_kvm_refuses_says_why(machine: KvmMachine) -> None:
    """A contradiction is KVM's to find: the error carries the ioctl, the errno and what to look at."""
    vcpu = Guest("long64", b"\x90").load(machine)
    with pytest.raises(RefusedStateError, match=r"KVM_SET_SREGS failed with EINVAL .*CR0, CR4 and EFER") as caught:
        vcpu.set_sregs(replace(vcpu.get_sregs(), cr4=0))  # EFER.LMA without CR4.PAE
    assert (caught.value.ioctl, caught.value.errno) == ("KVM_SET_SREGS", 22)
    assert isinstance(caught.value, OSError)
    with pytest.raises(RefusedStateError, match=r"did 1 of 2 MSRs: 0xdeadbeef was refused"):
        vcpu.get_msrs([0x10, 0xDEADBEEF])


# -- capabilities ---------------------------------------------------------------------------------


def test_capabilities_are_asked_and_missed_by_name(machine: KvmMachine) -> None:
    """A capability answers with its number; an unknown name, an absent one and a refused value are three errors."""
    assert machine.capability("KVM_CAP_USER_MEMORY") == 1
    assert machine.capability(3) == 1
    with pytest.raises(UnknownCapabilityError, match="KVM_CAP_NONSENSE"):
        machine.capability("KVM_CAP_NONSENSE")
    with pytest.raises(CapabilityAbsentError, match="this KVM lacks capability 9999"):
        machine.enable(9999)
    with pytest.raises(CapabilityAbsentError, match=r"refuses KVM_CAP_X86_USER_SPACE_MSR .*mask"):
        machine.enable("KVM_CAP_X86_USER_SPACE_MSR", 1 << 40)
    with pytest.raises(RegisterError, match="KVM_CAP_EXIT_ON_EMULATION_FAILURE args"):
        machine.enable(CAP204, -1)


# -- time, threads, ends --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["real16", "long64"])
def test_an_endless_guest_ends_at_its_timeout(machine: KvmMachine, mode: Mode) -> None:
    """A guest that never exits is stopped in time, again and again, and can go on after it."""
    vcpu = Guest(mode, bytes.fromhex(ENDLESS)).load(machine)
    for seconds in (0.05, 0.0, 0.02):
        assert vcpu.run(seconds) == TimedOut(seconds)


def test_a_guest_that_exits_in_time_is_not_disturbed_later(machine: KvmMachine) -> None:
    """Deadlines that were met leave no signal behind: the thread has none pending, and later runs are whole."""
    guest = long64("f4 eb fd")
    vcpu = guest.load(machine)
    for _ in range(300):
        assert vcpu.run(0.001) in {Hlt(), TimedOut(0.001)}
    assert KICK not in signal.sigpending()
    vcpu.run(0.05)
    time.sleep(0.1)
    assert vcpu.run() == Hlt()


def test_two_vcpus_run_side_by_side(machine: KvmMachine) -> None:
    """Two vCPUs in two threads take turns through one word of memory, each waiting for the other."""
    turns = 1000
    # 1: cmp %ebx,(%rsi); jne 1b; incl (%rsi); add $2,%ebx; dec %ecx; jnz 1b
    guest = long64("39 1e 75 fc ff 06 83 c3 02 ff c9 75 f3", rsi=0x80000, rcx=turns, rbx=0)
    first = guest.load(machine)
    second = guest.add_vcpu(machine)
    second.set_regs(replace(second.get_regs(), rbx=1))
    exits: dict[int, object] = {}
    threads = [threading.Thread(target=lambda v=v: exits.update({v.id: v.run(30.0)})) for v in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exits == {0: Hlt(), 1: Hlt()}
    assert int.from_bytes(machine.read(0x80000, 4), "little") == 2 * turns


def test_endless_vcpus_in_threads_all_time_out(machine: KvmMachine) -> None:
    """Four endless vCPUs in four threads, each with a deadline of its own, all end."""
    guest = Guest("long64", bytes.fromhex(ENDLESS))
    guest.place(machine)
    exits: dict[int, object] = {}

    def work(seconds: float) -> None:
        vcpu = guest.add_vcpu(machine)
        exits[vcpu.id] = vcpu.run(seconds)

    threads = [threading.Thread(target=work, args=(0.05 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert all(isinstance(exit_, TimedOut) for exit_ in exits.values())
    assert len(exits) == 4


def test_kick_from_another_thread(machine: KvmMachine) -> None:
    """kick() ends a run that has no deadline; before a run, it ends the next one, once."""
    guest = Guest("long64", bytes.fromhex(ENDLESS))
    vcpu = guest.load(machine)
    threading.Timer(0.05, vcpu.kick).start()
    assert vcpu.run() == Intr()
    vcpu.kick()
    assert vcpu.run() == Intr()
    assert vcpu.run(0.01) == TimedOut(0.01)


def test_signals_are_handled_while_a_guest_runs(machine: KvmMachine) -> None:
    """A handler runs at once and the guest goes on to its deadline; one that raises ends run() with its exception."""
    vcpu = Guest("long64", bytes.fromhex(ENDLESS)).load(machine)
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        threading.Timer(0.05, signal.raise_signal, [signal.SIGUSR1]).start()
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        assert vcpu.run(0.2) == TimedOut(0.2)
        assert seen
        signal.signal(signal.SIGUSR1, signal.default_int_handler)
        threading.Timer(0.05, signal.pthread_kill, [threading.get_ident(), signal.SIGUSR1]).start()
        with pytest.raises(KeyboardInterrupt):
            vcpu.run(LIMIT)
        assert vcpu.run(0.01) == TimedOut(0.01)
        signal.pthread_kill(threading.get_ident(), KICK)  # from nobody
        assert vcpu.run(0.01) == TimedOut(0.01)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closing_stops_a_vcpu_that_runs(machine: KvmMachine) -> None:
    """close() from another thread ends run() there with ClosedError, then everything is refused by name."""
    vcpu = Guest("long64", bytes.fromhex(ENDLESS)).load(machine)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            vcpu.run()
        except ClosedError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    machine.close()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert [str(error) for error in caught] == ["vCPU 0 is closed"]
    for use in (vcpu.run, vcpu.page, vcpu.get_regs, vcpu.settle, lambda: vcpu.complete(b""), machine.create_vcpu):
        with pytest.raises(ClosedError):
            use()


@pytest.mark.parametrize("order", ["vcpu first", "machine first", "twice", "only dropped"])
def test_any_order_of_ending_is_clean(order: str) -> None:
    """Descriptors and mappings are gone whichever end comes first, or if nobody closes at all."""
    before = resources()
    machine = KvmMachine()
    vcpu = Guest("real16", b"\xf4").load(machine)
    assert vcpu.run(LIMIT) == Hlt()
    if order == "vcpu first":
        vcpu.close()
        assert machine.vcpus == ()
    if order != "only dropped":
        machine.close()
        vcpu.close()
    if order == "twice":
        machine.close()
    del vcpu, machine
    gc.collect()
    assert resources() == before


def resources() -> tuple[int, int]:
    """Open descriptors, and mappings of guests."""
    maps = Path("/proc/self/maps").read_text(encoding="ascii", errors="replace")
    return len(os.listdir("/proc/self/fd")), maps.count("kvm-vcpu")


def resident() -> int:
    """Of this process, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0])


def test_nothing_grows_over_two_thousand_lives() -> None:
    """Create, run and destroy 2,000 times: the same descriptors and mappings, and no more memory."""
    guest = Guest("prot32", b"\x8a\x03\xf4", memory=1 << 17, regs={"rbx": HOLE}, cpuid=False)

    def live(times: int) -> None:
        for _ in range(times):
            with KvmMachine() as machine:
                vcpu = guest.load(machine)
                assert isinstance(vcpu.run(LIMIT), Mmio)
                vcpu.complete(b"\0")
                assert vcpu.run(LIMIT) == Hlt()

    live(200)
    gc.collect()
    before, memory = resources(), resident()
    live(1800)
    gc.collect()
    assert resources() == before
    assert resident() - memory < 1024, "KiB"


def test_a_killed_process_leaves_nothing() -> None:
    """SIGKILL in the middle of KVM_RUN: the process is gone at once, and its VM with it."""
    program = (
        "from kvmwhy.machine import *; m = KvmMachine(); v = Guest('long64', b'\\xeb\\xfe').load(m);"
        "print('running', flush=True); v.run(60)"
    )
    before = virtual_machines()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"running\n"
        time.sleep(0.05)
        child.kill()
        assert child.wait(LIMIT) == -signal.SIGKILL
    assert not Path(f"/proc/{child.pid}").exists()
    if before is not None:
        deadline = time.monotonic() + LIMIT
        while f"{child.pid}-" in (virtual_machines() or "") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert f"{child.pid}-" not in (virtual_machines() or "")


def virtual_machines() -> str | None:
    """KVM's own list, a directory per VM called PID-FD; None where debugfs is not to be seen."""
    try:
        return " ".join(os.listdir("/sys/kernel/debug/kvm"))
    except OSError:
        return None


def test_a_forked_child_can_run_its_own_guest_and_not_its_parents(machine: KvmMachine) -> None:
    """After fork(), the parent's vCPU says EIO in the child, and a new machine there keeps its deadlines."""
    vcpu = Guest("long64", bytes.fromhex(ENDLESS)).load(machine)
    assert vcpu.run(0.01) == TimedOut(0.01)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                vcpu.run(1.0)
            except OSError as error:
                status = 0 if error.errno == 5 and "fork" in str(error) else 2
            with KvmMachine() as own:
                timed = Guest("long64", bytes.fromhex(ENDLESS)).load(own).run(0.05)
                status = status if timed == TimedOut(0.05) else 3
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert vcpu.run(0.01) == TimedOut(0.01)


def test_overlap_is_refused_and_changes_nothing(machine: KvmMachine) -> None:
    """The slot that was there first still works after a refused one."""
    machine.add_memory(0, 0x2000, data=b"first")
    with pytest.raises(SlotOverlapError, match=r"0x1000-0x1fff overlaps slot 0, 0x0-0x1fff"):
        machine.add_memory(0x1000, 0x1000, data=b"second")
    assert machine.read(0, 5) == b"first"
    assert len(machine.slots) == 1


def test_a_slot_beyond_the_guests_physical_width_is_given_back(machine: KvmMachine) -> None:
    """What KVM itself refuses leaves no slot behind here."""
    with pytest.raises(OSError, match="KVM_SET_USER_MEMORY_REGION failed with EINVAL") as caught:
        machine.add_memory(1 << 60, 0x1000)
    assert "physical address width" in str(caught.value)
    assert machine.slots == ()


def test_a_vcpu_id_is_free_or_named(machine: KvmMachine) -> None:
    """A taken id and one beyond the limit are KVM's to refuse, with what to do."""
    machine.create_vcpu(0)
    with pytest.raises(OSError, match=r"KVM_CREATE_VCPU failed with EEXIST .*this id is taken"):
        machine.create_vcpu(0)
    with pytest.raises(OSError, match=r"KVM_CREATE_VCPU failed with EINVAL .*KVM_CAP_MAX_VCPU_ID"):
        machine.create_vcpu(1 << 20)
    with pytest.raises(RegisterError, match="vCPU id has 32 bits"):
        machine.create_vcpu(-1)
    assert machine.create_vcpu().id == 1
