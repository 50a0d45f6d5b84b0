"""Regenerate tests/fixtures/truths: failures whose cause is known, since they were caused on purpose, on this host.

    python tools/capture_truths.py [NAME ...]

Each has what the VMM printed and a provenance with what was done and whose doing it was. QEMU's text is QEMU's own.
Set-ups that KVM refuses are asked for by a small VMM here. It prints them as perror(3) does, and exits as the example
of LWN's "Using the KVM API" does. Needs root, /dev/kvm and QEMU.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TRUTHS = ROOT / "tests" / "fixtures" / "truths"
sys.path[:0] = [os.fspath(ROOT / "tests"), os.fspath(ROOT / "tools")]

from capture_fixtures import host, short  # noqa: E402

from guests import boot, qemu, wild  # noqa: E402  # found by the line above

LIMIT: Final = 12.0  # seconds, for one scenario


class Truth(NamedTuple):
    """What is done, and what it is: ``origins`` has more than one where an expert could name either."""

    name: str
    does: str
    mechanism: str
    origins: tuple[str, ...]
    run: Callable[[], tuple[list[str], str]]  # the command as it may be kept, and the text
    traced: bool = False  # KVM's events of QEMU are kept as well


# -- QEMU ------------------------------------------------------------------------------------------


def _on_ram_that_ends(insn: str | None) -> bytes:
    """Firmware that takes 8 MiB for RAM: it loads a float from there by ``insn``, or jumps there."""
    code = boot._prot32()  # noqa: SLF001
    code.load_bx(8 << 20)
    code.emit("ff e3" if insn is None else insn)
    code.survive()
    return boot._image(code, idt_base=boot.IDT, idt_limit=0)  # noqa: SLF001


def _wild(name: str) -> Callable[[], tuple[list[str], str]]:
    """A guest of tests/guests/wild.py."""
    guest = wild.WILD[name]
    return lambda: _qemu(guest.image, *guest.options, "-smp", str(guest.smp), memory=guest.memory)


def _qemu(
    image: bytes,
    *options: str,
    memory: str = "64M",
    prefix: tuple[str, ...] = (),
) -> tuple[list[str], str]:
    """Run it for as long as it goes on, five seconds at most."""
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as directory:
        os.chmod(directory, 0o777)  # noqa: S103  # one scenario runs as another user
        firmware, monitor, log = (Path(directory, name) for name in ("firmware.bin", "qmp", "log"))
        firmware.write_bytes(image)
        command = [*prefix, *qemu.command_for(firmware, monitor, memory), *options]
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            _go_on(process, monitor)
        finally:
            process.kill()
            process.wait()
        text = log.read_text(encoding="utf-8", errors="surrogateescape").replace(directory + "/", "")
        return [short(argument) for argument in command], "".join(text.splitlines(keepends=True)[:60])


def _go_on(process: subprocess.Popen[bytes], monitor: Path) -> None:
    """Let QEMU start the guest, and wait. A client must be there, or QEMU does not begin."""
    end = time.monotonic() + LIMIT
    with socket.socket(socket.AF_UNIX) as connection:
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                connection.connect(os.fspath(monitor))
                break
            time.sleep(0.02)
        end = min(end, time.monotonic() + 5)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)


# -- a small VMM -----------------------------------------------------------------------------------

_CREATE_VM, _CREATE_VCPU, _RUN, _MMAP_SIZE = 0xAE01, 0xAE41, 0xAE80, 0xAE04
_SET_REGION, _GET_SREGS, _SET_SREGS, _SET_REGS = 0x4020AE46, 0x8138AE83, 0x4138AE84, 0x4090AE82
_SET_XCRS, _SET_VCPU_EVENTS, _SET_CPUID2 = 0x4188AEA7, 0x4040AEA0, 0x4008AE90
_ENABLE_CAP, _IRQ_LINE, _SET_TSS_ADDR, _CREATE_IRQCHIP = 0x4068AEA3, 0x4008AE61, 0xAE47, 0xAE60
_SREGS = 312
_CS, _CR0, _CR4, _EFER = 0, 224, 248, 264  # struct kvm_sregs: eight segments of 24, two tables of 16, then CRs
_L, _DB = 17, 15  # of struct kvm_segment: l, db


class _Vm:
    """A VM with 64 KiB of RAM at 0, and a vCPU. What KVM refuses is said as perror(3) says it."""

    def __init__(self) -> None:
        self.kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        self.vm = fcntl.ioctl(self.kvm, _CREATE_VM, 0)
        self.ram = mmap.mmap(-1, 1 << 16)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.ram))
        self.said: list[str] = []

    def ask(self, name: str, file: int, request: int, argument: int | bytes | bytearray = 0) -> int | None:
        try:
            answer = fcntl.ioctl(file, request, argument)
        except OSError as error:
            self.said.append(f"{name}: {os.strerror(error.errno or 0)}")
            return None
        return answer if isinstance(answer, int) else 0

    def region(
        self, slot: int = 0, flags: int = 0, at: int = 0, size: int = 1 << 16, address: int | None = None
    ) -> None:
        where = self.address if address is None else address
        self.ask(
            "KVM_SET_USER_MEMORY_REGION", self.vm, _SET_REGION, struct.pack("<IIQQQ", slot, flags, at, size, where)
        )

    def vcpu(self, number: int = 0) -> int | None:
        return self.ask("KVM_CREATE_VCPU", self.vm, _CREATE_VCPU, number)

    def first(self) -> int:
        return fcntl.ioctl(self.vm, _CREATE_VCPU, 0)

    def sregs(self, vcpu: int, *changes: Callable[[bytearray], None]) -> None:
        sregs = bytearray(_SREGS)
        fcntl.ioctl(vcpu, _GET_SREGS, sregs)
        for change in changes:
            change(sregs)
        self.ask("KVM_SET_SREGS", vcpu, _SET_SREGS, bytes(sregs))

    def go(self, vcpu: int, rip: int) -> None:
        """Run it, and say of its exit what LWN's example says."""
        self.ask("KVM_SET_REGS", vcpu, _SET_REGS, struct.pack("<18Q", *[0] * 16, rip, 2))
        with mmap.mmap(vcpu, fcntl.ioctl(self.kvm, _MMAP_SIZE)) as page:
            if self.ask("KVM_RUN", vcpu, _RUN) is None:
                return
            reason, suberror = struct.unpack_from("<I", page, 8)[0], struct.unpack_from("<I", page, 32)[0]
            if reason == 17:
                self.said.append(f"KVM_EXIT_INTERNAL_ERROR: suberror = {suberror:#x}")
            else:
                self.said.append(f"exit_reason = {reason:#x}")

    def text(self) -> tuple[list[str], str]:
        return ["a small VMM of tools/capture_truths.py"], "".join(f"vmm: {line}\n" for line in self.said[:1])


def _put(at: int, form: str, value: int) -> Callable[[bytearray], None]:
    return lambda sregs: struct.pack_into(form, sregs, at, value)


def _refused_sregs(*changes: Callable[[bytearray], None]) -> Callable[[], tuple[list[str], str]]:
    def run() -> tuple[list[str], str]:
        vm = _Vm()
        vm.region()
        vcpu = vm.first()
        vm.sregs(vcpu, *changes)
        return vm.text()

    return run


def _vm(*acts: Callable[[_Vm], object]) -> Callable[[], tuple[list[str], str]]:
    def run() -> tuple[list[str], str]:
        vm = _Vm()
        for act in acts:
            act(vm)
        return vm.text()

    return run


def _run_unmapped(vm: _Vm) -> None:
    """The region's memory is taken away by munmap(2) before the vCPU runs in it."""
    taken = mmap.mmap(-1, 1 << 16)
    address = ctypes.addressof(ctypes.c_char.from_buffer(taken))
    vm.region(address=address)
    vcpu = vm.first()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(1 << 16))
    vm.sregs(vcpu, _flat)
    vm.go(vcpu, 0x1000)
    libc.mmap(ctypes.c_void_p(address), ctypes.c_size_t(1 << 16), 0, 0x32, -1, 0)  # so that Python may unmap it again


def _set_xcr0(value: int) -> Callable[[_Vm], None]:
    """struct kvm_xcrs: how many, flags, sixteen of xcr, reserved and value, padding."""
    return lambda vm: _ask(vm, "KVM_SET_XCRS", _SET_XCRS, struct.pack("<IIIIQ", 1, 0, 0, 0, value) + bytes(368))


def _inject_vector_32(vm: _Vm) -> None:
    _ask(vm, "KVM_SET_VCPU_EVENTS", _SET_VCPU_EVENTS, struct.pack("<BBBB", 1, 32, 0, 0) + bytes(60))


def _ask(vm: _Vm, name: str, request: int, argument: bytes) -> None:
    vm.ask(name, vm.first(), request, argument)


def _flat(sregs: bytearray) -> None:
    struct.pack_into("<QIH", sregs, _CS, 0, 0xFFFF, 0)


def _run_at_reset(vm: _Vm) -> None:
    """The vCPU is run as it is made: nobody put memory where the reset vector is."""
    vm.region()
    vcpu = vm.first()
    vm.go(vcpu, 0xFFF0)


def _triple_fault(vm: _Vm) -> None:
    """Protected mode with an empty IDT, and UD2."""
    vm.ram[0x1000:0x1002] = b"\x0f\x0b"
    vm.region()
    vcpu = vm.first()

    def protected(sregs: bytearray) -> None:
        _flat(sregs)
        struct.pack_into("<BB", sregs, _CS + 14, 11, 1)  # type, present
        struct.pack_into("<Q", sregs, _CR0, 0x11)
        struct.pack_into("<QH", sregs, 8 * 24 + 16, 0, 0)  # an empty IDT

    vm.sregs(vcpu, protected)
    vm.go(vcpu, 0x1000)


_HIDE: Final = 'mount -t tmpfs none /dev; exec "$@"'

SCENARIOS: Final = (
    Truth("no-rights", "QEMU runs as a user who may not open /dev/kvm", "setup-refused", ("host-setup",),
          lambda: _qemu(b"\xf4" * 65536, prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))),
    Truth("no-device", "QEMU runs where there is no /dev/kvm", "setup-refused", ("host-setup",),
          lambda: _qemu(b"\xf4" * 65536, prefix=("unshare", "-m", "sh", "-c", _HIDE, "sh"))),
    Truth("sev-wrong-bit", "an SEV guest is asked for with another C-bit than the host's", "setup-refused",
          ("vm-configuration", "host-setup", "confidential-stack"),
          lambda: _qemu(b"\xf4" * 65536, "-machine", "confidential-guest-support=sev0", "-object",
                        "sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=1")),
    Truth("float-beyond-ram", "firmware that wants 16 MiB loads a float above the 4 MiB that it has",
          "emulation-no-handler", ("vm-configuration", "guest-code", "guest-firmware"),
          lambda: _qemu(_on_ram_that_ends("d9 03"), memory="4M")),
    Truth("jump-beyond-ram", "firmware that wants 16 MiB jumps above the 4 MiB that it has", "fetch-not-ram",
          ("vm-configuration", "guest-code", "guest-firmware"), lambda: _qemu(_on_ram_that_ends(None), memory="4M")),
    Truth("sregs-efer-without-pae", "EFER.LMA and LME without CR4.PAE", "setup-refused", ("vmm",),
          _refused_sregs(_put(_EFER, "<Q", 0x500), _put(_CR0, "<Q", 0x8000_0011))),
    Truth("sregs-cr4-reserved", "a bit of CR4 that no CPU has", "setup-refused", ("vmm",),
          _refused_sregs(_put(_CR4, "<Q", 1 << 40))),
    Truth("sregs-cr0-reserved", "a bit of CR0's upper half", "setup-refused", ("vmm",),
          _refused_sregs(_put(_CR0, "<Q", 1 << 40 | 0x10))),
    Truth("region-overlaps", "two slots at one guest address", "setup-refused", ("vmm",),
          _vm(_Vm.region, lambda vm: vm.region(slot=1))),
    Truth("region-unaligned", "a slot that begins inside a page", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.region(at=0x100))),
    Truth("region-size-odd", "a slot whose size is no multiple of a page", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.region(size=0x1100))),
    Truth("region-unknown-flag", "a slot with a flag that does not exist", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.region(flags=1 << 20))),
    Truth("region-slot-too-high", "a slot number beyond KVM's limit", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.region(slot=0xFFFF))),
    Truth("vcpu-twice", "a vCPU is made twice", "setup-refused", ("vmm",), _vm(_Vm.vcpu, _Vm.vcpu)),
    Truth("vcpu-id-too-high", "a vCPU with an id beyond KVM's limit", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.vcpu(1 << 20))),
    Truth("memory-unmapped", "the VMM unmaps guest memory and runs", "emulation-failed", ("vmm",),
          _vm(_run_unmapped)),
    Truth("run-at-reset", "the VMM runs a vCPU without memory at its reset vector", "emulation-failed", ("vmm",),
          _vm(_run_at_reset)),
    Truth("triple-fault", "UD2 in protected mode with an empty IDT", "triple-fault", ("guest-code",),
          _vm(_triple_fault)),
    *(Truth(name, wild.WILD[name].does, "fetch-not-ram", ("vmm-race",), _wild(name), traced=True)
      for name in ("slot-race-1", "slot-race-3")),
    *(Truth(name, wild.WILD[name].does, "fetch-not-ram", ("guest-firmware", "guest-code"), _wild(name))
      for name in ("ap-astray", "ap-half-reset")),
    Truth("xcrs-without-x87", "XCR0 without its bit for x87", "setup-refused", ("vmm",), _vm(_set_xcr0(0))),
    Truth("xcrs-avx-without-sse", "XCR0 with AVX and without SSE", "setup-refused", ("vmm",), _vm(_set_xcr0(5))),
    Truth("regs-of-no-vcpu", "KVM_SET_REGS asked of the VM's file", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.ask("KVM_SET_REGS", vm.vm, _SET_REGS, bytes(144)))),
    Truth("events-exception-32", "an exception with vector 32 to be injected", "setup-refused", ("vmm",),
          _vm(_inject_vector_32)),
    Truth("cpuid-too-long", "a table of CPUID with 257 entries", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.ask("KVM_SET_CPUID2", vm.first(), _SET_CPUID2, struct.pack("<II", 257, 0) + bytes(40)))),
    Truth("cap-unknown", "a capability that no kernel has is to be enabled", "setup-refused", ("vmm", "host-kernel"),
          _vm(lambda vm: vm.ask("KVM_ENABLE_CAP", vm.vm, _ENABLE_CAP, struct.pack("<II", 4095, 0) + bytes(96)))),
    Truth("irq-line-without-chip", "an interrupt line, and no interrupt controller in the kernel", "setup-refused",
          ("vmm",), _vm(lambda vm: vm.ask("KVM_IRQ_LINE", vm.vm, _IRQ_LINE, struct.pack("<II", 1, 1)))),
    Truth("tss-address-too-high", "the pages for real mode at the end of the address space", "setup-refused", ("vmm",),
          _vm(lambda vm: vm.ask("KVM_SET_TSS_ADDR", vm.vm, _SET_TSS_ADDR, -0x1000))),
    Truth("irqchip-after-vcpu", "an interrupt controller is made after a vCPU", "setup-refused", ("vmm",),
          _vm(_Vm.vcpu, lambda vm: vm.ask("KVM_CREATE_IRQCHIP", vm.vm, _CREATE_IRQCHIP, 0))),
    Truth("vm-type-unknown", "a VM of a type that does not exist", "setup-refused", ("vmm", "vm-configuration"),
          _vm(lambda vm: vm.ask("KVM_CREATE_VM", vm.kvm, _CREATE_VM, 77))),
)  # fmt: skip


@contextlib.contextmanager
def _traced() -> Iterator[list[str]]:
    """KVM's events meanwhile, of an instance of tracefs that is mounted for this alone; what is kept is their end."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as mount:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", mount], check=True)
        instance = Path(mount, "instances", f"kvmwhy-{os.getpid()}")
        try:
            instance.mkdir()
            (instance / "options/event-fork").write_text("1")
            (instance / "set_event_pid").write_text(str(os.getpid()))
            (instance / "events/kvm/enable").write_text("1")
            yield lines
            (instance / "events/kvm/enable").write_text("0")
            seen = (instance / "trace").read_text(errors="replace").splitlines(keepends=True)
            head = [line for line in seen if line.startswith("#")]
            events = [line for line in seen if not line.startswith("#")]
            end = next((n for n, line in enumerate(events) if "INTERNAL_ERROR" in line), len(events) - 1) + 1
            lines += head + events[max(0, end - 40) : end]
        finally:
            instance.rmdir()
            subprocess.run(["umount", mount], check=True)


def keep(truth: Truth, bench: dict[str, Any]) -> str:
    """Run it and keep it; return what it printed, or nothing."""
    with _traced() if truth.traced else contextlib.nullcontext(list[str]()) as trace:
        command, text = truth.run()
    if not text.strip():
        return ""
    case = TRUTHS / truth.name
    case.mkdir(parents=True, exist_ok=True)
    if trace:
        (case / "trace.txt").write_text("".join(trace), encoding="utf-8")
    (case / "vmm.log").write_text(text, encoding="utf-8", errors="surrogateescape")
    provenance = {
        "does": truth.does,
        "mechanism": truth.mechanism,
        "origins": list(truth.origins),
        "bench": bench,
        "command": command,
    }
    (case / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="*", help="default: all of them")
    chosen = parser.parse_args().name
    if reason := qemu.unavailable():
        print(f"capture_truths: {reason}", file=sys.stderr)
        return 3
    bench, failed = host(), False
    for truth in SCENARIOS:
        if chosen and truth.name not in chosen:
            continue
        text = keep(truth, bench)
        failed = failed or not text
        print(f"{truth.name}: {text.splitlines()[0] if text else 'printed nothing: not kept'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
