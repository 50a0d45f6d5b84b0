"""What this host offers to KVM and to kvmwhy, and what would stop a diagnosis: findings, each with its remedy."""

from __future__ import annotations

import os
import platform
import re
import stat
from collections.abc import Iterator
from fcntl import ioctl
from typing import Final, Literal, NamedTuple

from kvmwhy.abi.ioctl import API_VERSION, CAPABILITIES, Ioctl
from kvmwhy.live import tracefs as tracing
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.host import CpuInfo, Module, cpu_info, hypervisor, modules, read_text, rivals, vendor_of

Grade = Literal["good", "note", "bad"]

_CAP_SYS_PTRACE: Final = 19
_DEVICE: Final = "/dev/kvm"


class Finding(NamedTuple):
    """``topic`` and ``grade`` are for programs; ``fix`` says what to change, if anything is to be."""

    topic: str
    grade: Grade
    text: str
    fix: str | None = None


class Device(NamedTuple):
    """What /dev/kvm answered. ``problem``: why it could not be asked."""

    problem: str | None = None
    fix: str | None = None
    permitted: bool = True
    api_version: int | None = None
    capabilities: dict[str, int] = {}  # noqa: RUF012 -- a NamedTuple's default, never changed


class Checkup(NamedTuple):
    kernel: str
    cpu: CpuInfo
    vendor: str | None
    modules: tuple[Module, ...]
    device: Device
    findings: tuple[Finding, ...]


def check_up(tracefs: str | None = None) -> Checkup:
    """Look at everything; never raises."""
    cpu, loaded, device = cpu_info(), modules(), ask_device()
    findings = [
        *_device(device, loaded),
        *_capabilities(device),
        *_cpu(cpu, loaded),
        *(finding for module in loaded for finding in of_module(module)),
        *_rivals(),
        *_tracefs(tracefs),
        *_memory(),
    ]
    return Checkup(platform.release(), cpu, vendor_of(loaded)[0], loaded, device, tuple(findings))


# -- /dev/kvm --------------------------------------------------------------------------------------


def ask_device(path: str = _DEVICE) -> Device:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, PermissionError):
            return Device(f"not permitted to open {path}{_owner(path)}", "join the group that owns it", permitted=False)
        said = (error.strerror or str(error)).lower()
        return Device(f"{path}: {said}", "load kvm_intel or kvm_amd; switch VT-x or SVM on in the firmware")
    try:
        version = ioctl(fd, Ioctl.KVM_GET_API_VERSION, 0)
        answers = {}
        for name, info in CAPABILITIES.items():
            try:
                answers[name] = ioctl(fd, Ioctl.KVM_CHECK_EXTENSION, info.number)
            except OSError:
                continue
    except OSError as error:
        return Device(f"{path} does not answer as KVM does: {error.strerror}")
    finally:
        os.close(fd)
    return Device(api_version=version, capabilities=answers)


def _owner(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return ""
    return f" ({stat.filemode(info.st_mode)}, user {info.st_uid}, group {info.st_gid})"


def _device(device: Device, loaded: tuple[Module, ...]) -> Iterator[Finding]:
    if device.problem:
        yield Finding("kvm", "bad", device.problem, device.fix)
    elif device.api_version != API_VERSION:
        yield Finding("kvm", "bad", f"KVM's API has version {device.api_version}, not {API_VERSION}")
    else:
        yield Finding("kvm", "good", f"{_DEVICE} may be used, API version {device.api_version}")
    names = [module.name for module in loaded]
    if names == ["kvm"]:
        yield Finding("kvm", "bad", "kvm is there without kvm_intel or kvm_amd", "modprobe kvm_intel, or kvm_amd")
    elif not names:
        yield Finding("kvm", "bad", "this kernel shows no KVM module", "modprobe kvm_intel, or kvm_amd")


def _capabilities(device: Device) -> Iterator[Finding]:
    if not device.capabilities:
        return
    if not device.capabilities.get("KVM_CAP_INTERNAL_ERROR_DATA"):
        yield Finding("capabilities", "bad", "this KVM reports no words with an internal error")
    if not device.capabilities.get("KVM_CAP_EXIT_ON_EMULATION_FAILURE"):
        yield Finding(
            "capabilities",
            "note",
            "no KVM_CAP_EXIT_ON_EMULATION_FAILURE (Linux 5.14): failed emulations report no instruction bytes, and in "
            "user mode they stay silent #UD",
            "a newer kernel",
        )
    else:
        yield Finding("capabilities", "good", "failed emulations report their instruction bytes (Linux 5.14 and later)")


# -- the CPU and its modules -----------------------------------------------------------------------


def _cpu(cpu: CpuInfo, loaded: tuple[Module, ...]) -> Iterator[Finding]:
    model = f"{cpu.model or cpu.vendor_id or 'unknown'} ({cpu.signature or 'no signature'})"
    yield Finding("cpu", "good", f"CPU {model}, microcode {cpu.microcode or 'not shown'}")
    if not cpu.flags & {"vmx", "svm"} and not any(module.name == "kvm_pvm" for module in loaded):
        yield Finding(
            "cpu", "bad", "the CPU shows neither vmx nor svm", "switch VT-x or SVM on in the firmware, or nesting on"
        )
    if named := hypervisor(cpu):
        text = f"this host is itself a virtual machine ({named}): an entry failure may be the outer hypervisor's doing"
        yield Finding("hypervisor", "note", text)


# parameter: (the values that are worth a word, the grade, what it means, what to change)
_PARAMETERS: Final[dict[str, tuple[str, Grade, str, str | None]]] = {
    "unrestricted_guest": (
        "N0", "note", "real mode and its like are emulated, so that early boot code fails where the emulator ends",
        "modprobe kvm_intel unrestricted_guest=1 (and ept=1), if the CPU is of 2010 or later",
    ),
    "ept": ("N0", "note", "shadow paging: slow, and other failures than with EPT", "modprobe kvm_intel ept=1"),
    "npt": ("N0", "note", "shadow paging: slow, and other failures than with NPT", "modprobe kvm_amd npt=1"),
    "emulate_invalid_guest_state": (
        "N0", "note", "a state that the CPU refuses ends in hardware error 0x80000021 instead of being emulated",
        "modprobe kvm_intel emulate_invalid_guest_state=1",
    ),
    "dump_invalid_vmcs": (
        "N0", "note", "an entry failure leaves no VMCS in the kernel's log, and only that names the broken field",
        "echo 1 > /sys/module/kvm_intel/parameters/dump_invalid_vmcs",
    ),
    "dump_invalid_vmcb": (
        "N0", "note", "an entry failure leaves no VMCB in the kernel's log, and only that names the broken field",
        "echo 1 > /sys/module/kvm_amd/parameters/dump_invalid_vmcb",
    ),
    "nested": ("Y1", "note", "guests may be hypervisors themselves: failures in them can be a nested guest's", None),
    "ignore_msrs": ("Y1", "note", "accesses to unknown MSRs are made up instead of answered with #GP", None),
    "enable_vmware_backdoor": ("Y1", "note", "#GP is intercepted for VMware's backdoor, and more is emulated", None),
    "force_emulation_prefix": ("Y123", "note", 'guests can force emulation (ud2; .ascii "kvm"): a test setting', None),
}  # fmt: skip


def of_module(module: Module) -> Iterator[Finding]:
    """What its parameters mean for failures."""
    for name, value in module.parameters.items():
        known = _PARAMETERS.get(name)
        if known is None:
            continue
        if value is None:
            yield Finding("module", "note", f"{module.name}.{name} may not be read")
        elif value[:1] and value[:1] in known[0]:
            yield Finding("module", known[1], f"{module.name} {name}={value[:8]}: {known[2]}", known[3])


def _rivals() -> Iterator[Finding]:
    for name, product in rivals().items():
        yield Finding(
            "other-hypervisor",
            "bad",
            f"{product} ({name}) is loaded: whoever uses VT-x or SVM first keeps the other from it",
            "unload it while KVM is used",
        )


# -- what kvmwhy itself needs ----------------------------------------------------------------------


def _tracefs(given: str | None) -> Iterator[Finding]:
    try:
        root = tracing.find_root(given)
    except CaptureError as error:
        yield Finding("tracefs", "bad", f"`kvmwhy watch` cannot work: {error}")
        return
    missing = [name for name in tracing.FAILURES if not os.path.isdir(f"{root}/events/kvm/{name}")]
    if missing:
        yield Finding("tracefs", "bad", f"{root} has no KVM events ({', '.join(missing)})", "load KVM's modules")
    elif not os.access(f"{root}/instances", os.W_OK):
        yield Finding(
            "tracefs",
            "bad",
            f"no write access to {root}/instances",
            "run `kvmwhy watch` with CAP_DAC_OVERRIDE, as docs/capture.md sets it up",
        )
    else:
        yield Finding("tracefs", "good", f"{root} may be used, with KVM's events")
    lockdown = re.search(r"\[(\w+)\]", read_text("/sys/kernel/security/lockdown") or "")
    if lockdown and lockdown[1] == "confidentiality":
        yield Finding("tracefs", "bad", "the kernel is locked down for confidentiality: no tracing at all")


def _memory() -> Iterator[Finding]:
    status = read_text("/proc/self/status", 16 << 10) or ""
    effective = re.search(r"^CapEff:\s([0-9a-f]{16})$", status, re.MULTILINE)
    may_trace = bool(effective and int(effective[1], 16) >> _CAP_SYS_PTRACE & 1)
    scope = read_text("/proc/sys/kernel/yama/ptrace_scope")
    if may_trace and scope != "3":
        yield Finding("memory", "good", "pages of any VMM may be read (CAP_SYS_PTRACE)")
    elif scope in {None, "0"}:
        yield Finding("memory", "note", "pages of your own VMMs may be read; others take CAP_SYS_PTRACE")
    elif scope == "3":
        yield Finding("memory", "bad", "kernel.yama.ptrace_scope=3: nobody reads another process before a reboot")
    else:
        yield Finding(
            "memory",
            "bad",
            f"kernel.yama.ptrace_scope={scope}: `kvmwhy attach` and `watch` cannot read a VMM's pages",
            "run it with CAP_SYS_PTRACE",
        )
    if re.search(
        r"^\S+ /proc proc \S*hidepid=(?:[124]|\w*invis)", read_text("/proc/mounts", 1 << 20) or "", re.MULTILINE
    ):
        yield Finding("memory", "note", "/proc is mounted with hidepid: processes of others may not be seen")
