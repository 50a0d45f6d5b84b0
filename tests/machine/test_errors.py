"""Errors before any guest runs: each says which, why and what to do, and is the builtin that fits."""

import errno
from pathlib import Path

import pytest

from kvmwhy.abi.uname import arch_of
from kvmwhy.live.doctor.device import ask_device
from kvmwhy.machine import (
    BusyError,
    Guest,
    GuestError,
    ImageTooLargeError,
    IoctlError,
    KvmMachine,
    MachineError,
    Mode,
    NoKvmError,
    NotPermittedError,
    RefusedStateError,
    RegisterError,
    SlotAlignmentError,
    UnknownModeError,
    errors,
    ioctl_errors,
)
from kvmwhy.machine.memory import Memory


def test_every_error_is_a_machine_error_and_a_builtin() -> None:
    """``except MachineError`` takes all, and so does ``except (OSError, ValueError)``."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 15
    for kind in kinds:
        assert issubclass(kind, MachineError)
        assert kind is MachineError or issubclass(kind, (OSError, ValueError))


def test_no_dev_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absent device is NoKvmError, a FileNotFoundError, with what to load."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(NoKvmError, match=r"no /dev/kvm: load kvm_intel or kvm_amd") as caught:
        KvmMachine(str(tmp_path / "kvm"))
    assert isinstance(caught.value, FileNotFoundError)
    assert (caught.value.ioctl, caught.value.errno) == ("open", errno.ENOENT)


def test_a_device_that_is_not_kvm() -> None:
    """Another device answers the first ioctl with ENOTTY, which is passed on by name."""
    with pytest.raises(IoctlError, match=r"KVM_GET_API_VERSION failed with ENOTTY"):
        KvmMachine("/dev/null")


@pytest.mark.parametrize(
    ("ioctl", "number", "kind", "text"),
    [
        ("open", errno.EACCES, NotPermittedError, "not permitted: /dev/kvm: join the group"),
        ("open", errno.EPERM, NotPermittedError, "the container or sandbox"),
        ("open", errno.ENODEV, NoKvmError, "no virtualization behind /dev/kvm: switch VT-x or SVM on"),
        ("open", errno.EMFILE, IoctlError, "open failed with EMFILE"),
        ("KVM_CREATE_VM", errno.ENOMEM, IoctlError, "the host is out of memory"),
        ("KVM_SET_SREGS", errno.EINVAL, RefusedStateError, "CR0, CR4 and EFER"),
        ("KVM_RUN", errno.EIO, IoctlError, "another process"),
        ("KVM_RUN", 9999, IoctlError, "KVM_RUN failed with 9999"),
    ],
)
def test_an_errno_becomes_advice(
    ioctl: str, number: int, kind: type[IoctlError], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the class that fits; its text has the ioctl or device, the errno and the advice."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    error = ioctl_errors.refused(ioctl, OSError(number, "x"))
    assert type(error) is kind
    assert text in str(error)
    assert (error.ioctl, error.errno) == (ioctl, number)


@pytest.mark.parametrize(
    ("machine", "number", "words"),
    [
        ("aarch64", errno.ENOENT, "start the kernel at EL2"),  # KVM is built in there: no module to load
        ("aarch64", errno.ENODEV, "start the kernel at EL2"),
        ("aarch64", errno.ENXIO, "start the kernel at EL2"),
        ("riscv64", errno.ENOENT, "load kvm; it takes a CPU with the hypervisor extension"),
        ("riscv64", errno.ENXIO, "load kvm"),
    ],
)
def test_a_host_without_kvm_gets_the_advice_of_its_architecture(
    machine: str, number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of x86 on another host, and the same words from `kvmwhy doctor`."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    advice = ioctl_errors.refused("open", OSError(number, "x")).advice
    assert advice.startswith(words)
    assert not any(name in advice for name in ("kvm_intel", "VT-x", "VMX", "model"))
    if number == errno.ENOENT:
        assert ask_device(str(tmp_path / "kvm"), arch=arch_of(machine)).fix == advice


def test_busy_names_the_other_hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EBUSY from KVM_CREATE_VM names the module that holds the CPU, or says that it cannot."""
    modules = tmp_path / "modules"
    modules.write_text(
        "vboxnetflt 32768 0 - Live 0x0 (OE)\nvboxdrv 696320 2 vboxnetflt, Live 0x0 (OE)\nkvm 1 0 - Live 0\n"
    )
    assert ioctl_errors.holders(modules) == ("vboxdrv",)
    assert ioctl_errors.holders(tmp_path / "none") == ()
    for found, text in ((("vboxdrv",), "the module vboxdrv holds VMX or SVM"), ((), "another hypervisor holds")):
        monkeypatch.setattr(ioctl_errors, "holders", lambda found=found: found)
        error = ioctl_errors.refused("KVM_CREATE_VM", OSError(errno.EBUSY, "x"))
        assert isinstance(error, BusyError)
        assert text in str(error)
        assert error.holders == found


@pytest.mark.parametrize(
    ("gpa", "size", "text"),
    [
        (0x800, 0x1000, "0x1000 bytes at 0x800 is not made of whole pages: pages are 4096 bytes"),
        (0x1000, 0x801, "0x801 bytes at 0x1000 is not"),
        (0x1000, 0, "is empty"),
        (0x1000, -0x1000, "is empty"),
        (-0x1000, 0x2000, "leaves the 64-bit address space"),
        ((1 << 64) - 0x1000, 0x2000, "leaves the 64-bit address space"),
    ],
)
def test_slots_that_cannot_be(gpa: int, size: int, text: str) -> None:
    """Unaligned, empty and out of this world: refused with numbers, and nothing is kept."""
    memory = Memory()
    with pytest.raises(errors.SlotError, match=text) as caught:
        memory.add(gpa, size, readonly=False, data=b"")
    assert (caught.value.gpa, caught.value.size) == (gpa, size)
    assert memory.slots == ()


def test_data_larger_than_its_slot() -> None:
    """The slot is not made."""
    memory = Memory()
    with pytest.raises(ImageTooLargeError, match=r"5000 bytes, and from 0x0 there are 4096"):
        memory.add(0, 4096, readonly=False, data=bytes(5000))
    assert memory.slots == ()


def test_an_unknown_mode_lists_the_known() -> None:
    """The modes that there are come with the refusal."""
    mode: Mode = "prot64"  # type: ignore[assignment]  # the mistake under test
    with pytest.raises(UnknownModeError, match="unknown mode 'prot64': one of real16, prot32, long64"):
        Guest(mode, b"")


def test_an_image_larger_than_memory() -> None:
    """Sizes on both sides are in the message, and the image fits once there is room."""
    with pytest.raises(ImageTooLargeError, match=r"has 65537 bytes, and from 0x10000 there are 65536 of memory"):
        Guest("prot32", bytes(65537), memory=0x20000)
    with pytest.raises(ImageTooLargeError, match="there are 0 of memory"):
        Guest("prot32", b"\x90", memory=0x1000)
    Guest("prot32", bytes(65536), memory=0x20000)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"cpl": 1}, GuestError, "CPL is 1: 0 or 3"),
        ({"mode": "real16", "cpl": 3}, GuestError, "real mode has no CPL 3"),
        ({"memory": 0x10001}, SlotAlignmentError, "0x10001 bytes of memory are not whole pages"),
        ({"memory": 0}, SlotAlignmentError, "not whole pages"),
        ({"mmio": ((0xB0001, 0x1000),)}, SlotAlignmentError, "a hole of 0x1000 bytes at 0xb0001"),
        ({"mmio": ((0x10000, 0x1000),)}, GuestError, "would take the guest's own tables, stack or code"),
        ({"mmio": ((0, 0x1000),)}, GuestError, "the hole at 0x0"),
        ({"origin": 0x1000}, GuestError, "code cannot start at 0x1000: from 0xb000 on, in steps of 16"),
        ({"origin": 0x10001}, GuestError, "in steps of 16"),
        ({"mode": "real16", "origin": 0x100000, "memory": 1 << 21}, GuestError, "real mode ends at 1 MiB"),
        ({"regs": {"eax": 1}}, RegisterError, "there is no register 'eax'"),
        ({"regs": {"rax": 1 << 64}}, RegisterError, "rax has 64 bits"),
        ({"mode": "prot32", "regs": {"rax": 1 << 32}}, RegisterError, "rax has 32 bits"),
        ({"regs": {"rax": -1}}, RegisterError, "values are unsigned"),
        ({"idt": (0, 0x10000)}, RegisterError, "idt limit has 16 bits"),
        ({"xcr0": 7, "cpuid": False}, GuestError, "XCR0 needs CPUID"),
    ],
)
def test_a_guest_that_contradicts_itself(options: dict[str, object], kind: type[MachineError], text: str) -> None:
    """Every contradiction is found when the guest is built, without a machine."""
    with pytest.raises(kind) as caught:
        Guest(**{"mode": "long64", "code": b"\x90", **options})  # type: ignore[arg-type]  # the mistakes under test
    assert text in str(caught.value)


def test_holes_leave_the_ram_around_them() -> None:
    """RAM is what lies between the holes, in order, whatever the order of the holes."""
    guest = Guest("prot32", b"\x90", memory=0x100000, mmio=((0xC0000, 0x2000), (0xA0000, 0x10000), (0xFF000, 0x9000)))
    assert guest.ram == ((0, 0xA0000), (0xB0000, 0x10000), (0xC2000, 0x3D000))
