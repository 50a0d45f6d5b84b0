"""What this host is, as far as a diagnosis may depend on it. Reads /proc and /sys; never raises."""

from __future__ import annotations

import os
import platform
import re
from typing import Final, Literal, NamedTuple

from kvmwhy.record import Host

Vendor = Literal["vmx", "svm", "pvm"]

_VENDOR_OF: Final[dict[str, Vendor]] = {"kvm_intel": "vmx", "kvm_amd": "svm", "kvm_pvm": "pvm"}
# Modules of other hypervisors that take the CPU's virtualization for themselves.
_RIVALS: Final = {"vboxdrv": "VirtualBox", "vmmon": "VMware Workstation"}
_CPUINFO: Final = re.compile(
    r"^(vendor_id|model name|cpu family|model|stepping|microcode|flags)\s{0,8}: (.*)$", re.MULTILINE
)
_OTHER_CPUINFO: Final = re.compile(r"^(CPU implementer|CPU part|isa)\s{0,8}: ([^\n]{1,200})$", re.MULTILINE)
_MAX_PARAMETERS: Final = 256


class CpuInfo(NamedTuple):
    """The first CPU of /proc/cpuinfo, by its own words; None where it says nothing."""

    vendor_id: str | None = None
    model: str | None = None
    signature: str | None = None  # family-model-stepping, decimal
    microcode: str | None = None
    flags: frozenset[str] = frozenset()

    @property
    def hypervisor(self) -> bool:
        """This "host" is itself a guest."""
        return "hypervisor" in self.flags


class Module(NamedTuple):
    name: str
    version: str | None
    parameters: dict[str, str | None]  # None: not permitted to read it


def cpu_info(path: str = "/proc/cpuinfo") -> CpuInfo:
    text = read_text(path, 64 << 10) or ""
    fields: dict[str, str] = {}
    for name, value in _CPUINFO.findall(text.split("\n\n", 1)[0]):
        fields.setdefault(name, value.strip())
    parts = [fields.get(name) for name in ("cpu family", "model", "stepping")]
    return CpuInfo(
        vendor_id=fields.get("vendor_id"),
        model=fields.get("model name") or _model_of_other(text.split("\n\n", 1)[0]),
        signature="-".join(p for p in parts if p) or None,
        microcode=fields.get("microcode"),
        flags=frozenset(fields.get("flags", "").split()),
    )


def _model_of_other(text: str) -> str | None:
    """arm64's and riscv64's files name no model: the numbers of the maker and the part, or the ISA string."""
    fields = dict(_OTHER_CPUINFO.findall(text))
    if "CPU part" in fields:
        return f"implementer {fields.get('CPU implementer', '?')}, part {fields['CPU part']}"
    return fields.get("isa")


def modules(root: str = "/sys/module") -> tuple[Module, ...]:
    """KVM and what drives the hardware for it, as modules or built in, with their parameters."""
    return tuple(_module(root, name) for name in ("kvm", *_VENDOR_OF) if os.path.isdir(f"{root}/{name}"))


def _module(root: str, name: str) -> Module:
    directory = f"{root}/{name}/parameters"
    try:
        names = sorted(os.listdir(directory))[:_MAX_PARAMETERS]
    except OSError:
        names = []
    return Module(name, read_text(f"{root}/{name}/version"), {n: read_text(f"{directory}/{n}") for n in names})


def rivals(root: str = "/sys/module") -> dict[str, str]:
    """Other hypervisors whose modules are loaded: module → product."""
    return {name: who for name, who in _RIVALS.items() if os.path.isdir(f"{root}/{name}")}


def vendor_of(loaded: tuple[Module, ...]) -> tuple[Vendor | None, str | None]:
    """What the loaded module says: one is an answer, two are none."""
    named = [m.name for m in loaded if m.name in _VENDOR_OF]
    if len(named) != 1:
        return None, None
    return _VENDOR_OF[named[0]], f"{named[0]} is the KVM module of this host"


def host_facts() -> Host:
    """The host of a live record, with those parameters of its modules that may bear on a failure."""
    loaded = modules()
    vendor, why = vendor_of(loaded)
    return Host(
        kernel=platform.release(),
        vendor=vendor,
        vendor_from=why,
        hypervisor=hypervisor(cpu_info()),
        rivals=tuple(rivals()),
        parameters=_parameters(loaded),
    )


def hypervisor(cpu: CpuInfo) -> str | None:
    """Whose virtual machine this host is; None if it is none."""
    if not cpu.hypervisor:
        return None
    named = read_text("/sys/class/dmi/id/sys_vendor", 64) or read_text("/sys/hypervisor/type", 64)
    return named or "of a maker that does not say so"


_BEARING: Final = ("unrestricted_guest", "ept", "npt", "emulate_invalid_guest_state", "nested", "ignore_msrs")


def _parameters(loaded: tuple[Module, ...]) -> dict[str, str]:
    return {
        f"{module.name}.{name}": value
        for module in loaded
        for name in _BEARING
        if (value := module.parameters.get(name)) is not None
    }


def read_text(path: str, limit: int = 4096) -> str | None:
    """A small file of /proc or /sys without its last newline; None if it is not there or not readable."""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit).decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return None
