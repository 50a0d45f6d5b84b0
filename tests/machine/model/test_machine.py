"""The model has the machine protocol: state, memory, capabilities, time limits, named errors."""

import subprocess
import sys
import threading
from typing import Any

import pytest

pytest.importorskip("unicorn")

from kvmwhy.machine import (
    CapabilityAbsentError,
    ClosedError,
    CompletionError,
    Events,
    Guest,
    Hlt,
    InternalError,
    Intr,
    Io,
    Machine,
    MachineError,
    Mmio,
    Mode,
    RefusedStateError,
    RegisterError,
    Regs,
    Shutdown,
    SlotError,
    SlotOverlapError,
    TimedOut,
    UnknownCapabilityError,
    Vcpu,
    replace,
)
from kvmwhy.machine.model import Model, UnknownKernelError, UnknownVendorError

HOLE = 0xD0000000
FLDS = bytes.fromhex("d9 03")
LOOP = bytes.fromhex("eb fe")
MODES: tuple[Mode, ...] = ("real16", "prot32", "long64")


def test_it_is_a_machine() -> None:
    """The type checker holds Model and its vCPUs to the protocol."""
    with Model() as model:
        machine: Machine = model
        vcpu: Vcpu = model.create_vcpu()
        assert vcpu.get_regs() == Regs(rip=0xFFF0, rdx=0x600)
        assert vcpu.get_sregs().cs.base == 0xFFFF0000
        assert machine.vcpus == (vcpu,)


@pytest.mark.parametrize("mode", MODES)
def test_runs_code_in_every_mode(mode: Mode) -> None:
    """mov $42, %al; out %al, $0x80; hlt, and the guest is behind it."""
    guest = Guest(mode, bytes.fromhex("b0 2a e6 80"))
    with Model() as machine:
        vcpu = guest.load(machine)
        found = vcpu.run(timeout=1)
        assert isinstance(found, Io)
        assert (found.port, found.data, found.is_write) == (0x80, b"*", True)
        assert vcpu.run(timeout=1) == Hlt()
        assert guest.ran_through(machine, vcpu)


@pytest.mark.parametrize("mode", MODES)
def test_state_comes_back_as_it_was_set(mode: Mode) -> None:
    """Registers, segments, control registers, events, debug registers, XCR0, FPU and MSRs."""
    with Model() as machine:
        vcpu = Guest(mode, FLDS, xcr0=7).load(machine)
        regs = Regs(**{name: 0x1111 * n for n, name in enumerate(Regs.__struct_fields__)} | {"rflags": 0xED7})
        vcpu.set_regs(regs)
        assert vcpu.get_regs() == regs
        sregs = vcpu.get_sregs()
        vcpu.set_sregs(sregs)
        assert vcpu.get_sregs() == sregs
        events = Events(exception_injected=1, exception_nr=14, exception_has_error_code=1, exception_error_code=6)
        vcpu.set_events(events)
        assert replace(vcpu.get_events(), flags=0) == events
        debug = replace(vcpu.get_debugregs(), db=(1, 2, 3, 4))
        vcpu.set_debugregs(debug)
        assert vcpu.get_debugregs() == debug
        assert vcpu.get_xcrs() == {0: 7}
        vcpu.set_msrs({0xC0000082: 0x1234, 0x174: 0x10})
        assert vcpu.get_msrs([0xC0000082, 0x174]) == {0xC0000082: 0x1234, 0x174: 0x10}
        assert vcpu.get_regs() == regs  # nothing of the above went into it


def test_fpu_and_xsave_come_back() -> None:
    """All of x87 and SSE, and the upper halves of AVX."""
    fpu = bytearray(416)
    fpu[:128] = b"".join(bytes([n + 1] * 10) + bytes(6) for n in range(8))
    fpu[128:132] = bytes.fromhex("7f 03 00 18")  # FCW; FSW with TOP = 3
    fpu[132] = 0xFF
    fpu[152:408] = bytes(range(256))
    fpu[408:412] = (0x1F80).to_bytes(4, "little")
    with Model() as machine:
        vcpu = Guest("long64", FLDS).load(machine)
        vcpu.set_fpu(bytes(fpu))
        assert vcpu.get_fpu() == bytes(fpu)
        area = bytearray(vcpu.get_xsave())
        area[576:832] = bytes(reversed(range(256)))
        vcpu.set_xsave(bytes(area))
        assert vcpu.get_xsave() == bytes(area)
        with pytest.raises(RegisterError):
            vcpu.set_fpu(b"")


def test_memory_is_the_guests() -> None:
    """What the VMM writes is what the guest executes, also where it has executed something else."""
    with Model() as machine:
        guest = Guest("long64", bytes.fromhex("b0 01"))
        vcpu = guest.load(machine)
        for value in (1, 2, 3):
            machine.write(guest.entry + 1, bytes([value]))
            guest.restart(vcpu)
            assert vcpu.run(timeout=1) == Hlt()
            assert vcpu.get_regs().rax == value


def test_slots() -> None:
    """A read-only slot is read in peace and written as MMIO; a removed one is a hole."""
    with Model() as machine:
        slot = machine.add_memory(HOLE, 0x1000, readonly=True, data=b"\x11\x22\x33\x44")
        vcpu = Guest("long64", bytes.fromhex("8b 03 89 43 04"), regs={"rbx": HOLE}).load(machine)
        assert vcpu.run(timeout=1) == Mmio(HOLE + 4, b"\x11\x22\x33\x44", 4, is_write=True)
        assert machine.read(HOLE + 4, 4) == bytes(4)
        with pytest.raises(SlotOverlapError):
            machine.add_memory(HOLE, 0x1000)
        machine.remove_memory(slot)
        with pytest.raises(SlotError):
            machine.remove_memory(slot)
        vcpu = Guest("long64", bytes.fromhex("8b 03"), regs={"rbx": HOLE}, memory=0x20000).add_vcpu(machine)
        assert isinstance(vcpu.run(timeout=1), Mmio)


def test_errors_are_named() -> None:
    """Unknown kernels, vendors and capabilities; capabilities that the release lacks; wrong answers."""
    with pytest.raises(UnknownKernelError, match=r"5\.4 to 7\.3"):
        Model("4.19")
    bad: Any = "arm"
    with pytest.raises(UnknownVendorError):
        Model(vendor=bad)
    with Model("5.10") as machine:
        with pytest.raises(CapabilityAbsentError, match=r"came with Linux 5\.14"):
            machine.enable("KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)
        with pytest.raises(UnknownCapabilityError):
            machine.capability("KVM_CAP_NONSENSE")
        vcpu = Guest("long64", b"\xf4").load(machine)
        assert vcpu.run(timeout=1) == Hlt()
        with pytest.raises(CompletionError):
            vcpu.complete(b"")
        with pytest.raises(RefusedStateError, match="PAE"):
            vcpu.set_sregs(replace(vcpu.get_sregs(), cr4=0))
        with pytest.raises(RefusedStateError):
            vcpu.set_xcrs({0: 6})
    with Model("6.1") as machine, pytest.raises(CapabilityAbsentError, match="refuses"):
        machine.enable(204, 2)
    with pytest.raises(ClosedError):
        vcpu.run()
    with pytest.raises(ClosedError):
        machine.read(0, 1)


def test_a_guest_that_never_exits_ends_at_its_timeout() -> None:
    """And goes on afterwards."""
    with Model() as machine:
        guest = Guest("long64", LOOP)
        vcpu = guest.load(machine)
        for _ in range(3):
            assert vcpu.run(timeout=0.05) == TimedOut(0.05)
        machine.write(guest.entry, b"\xf4\xf4")
        assert vcpu.run(timeout=1) == Hlt()


def test_a_kernel_that_never_exits_ends_at_its_timeout() -> None:
    """SGDT to the hole: KVM neither fails nor finishes."""
    with Model() as machine:
        vcpu = Guest("long64", bytes.fromhex("0f 01 03"), regs={"rbx": HOLE}).load(machine)
        assert vcpu.run(timeout=0.05) == TimedOut(0.05)
        assert vcpu.get_regs().rip == 0x10000


def test_kick() -> None:
    """From another thread, or before the run."""
    with Model() as machine:
        vcpu = Guest("long64", LOOP).load(machine)
        vcpu.kick()
        assert vcpu.run(timeout=5) == Intr()
        threading.Timer(0.05, vcpu.kick).start()
        assert vcpu.run() == Intr()


def test_vcpus_run_side_by_side_and_share_memory() -> None:
    """One waits for what the other writes."""
    with Model() as machine:
        waiter = Guest("long64", bytes.fromhex("80 3c 25 00 00 02 00 01 75 f6"))  # 1: cmpb $1, 0x20000; jne 1b
        first = waiter.load(machine)
        writer = Guest("long64", b"", origin=0x11000)
        machine.write(0x11000, bytes.fromhex("c6 04 25 00 00 02 00 01 f4"))  # movb $1, 0x20000; hlt
        second = writer.add_vcpu(machine)
        ends: list[object] = []
        thread = threading.Thread(target=lambda: ends.append(first.run(timeout=5)))
        thread.start()
        assert second.run(timeout=5) == Hlt()
        thread.join()
        assert ends == [Hlt()]


def test_the_queued_ud_is_delivered_by_the_next_run() -> None:
    """At CPL 0 KVM exits and leaves #UD behind; with the capability it does not, and the VMM may go on."""
    for enabled in (False, True):
        with Model() as machine:
            machine.enable(204, int(enabled))
            guest = Guest("long64", FLDS, regs={"rbx": HOLE})
            vcpu = guest.load(machine)
            assert isinstance(vcpu.run(timeout=1), InternalError)
            assert vcpu.get_events().exception_injected == int(not enabled)
            if enabled:
                vcpu.set_regs(replace(vcpu.get_regs(), rip=guest.entry + len(FLDS)))
            assert vcpu.run(timeout=1) == Hlt()
            fault = guest.fault(machine, vcpu)
            assert (fault is None) == enabled
            assert fault is None or (fault.vector, fault.rip) == (6, guest.entry)


def test_user_mode_gets_ud_and_nobody_is_told() -> None:
    """CPL 3 without the capability."""
    with Model() as machine:
        guest = Guest("long64", FLDS, cpl=3, regs={"rbx": HOLE})
        vcpu = guest.load(machine)
        assert vcpu.run(timeout=1) == Hlt()
        fault = guest.fault(machine, vcpu)
        assert fault is not None
        assert fault.vector == 6


def test_avx_moves_since_6_19() -> None:
    """vmovdqu (%rbx), %ymm0; vmovdqu %ymm0, (%rbx): four reads and four writes, or a failure before."""
    code = bytes.fromhex("c5 fe 6f 03 c5 fe 7f 43 40")
    guest = Guest("long64", code, regs={"rbx": HOLE}, xcr0=7)
    with Model("6.18") as machine:
        assert isinstance(guest.load(machine).run(timeout=1), InternalError)
    with Model("7.3") as machine:
        vcpu = guest.load(machine)
        for number in range(4):
            assert vcpu.run(timeout=1) == Mmio(HOLE + 8 * number, b"", 8, is_write=False)
            vcpu.complete(bytes([number]) * 8)
        for number in range(4):
            found = vcpu.run(timeout=1)
            assert found == Mmio(HOLE + 0x40 + 8 * number, bytes([number]) * 8, 8, is_write=True)
        assert vcpu.run(timeout=1) == Hlt()


@pytest.mark.parametrize(("kernel", "is_write"), [("6.19", True), ("7.0", True), ("7.1", False)])
def test_movntdqa_was_the_wrong_way_round(kernel: str, is_write: bool) -> None:
    """6.19 and 7.0 store the register to memory."""
    with Model(kernel) as machine:
        vcpu = Guest("long64", bytes.fromhex("66 0f 38 2a 03"), regs={"rbx": HOLE}).load(machine)
        found = vcpu.run(timeout=1)
        assert isinstance(found, Mmio)
        assert found.is_write == is_write


def test_string_io() -> None:
    """REP INSB asks for all bytes at once, REP OUTSB tells them one by one."""
    with Model() as machine:
        code = bytes.fromhex("f3 6c b1 02 be 00 00 02 00 f3 6e")  # rep insb; mov $2, %cl; mov $0x20000, %esi; rep outsb
        vcpu = Guest("long64", code, regs={"rdi": 0x20000, "rcx": 3, "rdx": 0x60}).load(machine)
        found = vcpu.run(timeout=1)
        assert isinstance(found, Io)
        assert (found.port, found.size, found.count, found.is_write) == (0x60, 1, 3, False)
        vcpu.complete(b"abc")
        told = []
        while isinstance(found := vcpu.run(timeout=1), Io):
            told.append((found.count, found.data))
        assert told == [(1, b"a"), (1, b"b")]
        assert machine.read(0x20000, 3) == b"abc"


def test_unicorn_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package a machine can be made, and the first vCPU says what to install."""
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with Model() as machine, pytest.raises(MachineError, match=r"kvmwhy\[model\]"):
        machine.create_vcpu()


def test_unicorn_is_imported_late() -> None:
    """Importing the model costs nothing that only running it needs."""
    program = "import sys, kvmwhy.machine.model; print('unicorn' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"


def test_triple_fault() -> None:
    """#UD with an IDT that has no gate at all."""
    with Model() as machine:
        vcpu = Guest("long64", bytes.fromhex("0f 0b"), idt=(0x1000, 0)).load(machine)
        assert vcpu.run(timeout=1) == Shutdown()


def test_settle_finishes_the_instruction_only() -> None:
    """After a read, RIP moves behind the instruction and no further."""
    with Model() as machine:
        vcpu = Guest("long64", bytes.fromhex("8b 03 8b 03"), regs={"rbx": HOLE}).load(machine)
        assert isinstance(vcpu.run(timeout=1), Mmio)
        vcpu.complete(b"\1\0\0\0")
        assert vcpu.get_regs().rip == 0x10000
        vcpu.settle()
        assert (vcpu.get_regs().rip, vcpu.get_regs().rax) == (0x10002, 1)


def test_machines_leave_nothing_behind() -> None:
    """Hundreds of them in one process: descriptors stay where they are, and memory but for noise.

    An engine that stayed behind would be megabytes in every round. What an allocator keeps for later, as that of
    Python 3.14 does, is so in some rounds.
    """
    program = """
import gc, os, statistics
from kvmwhy.machine import Guest
from kvmwhy.machine.model import Model
guest = Guest("long64", bytes.fromhex("d9 03"), regs={"rbx": 0xD0000000})
def cycle(times):
    for _ in range(times):
        with Model() as machine:
            guest.load(machine).run(timeout=1)
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
cycle(200)
gc.collect()
files, sizes = len(os.listdir("/proc/self/fd")), [rss()]
for _ in range(5):
    cycle(100)
    gc.collect()
    sizes.append(rss())
assert len(os.listdir("/proc/self/fd")) == files
print(int(statistics.median(after - before for before, after in zip(sizes, sizes[1:]))) // 100)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert int(ran.stdout) < 16384, f"{ran.stdout} bytes per machine"
