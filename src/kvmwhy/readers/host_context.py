"""What a log says besides the failure: host kernel, QEMU's version, the guest's RAM, the vendor.

A remark that contradicts another one says nothing: better no vendor than a wrong one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

from kvmwhy.deferred_re import deferred
from kvmwhy.readers.circumstances import circumstances_of
from kvmwhy.readers.host_machine import machine_of
from kvmwhy.readers.vm_context import vm_of
from kvmwhy.record import Host

_LIBVIRT: Final = deferred(r"\bqemu version: ?([0-9]{1,4}(?:\.[0-9]{1,6}){1,4})")
_MONITOR: Final = deferred(r"\bQEMU ([0-9]{1,4}\.[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}) monitor")
_KERNEL: Final = deferred(r"(?<![Gg]uest )\bkernel: ?([0-9]{1,2}\.[0-9]{1,4}(?![0-9\]])[^\s,;\]]{0,60})(?![^\s,;])")
_OOPS_KERNEL: Final = deferred(
    r"CPU: [0-9]{1,5} (?:UID: [0-9]{1,10} )?PID: [0-9]{1,10} Comm: \S{1,64} (?:Not tainted|Tainted: [A-Z ]{1,40}?)"
    r" {1,9}([0-9]{1,2}\.[0-9]{1,4}\S{0,60})"
)
_RAM: Final = deferred(r"(?<![^\s\"'])-m[ =](?:size=)?([0-9]{1,12})([kKmMgGtT]?)(?=[\s,\"'\\]|$)", re.MULTILINE)
_UNITS: Final = {"": 20, "k": 10, "m": 20, "g": 30, "t": 40}
_MOST_RAM: Final = 1 << 52  # what x86-64 can address
_COMMAND: Final = deferred(r"qemu|kvm|-(?:machine|cpu|accel|smp|enable-kvm|drive|device|nographic)\b")

Vendor = Literal["vmx", "svm", "tdx", "pvm"]

# What only one vendor's module, or QEMU on such a host, ever prints.
_VENDORS: Final[tuple[tuple[str, Vendor, str], ...]] = (
    ("SEAMCALL", "tdx", "the log has SEAMCALL messages of a TDX host"),
    ("TD vp_enter_ret", "tdx", "the log has TDX messages of the host's kernel"),
    ("kvm_pvm", "pvm", "the log names the module kvm_pvm"),
    ("kvm_intel", "vmx", "the log names the module kvm_intel"),
    ("kvm_amd", "svm", "the log names the module kvm_amd"),
    ("kvm-intel", "vmx", "the log names the module kvm-intel"),
    ("kvm-amd", "svm", "the log names the module kvm-amd"),
    ("vmx_vcpu_run", "vmx", "the host's kernel was in vmx_vcpu_run"),
    ("vmx_handle_exit", "vmx", "the host's kernel was in vmx_handle_exit"),
    ("svm_vcpu_run", "svm", "the host's kernel was in svm_vcpu_run"),
    ("split lock detection: #AC", "vmx", "only Intel's processors raise #AC for a split lock"),
    ("EVMCS field", "vmx", "the log names an enlightened VMCS"),
    ("dump_invalid_vmcs", "vmx", "the host's kernel log names its VMCS"),
    ("dump_invalid_vmcb", "svm", "the host's kernel log names its VMCB"),
    (
        "guest on an Intel machine without unrestricted",
        "vmx",
        "QEMU prints its Intel hint only on hosts with VMX",
    ),
    ("vmx: unexpected exit reason", "vmx", "the host's kernel log says vmx"),
    ("svm: unexpected exit reason", "svm", "the host's kernel log says svm"),
    (".vmx-", "vmx", "QEMU warned about vmx- features of the host"),
    ("kvm: vmptrld", "vmx", "the host's kernel log names a VMX instruction"),
    ("*** Guest State ***", "vmx", "the log has a VMCS dump"),
    ("last attempted VM-entry on CPU", "vmx", "the log has a VMCS dump"),
    ("VMCB Control Area", "svm", "the log has a VMCB dump"),
    ("last attempted VMRUN on CPU", "svm", "the log has a VMCB dump"),
)

# Processors named in prose, in /proc/cpuinfo or by lscpu; a command line may name what the guest shall see.
_PROCESSOR: Final = deferred(
    r"(?P<vmx>GenuineIntel|Intel\(R\)|\bIntel (?:Core|Xeon|Celeron|Atom|i[3579]-)|\bXeon\b|\bCore\(TM\))"
    r"|(?P<svm>AuthenticAMD|\bAMD (?:EPYC|Ryzen|Opteron|FX|Phenom|Athlon|A[46-9]-)|\bRyzen\b|\bThreadripper\b|\bEPYC [0-9])"  # noqa: E501
)
_PROCESSOR_MARKS: Final = ("Intel", "Xeon", "AMD", "Ryzen", "Threadripper", "EPYC", "Core(TM)")
_GUESTS: Final = deferred(r"-cpu\b|qemu|<model|vendor=|[Gg]uest|\bL[12]\b|^[^:]{0,40}@")
_MOST_NAMES: Final = 1000

_RIVALS: Final = ("vboxdrv", "vmmon")


def host_of(text: str) -> Host:
    """Read the remarks of a whole text; they are the same for every failure in it."""
    return _short(text) if len(text) < _SHORT else _host_of(text)


def _host_of(text: str) -> Host:
    vendor, why = _vendor(text)
    qemu = _LIBVIRT.findall(text) if "qemu version" in text else []
    qemu = qemu or (_MONITOR.findall(text) if " monitor" in text else [])
    kernel = _KERNEL.findall(text) if "kernel:" in text else []
    vm = vm_of(text)
    kernel = kernel or (_OOPS_KERNEL.findall(text) if "Comm: " in text else [])
    machine = machine_of(text)
    return Host(
        kernel=_only(kernel) or machine.kernel,
        qemu=_only(qemu),
        ram_bytes=_ram(text) if "-m" in text else None,
        vendor=vendor,
        vendor_from=why,
        unrestricted_guest_hint="machine without unrestricted mode" in text,
        hypervisor=machine.hypervisor,
        devices=vm.devices,
        machine=vm.machine,
        cpu_model=vm.cpu_model,
        confidential=vm.confidential,
        remarks=(*vm.remarks, *circumstances_of(text)),
        rivals=tuple(name for name in _RIVALS if name in text),
        cpu_name=machine.cpu_name,
        dmi=machine.dmi,
        parameters=machine.parameters,
    )


_SHORT: Final = 512
_short = lru_cache(maxsize=256)(_host_of)  # what stands around the registers of one failure stands around many


def _only(values: list[str]) -> str | None:
    return values[0] if values and len(set(values)) == 1 else None


def _vendor(text: str) -> tuple[Vendor | None, str | None]:
    named: dict[Vendor, str] = {}
    for mark, vendor, reason in _VENDORS:
        if mark in text:
            named.setdefault(vendor, reason)
    if "tdx" in named:
        named.pop("vmx", None)  # TDX is a part of kvm_intel
    if not named and any(mark in text for mark in _PROCESSOR_MARKS):
        named = _processors(text)
    if len(named) != 1:
        return None, None
    return next(iter(named.items()))


def _processors(text: str) -> dict[Vendor, str]:
    """Whose processors the text names, the guest's left out."""
    named: dict[Vendor, str] = {}
    for n, processor in enumerate(_PROCESSOR.finditer(text)):
        start = max(text.rfind("\n", 0, processor.start()) + 1, processor.start() - 400)
        if n >= _MOST_NAMES or _GUESTS.search(text, start, processor.end() + 40):
            continue
        vendor: Vendor = "vmx" if processor["vmx"] else "svm"
        named.setdefault(vendor, f"the text names a processor of {'Intel' if vendor == 'vmx' else 'AMD'}")
    return named


def _ram(text: str) -> int | None:
    """-m counts MiB unless it has a unit. Only on a command line: other programs have a -m, too."""
    sizes: set[int] = set()
    end, is_command = -1, False
    for match in _RAM.finditer(text):
        if match.start() > end:
            start = text.rfind("\n", 0, match.start()) + 1
            end = text.find("\n", match.start())
            end = len(text) if end < 0 else end
            # libvirt puts each option on a line of its own, with a backslash at its end.
            folded = text.endswith("\\", 0, end) and text[start : match.start()].isspace() | (start == match.start())
            is_command = folded or _COMMAND.search(text, start, end) is not None
        size = int(match[1]) << _UNITS[match[2].lower()]
        if is_command and 0 < size < _MOST_RAM:
            sizes.add(size)
    return sizes.pop() if len(sizes) == 1 else None
