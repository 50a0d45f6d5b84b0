"""An arm64 host: which mode KVM runs in, how wide a guest may be, and what KVM leaves to a VMM."""

from __future__ import annotations

import errno
import os
import platform
import re
from collections.abc import Iterator
from fcntl import ioctl
from typing import Final

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.abi.uname import series_of
from kvmwhy.live.doctor.device import Device
from kvmwhy.live.doctor.finding import Finding
from kvmwhy.live.doctor.kernel_lines import kernel_lines
from kvmwhy.live.host import CpuInfo, read_text

# arch/arm64/kvm/arm.c: kvm_arm_init; "Hyp mode" is nVHE's name up to 6.2 or so.
_MODE: Final = re.compile(r"kvm \[\d{1,7}\]: ((?:Protected )?[nh]?VHE(?:\+NV2)?|Hyp) mode initialized successfully")
_NO_EL2: Final = "HYP mode not available"
_MODES: Final = {
    "VHE": "the host's kernel runs at EL2 itself",
    "Protected": "a protected guest gets an abort where others fail with ENOSYS, and its memory is closed to the VMM",
    "NV2": "guests may be hypervisors themselves: failures in them can be a nested guest's",
}
_SMALL_MODE: Final = "KVM's part at EL2 is separate from the kernel: its panics take the host down"
_GICS: Final = ((5, "GICv2"), (7, "GICv3"), (8, "ITS"))  # KVM_DEV_TYPE_ARM_VGIC_*
_OFFERED: Final = {
    "KVM_CAP_ARM_EL1_32BIT": "32-bit guests",
    "KVM_CAP_ARM_PMU_V3": "a PMU",
    "KVM_CAP_ARM_SVE": "SVE",
    "KVM_CAP_ARM_PTRAUTH_ADDRESS": "pointer authentication",
    "KVM_CAP_ARM_MTE": "memory tags",
    "KVM_CAP_ARM_EL2": "EL2",
}
_SILENT_SINCE: Final = (6, 7)
_PART: Final = re.compile(r"^CPU part\s{0,8}: (0x[0-9a-f]{1,4})$", re.MULTILINE)


def findings(device: Device, cpu: CpuInfo) -> Iterator[Finding]:
    """In the order of what matters."""
    yield from of_mode(kernel_lines(), read_text("/proc/cmdline") or "")
    yield from of_cpus(cpu, read_text("/proc/cpuinfo", 1 << 20) or "")
    if device.capabilities:
        yield from of_capabilities(device.capabilities, platform.release())
        yield from of_gic(gics())


def of_mode(lines: str, command_line: str) -> Iterator[Finding]:
    """By the kernel's log; that may have lost its beginning."""
    if (mode := _MODE.search(lines)) is not None:
        name = "nVHE" if mode[1] == "Hyp" else mode[1]
        words = next((words for key, words in reversed(_MODES.items()) if key in name and name != "nVHE"), _SMALL_MODE)
        if name in {"nVHE", "hVHE"}:
            words = _SMALL_MODE
        yield Finding("mode", "good" if name == "VHE" else "note", f"KVM is built in and runs in {name} mode: {words}")
    elif _NO_EL2 in lines:
        fix = "the firmware, or the hypervisor around this host, must start the kernel at EL2"
        yield Finding(
            "mode", "bad", "the kernel was started at EL1, so that there is no KVM (HYP mode not available)", fix
        )
    elif (chosen := re.search(r"\bkvm-arm\.mode=(\w+)", command_line)) is not None:
        yield Finding(
            "mode", "note", f"the kernel was started with kvm-arm.mode={chosen[1]}; its log says no more of it"
        )
    else:
        yield Finding(
            "mode", "note", "KVM's mode (VHE, nVHE, protected) is not shown: the kernel's log has lost that line"
        )


def of_cpus(cpu: CpuInfo, cpuinfo: str) -> Iterator[Finding]:
    yield Finding("cpu", "good", f"CPU {cpu.model or 'unknown'}")
    parts = sorted(set(_PART.findall(cpuinfo)))
    if len(parts) > 1:
        yield Finding(
            "cpu",
            "note",
            f"CPUs of {len(parts)} kinds ({', '.join(parts)}): a vCPU that moves may fail to enter the guest"
            " (KVM_EXIT_FAIL_ENTRY, reason 1: the PMU is another's)",
            "keep a VM's threads on CPUs of one kind (taskset, or libvirt's vcpupin)",
        )


def of_capabilities(capabilities: dict[str, int], release: str) -> Iterator[Finding]:
    if bits := capabilities.get("KVM_CAP_ARM_VM_IPA_SIZE"):
        yield Finding("ipa", "good", f"guest physical addresses may have {bits} bits (40 unless a VMM asks)")
    if capabilities.get("KVM_CAP_ARM_NISV_TO_USER") and capabilities.get("KVM_CAP_ARM_INJECT_EXT_DABT"):
        text = (
            "accesses that the CPU does not describe can be left to the VMM, which can give the guest an abort for them"
        )
        yield Finding("capabilities", "good", text)
    else:
        text = (
            "no KVM_CAP_ARM_NISV_TO_USER (Linux 5.5): an access that the CPU does not describe always fails with ENOSYS"
        )
        yield Finding("capabilities", "note", text, "a newer kernel")
    if (series_of(release) or (0, 0)) >= _SILENT_SINCE:
        text = "since Linux 6.7 the kernel's log is silent on accesses that the CPU does not describe"
        yield Finding("capabilities", "note", text, "kvmwhy watch, or trace kvm:kvm_mmio_nisv")
    offered = [words for name, words in _OFFERED.items() if capabilities.get(name)]
    if offered:
        yield Finding("capabilities", "good", f"guests can have: {', '.join(offered)}")


def of_gic(kinds: tuple[str, ...]) -> Iterator[Finding]:
    if kinds:
        yield Finding("gic", "good", f"interrupt controllers for guests: {', '.join(kinds)}")
    else:
        text = (
            "KVM has no interrupt controller for guests: QEMU needs kernel-irqchip=off, and only some machines work so"
        )
        yield Finding("gic", "note", text)


def gics(device: str = "/dev/kvm") -> tuple[str, ...]:
    """Asked of a VM that is made for it and ends at once. Empty if it cannot be made."""
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        vm = ioctl(kvm, Ioctl.KVM_CREATE_VM, 0)
    except OSError:
        os.close(kvm)
        return ()
    try:
        return tuple(name for number, name in _GICS if _has(vm, number))
    finally:
        os.close(vm)
        os.close(kvm)


def _has(vm: int, kind: int) -> bool:
    request = bytearray(abi.CREATE_DEVICE.whole.pack(kind, 0, abi.CREATE_DEVICE_TEST))
    try:
        ioctl(vm, Ioctl.KVM_CREATE_DEVICE, request)
    except OSError as error:
        return error.errno == errno.EEXIST
    return True
