"""What a log says besides the failure: host kernel, QEMU's version, the guest's RAM, the vendor."""

from __future__ import annotations

import re
from typing import Final, Literal

from kvmwhy.record import Host

_LIBVIRT: Final = re.compile(r"\bqemu version: ?(\d+(?:\.\d+)+)")
_MONITOR: Final = re.compile(r"\bQEMU (\d+\.\d+(?:\.\d+)*) monitor")
_KERNEL: Final = re.compile(r"\bkernel: ?(\d+\.\d+[^\s,;]{0,60})")
_OOPS_KERNEL: Final = re.compile(
    r"CPU: \d+ (?:UID: \d+ )?PID: \d+ Comm: \S+ (?:Not tainted|Tainted: [A-Z ]+?) +(\d+\.\d+\S{0,60})"
)
_RAM: Final = re.compile(r"(?:^|\s)-m[ =](?:size=)?(\d{1,9})([kKmMgGtT]?)(?=[\s,]|$)", re.MULTILINE)
_UNITS: Final = {"": 20, "k": 10, "m": 20, "g": 30, "t": 40}

Vendor = Literal["vmx", "svm", "tdx"]

# What only one vendor's module, or QEMU on such a host, ever prints.
_VENDORS: Final[tuple[tuple[str, Vendor, str], ...]] = (
    ("SEAMCALL", "tdx", "the log has SEAMCALL messages of a TDX host"),
    ("TD vp_enter_ret", "tdx", "the log has TDX messages of the host's kernel"),
    ("kvm_intel", "vmx", "the log names the module kvm_intel"),
    ("kvm_amd", "svm", "the log names the module kvm_amd"),
    (
        "guest on an Intel machine without unrestricted",
        "vmx",
        "QEMU prints its Intel hint only on hosts with VMX",
    ),
    ("vmx: unexpected exit reason", "vmx", "the host's kernel log says vmx"),
    ("svm: unexpected exit reason", "svm", "the host's kernel log says svm"),
    (".vmx-", "vmx", "QEMU warned about vmx- features of the host"),
    ("VMX:", "vmx", "the log has a VMX line"),
    ("vmptrld", "vmx", "the host's kernel log names a VMX instruction"),
    ("*** Guest State ***", "vmx", "the log has a VMCS dump"),
    ("VMCB Control Area", "svm", "the log has a VMCB dump"),
    ("VMCB", "svm", "the log names a VMCB"),
)

_FACTS: Final = (
    ("BUG: unable to handle", "the host's kernel oopsed beside this failure"),
    ("BUG: Bad page state", "the host's kernel reported a bad page state beside this failure"),
    ("reserved bits set", "the host's kernel complained about reserved bits in its page tables"),
    ("assertion failed", "QEMU itself hit an assertion while reporting"),
)


def host_of(text: str) -> Host:
    """Read the remarks of a whole text; they are the same for every failure in it."""
    vendor, why = None, None
    for mark, name, reason in _VENDORS:
        if mark in text:
            vendor, why = name, reason
            break
    qemu = _LIBVIRT.search(text) if "qemu version" in text else None
    qemu = qemu or (_MONITOR.search(text) if " monitor" in text else None)
    kernel = _KERNEL.search(text) if "kernel:" in text else None
    kernel = kernel or (_OOPS_KERNEL.search(text) if "Comm: " in text else None)
    return Host(
        kernel=kernel[1] if kernel else None,
        qemu=qemu[1] if qemu else None,
        ram_bytes=_ram(text) if "-m" in text else None,
        vendor=vendor,
        vendor_from=why,
        unrestricted_guest_hint="machine without unrestricted mode" in text,
        facts=tuple(fact for mark, fact in _FACTS if mark in text),
    )


def _ram(text: str) -> int | None:
    """-m counts MiB unless it has a unit; several different ones say nothing."""
    sizes = {int(number) << _UNITS[unit.lower()] for number, unit in _RAM.findall(text)}
    return sizes.pop() if len(sizes) == 1 else None
