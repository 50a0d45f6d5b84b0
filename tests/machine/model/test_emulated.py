"""What KVM's emulator makes of an instruction where it is not what a CPU makes of it.

The expectations were measured in the lab, on kvm-amd and kvm-intel 5.10, 6.1, 6.12 and 7.3.
"""

from typing import Any

import pytest

pytest.importorskip("unicorn")

from kvmwhy.machine import (
    Events,
    Exit,
    Guest,
    Hlt,
    InternalError,
    Io,
    Mmio,
    Mode,
    RefusedStateError,
    TimedOut,
    Vcpu,
    replace,
)
from kvmwhy.machine.model import Model, Vendor

HOLE = 0xD0000000
RAM = 0x20000
ANSWER = bytes([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88])
PATIENCE = 1.0


def _exits(vcpu: Vcpu, most: int = 8) -> list[Exit]:
    """Up to the first that is neither MMIO nor port I/O; reads are answered."""
    found: list[Exit] = []
    while len(found) < most:
        found.append(vcpu.run(timeout=PATIENCE))
        match found[-1]:
            case Mmio(is_write=False, len=size) | Io(is_write=False, size=size, count=1):
                vcpu.complete(ANSWER[:size])
            case Mmio() | Io():
                pass
            case _:
                break
    return found


def _said(exits: list[Exit]) -> list[str]:
    """``R4 d0000000``, ``W2 d00007fc 1000``, ``IN1 60``; names for the rest."""
    out = []
    for one in exits:
        match one:
            case Mmio(is_write=True, len=size, phys_addr=gpa, data=data):
                out.append(f"W{size} {gpa:x} {data.hex()}")
            case Mmio(len=size, phys_addr=gpa):
                out.append(f"R{size} {gpa:x}")
            case Io(is_write=True, size=size, port=port, data=data):
                out.append(f"OUT{size} {port:x} {data.hex()}")
            case Io(size=size, port=port):
                out.append(f"IN{size} {port:x}")
            case InternalError(suberror=suberror):
                out.append(f"suberror {suberror}")
            case _:
                out.append(type(one).__name__)
    return out


def _run(code: str, *, kernel: str = "6.1", mode: Mode = "long64", regs: dict[str, int], **more: Any) -> list[str]:
    with Model(kernel, "svm", bench="tcg") as machine:
        return _said(_exits(Guest(mode, bytes.fromhex(code), regs=regs, **more).load(machine)))


@pytest.mark.parametrize(
    ("code", "mode", "regs", "exits"),
    [
        ("0f 00 03", "long64", {"rbx": HOLE}, ["R4 d0000000", "W2 d0000000 0000", "Hlt"]),
        ("1e", "prot32", {"rsp": HOLE + 0x800}, ["W2 d00007fc 1000", "Hlt"]),
        ("6e", "long64", {"rsi": HOLE, "rdx": 0x80}, ["R1 d0000000", "OUT1 80 11", "Hlt"]),
        ("6c", "long64", {"rdi": HOLE, "rdx": 0x80}, ["IN1 80", "W1 d0000000 11", "Hlt"]),
        ("d9 3b", "long64", {"rbx": HOLE}, ["W2 d0000000 7f03", "Hlt"]),
    ],
    ids=["sldt reads first", "push of a selector", "outs from the hole", "ins to the hole", "fnstcw"],
)
def test_accesses(code: str, mode: Mode, regs: dict[str, int], exits: list[str]) -> None:
    """Order, width and data are the emulator's."""
    assert _run(code, mode=mode, regs=regs) == exits


def test_iret_of_real_mode_skips() -> None:
    """Each wait for userspace starts it over, with the stack pointer that it had come to."""
    code = "b8 00 d0 8e d0 bc 00 08 cf"  # mov $0xd000, %ax; mov %ax, %ss; mov $0x800, %sp; iret
    assert _run(code, mode="real16", regs={}, mmio=((0xD0000, 0x1000),))[:3] == ["R2 d0800", "R2 d0802", "R2 d0806"]


@pytest.mark.parametrize(
    ("kernel", "end"), [("5.10", "suberror 1"), ("5.15", "suberror 1"), ("5.18", "R4 d0000800"), ("7.3", "TimedOut")]
)
def test_far_return_to_an_outer_level(kernel: str, end: str) -> None:
    """The selector 0x2211 has RPL 1. Since 5.18 it is found to be beyond the GDT first, which is #GP."""
    with Model(kernel, "svm", bench="tcg") as machine:
        vcpu = Guest("prot32", b"\xcb", regs={"rsp": HOLE + 0x800}).load(machine)
        found = _exits(vcpu, most=3)
    assert _said(found) == ["R4 d0000800", "R4 d0000804", end]


def test_a_table_in_the_hole_can_become_the_operand() -> None:
    """KVM takes the GPA of the exit for the operand's if their offsets in the page agree, and walks if not."""
    for offset, exits in ((0, ["R4 d0001000", "Hlt"]), (8, ["Hlt"])):
        with Model("6.1", "vmx", bench="bochs") as machine:
            vcpu = Guest("long64", bytes.fromhex("8b 03"), regs={"rbx": (1 << 30) + offset}).load(machine)
            root = vcpu.get_sregs().cr3
            upper = int.from_bytes(machine.read(root, 8), "little") & ~0xFFF
            machine.write(upper + 8, (HOLE + 0x1000 | 7).to_bytes(8, "little"))
            assert _said(_exits(vcpu)) == exits


def test_the_block_behind_an_in_runs_once() -> None:
    """IN; add $1, memory: Unicorn goes on to the end of the block before it stops."""
    with Model("6.1", "svm") as machine:
        vcpu = Guest("long64", bytes.fromhex("e4 60 83 03 01"), regs={"rbx": RAM}).load(machine)
        assert _said(_exits(vcpu)) == ["IN1 60", "Hlt"]
        assert machine.read(RAM, 4) == b"\1\0\0\0"


def test_two_ports_in_a_row_at_cpl_3() -> None:
    """IOPL still holds after the first."""
    assert _run("e4 60 e6 80", cpl=3, regs={"rflags": 0x3002})[:2] == ["IN1 60", "OUT1 80 11"]


def test_the_last_instruction_of_ram() -> None:
    """It is carried out, and the fetch of the next one fails."""
    size = 1 << 20
    with Model("6.1", "svm", bench="tcg") as machine:
        vcpu = Guest("long64", b"", memory=size, regs={"rbx": HOLE}).load(machine)
        machine.write(size - 2, bytes.fromhex("8b 03"))
        vcpu.set_regs(replace(vcpu.get_regs(), rip=size - 2))
        found = _exits(vcpu)
    assert _said(found) == ["R4 d0000000", "suberror 1"]
    assert isinstance(found[-1], InternalError)
    assert found[-1].words == (0, 0x400, 0x100000014, size, 0, 0)


@pytest.mark.parametrize(
    ("kernel", "change", "refused"),
    [
        ("5.10", {"cr0": 1 << 31}, False),
        ("6.1", {"cr0": 1 << 31 | 0x10}, True),
        ("6.1", {"efer": 0x500 | 1 << 20}, False),
        ("6.12", {"efer": 0x500 | 1 << 20}, True),
        ("5.10", {"cr3": 1 << 63}, True),
    ],
)
def test_set_sregs_refuses_more_over_time(kernel: str, change: dict[str, int], *, refused: bool) -> None:
    """CR3 in all releases; CR0 in 6.1, not in 5.10; EFER in 6.12, not in 6.1."""
    with Model(kernel, "vmx") as machine:
        vcpu = Guest("long64", b"\x90").load(machine)
        sregs = vcpu.get_sregs()
        if "cr0" in change:
            sregs = replace(sregs, efer=0, cs=replace(sregs.cs, l=0))
        if refused:
            with pytest.raises(RefusedStateError):
                vcpu.set_sregs(replace(sregs, **change))
        else:
            vcpu.set_sregs(replace(sregs, **change))


def test_software_events_are_not_shown() -> None:
    """KVM_GET_VCPU_EVENTS has no place for their length."""
    with Model("7.3", "vmx") as machine:
        vcpu = Guest("long64", b"\xcc", idt=(HOLE, 0xFFF)).load(machine)
        assert _said(_exits(vcpu)) == ["suberror 3"]
        assert vcpu.get_events() == replace(Events(), flags=vcpu.get_events().flags)


def test_shadow_paging_reports_page_faults() -> None:
    """npt=0 and ept=0: #PF is intercepted; its address and error code are the words."""
    expected: dict[Vendor, tuple[int, ...]] = {"svm": (0x4E, 4, HOLE, 0, 0), "vmx": (0, HOLE, 0, 0x80000B0E, 4)}
    for vendor, words in expected.items():
        with Model("6.1", vendor, bench="tcg", shadow_paging=True) as machine:
            machine.enable("KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)
            found = _exits(Guest("long64", bytes.fromhex("d9 03"), cpl=3, regs={"rbx": HOLE}).load(machine))[-1]
        assert isinstance(found, InternalError)
        assert found.words[3:] == words


def test_two_exceptions_at_once() -> None:
    """ept=0, #UD with the IDT in a page that KVM knows as MMIO: suberror 2, which nothing else leads to."""
    with Model("6.1", "vmx", bench="bochs", shadow_paging=True) as machine:
        code = bytes.fromhex("8b 03 0f 0b")
        found = _exits(Guest("long64", code, regs={"rbx": HOLE}, idt=(HOLE, 0xFFF)).load(machine))
    assert _said(found) == ["R4 d0000000", "suberror 2"]
    assert isinstance(found[-1], InternalError)
    assert found[-1].words == (0x80000306, 0x80000B0E, 9, 0)


def test_what_loops_through_kvm_is_not_waited_out() -> None:
    """A run that gets nowhere ends before its time limit; one that works in between goes on."""
    with Model("6.1", "svm") as machine:
        vcpu = Guest("long64", bytes.fromhex("0f 01 03"), regs={"rbx": HOLE}).load(machine)  # sgdt
        assert isinstance(vcpu.run(timeout=1e6), TimedOut)
    with Model("6.1", "svm") as machine:
        # mov $500, %ecx; 1: vmcall, which changes nothing but RAX; loop 1b
        vcpu = Guest("long64", bytes.fromhex("b9 f4 01 00 00 0f 01 d9 e2 fb")).load(machine)
        assert isinstance(vcpu.run(timeout=1e6), Hlt)
