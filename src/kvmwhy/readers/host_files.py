"""The files that describe a host, one by one: uname, cpuinfo, DMI, modules and their parameters, libvirt's domains.

Each gives a part of ``Host``; ``fill`` puts parts together, and what the failure's own text says stands above all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal

from msgspec.structs import asdict, replace

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.bundles import MOST, Member, domain_of, in_bundle, member_of
from kvmwhy.readers.host_context import host_of
from kvmwhy.record import Failure, Host

_MOST_BUNDLES: Final = 4096
_MOST_PARTS: Final = 256
_MOST_NOTES: Final = 16
_RELEASE: Final = re.compile(r"[0-9]{1,2}\.[0-9]{1,4}[\w.+~-]{0,80}")
# systemd-detect-virt(1): what it answers on a virtual machine. On a physical one it says "none".
_VIRTS: Final = {
    "qemu": "QEMU",
    "kvm": "KVM",
    "amazon": "Amazon EC2",
    "zvm": "z/VM",
    "vmware": "VMware",
    "microsoft": "Hyper-V",
    "oracle": "VirtualBox",
    "powervm": "PowerVM",
    "xen": "Xen",
    "bochs": "Bochs",
    "parallels": "Parallels",
    "bhyve": "bhyve",
    "acrn": "ACRN",
    "apple": "Apple's Hypervisor framework",
    "google": "Google Compute Engine",
}
_UNAME: Final = deferred(r"^Linux \S{1,200} ([0-9]{1,2}\.[0-9]{1,4}\S{0,80}) #", re.MULTILINE)
_CPU_NAME: Final = deferred(r"^(?:model name\s{0,8}|Model name): {0,40}(\S[^\n]{0,100})", re.MULTILINE)
_CPU_VENDOR: Final = deferred(r"^(?:vendor_id\s{0,8}|Vendor ID): {0,40}(GenuineIntel|AuthenticAMD)", re.MULTILINE)
_FLAG: Final = deferred(r"^flags\s{0,8}:[^\n]{0,4000}\bhypervisor\b", re.MULTILINE)
_OUTER: Final = deferred(r"^Hypervisor vendor: {0,40}(\S[^\n]{0,60})", re.MULTILINE)
_SYSTEM: Final = deferred(
    r"^System Information\n(?:[ \t][^\n]{0,200}\n){0,3}?\s{1,8}Manufacturer: ([^\n]{0,80})\n"
    r"\s{1,8}Product Name: ([^\n]{0,80})",
    re.MULTILINE,
)
_NODE_KERNEL: Final = deferred(r"^\s{0,16}kernelVersion: ([0-9]{1,2}\.[0-9]{1,4}[^\s]{0,80})$", re.MULTILINE)
_RIVALS: Final = ("vboxdrv", "vmmon")
# What makes virtual machines, by what DMI calls the system; the name of a product tells what its maker alone does not.
_MACHINES: Final = (
    ("VMware", "VMware"),
    ("Microsoft Corporation Virtual Machine", "Hyper-V"),
    ("innotek GmbH", "VirtualBox"),
    ("QEMU", "KVM"),
    ("Red Hat KVM", "KVM"),
    ("Google Google Compute Engine", "Google Compute Engine"),
    ("Amazon EC2", "Amazon EC2"),
    ("Xen HVM domU", "Xen"),
    ("Parallels", "Parallels"),
    ("Alibaba Cloud", "Alibaba Cloud"),
    ("OpenStack", "KVM"),
    ("Nutanix AHV", "KVM"),
)
_MEMORY: Final = deferred(r"<memory(?: unit='([A-Za-z]{1,5})')?>([0-9]{1,15})</memory>")
_UNITS: Final = {"b": 0, "bytes": 0, "kib": 10, "k": 10, "mib": 20, "m": 20, "gib": 30, "g": 30, "tib": 40}
_MACHINE: Final = deferred(r"<type [^>]{0,80}machine='([^']{1,80})'")
_CPU_MODE: Final = deferred(r"<cpu mode='([a-z-]{1,30})'")
_CPU_MODEL: Final = deferred(r"<model [^>]{0,80}>([A-Za-z0-9_.-]{1,60})</model>")
_LAUNCH: Final = deferred(r"<launchSecurity type='(sev-snp|sev|tdx)'")
_HOSTDEV: Final = deferred(r"<hostdev [^>]{0,120}type='(pci|mdev)'")

Confidential = Literal["sev", "snp", "tdx"]
_CONFIDENTIAL: Final[dict[str, Confidential]] = {"sev": "sev", "sev-snp": "snp", "tdx": "tdx"}


class Beside:
    """What files say of hosts, gathered as they pass by, and given to the failures at the end.

    A bundle's files speak for the logs of that bundle; notes, which a person put beside a log, for all.
    """

    def __init__(self) -> None:
        self.parts: dict[str, list[tuple[Member, Host]]] = {}
        self.notes: list[Host] = []

    def watch(self, path: str | None, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same bytes; a file that tells of a host is kept as it passes."""
        member = member_of(path) if path else None
        if member is None or len(self.parts) > _MOST_BUNDLES:
            yield from chunks
            return
        held = bytearray()
        for chunk in chunks:
            held += chunk[: MOST - len(held)]
            yield chunk
        self.parts.setdefault(member.root, []).append((member, read(member, bytes(held))))

    def note(self, data: bytes) -> None:
        """Keep what a file says of the host that was given beside a log, and in which nothing failed."""
        told = note_of(data.decode("utf-8", "replace"))
        if told != Host() and len(self.notes) < _MOST_NOTES:
            self.notes.append(told)

    def with_host(self, failure: Failure) -> Failure:
        """The failure with what lies beside its log.

        Of two files that contradict each other the first is taken; cpuinfo comes last, as it does not name the
        hypervisor that it shows. Notes that contradict each other are of two hosts, and say nothing.
        """
        path, host = failure.source.path, failure.host
        root = in_bundle(path, frozenset(self.parts)) if path and self.parts else None
        if path is not None and root is not None:
            for member, part in sorted(self.parts[root][:_MOST_PARTS], key=lambda pair: pair[0].role == "cpuinfo"):
                if is_of(member, path):
                    host = fill(host, part)
        if self.notes and len({note.kernel for note in self.notes if note.kernel}) < 2:
            for note in self.notes:
                host = fill(host, note)
        if host is failure.host:
            return failure
        changed: Failure = replace(failure, host=host)
        return changed


def note_of(text: str) -> Host:
    """What a text says of the host: the bare answers of ``uname -r`` and ``systemd-detect-virt``, or a file's."""
    words = text.split()
    answers = [_answer(word) for word in words[:4]]
    if not words or len(words) > len(answers) or None in answers:
        return host_of(text)
    host = Host()
    for answer in answers:
        host = fill(host, answer or Host())
    return host


def _answer(word: str) -> Host | None:
    if _RELEASE.fullmatch(word):
        return Host(kernel=word)
    if word == "none":
        return Host(is_physical=True)
    return Host(hypervisor=_VIRTS[word]) if word in _VIRTS else None


def read(member: Member, data: bytes) -> Host:
    """What one file of a bundle says. Never raises; a file of another form says nothing."""
    text = data.decode("utf-8", "replace")
    match member.role:
        case "parameter":
            _, module, _, name = member.path.rsplit("/", 3)
            return Host(parameters={f"{module}.{name}": text.strip()[:80]})
        case "domain":
            return _domain(text)
        case "node":
            match = _NODE_KERNEL.search(text)
            return Host(kernel=match[1] if match else None)
        case "virt":
            return _answer(text.strip()) or Host()
    return _of_host(text)


def fill(host: Host, part: Host) -> Host:
    """``host``, and where it says nothing, ``part``."""
    own, other = asdict(host), asdict(part)
    empty: dict[str, Any] = {name: other[name] for name, value in own.items() if not value and other[name]}
    if not host.vendor and part.vendor:
        empty["vendor_from"] = part.vendor_from
    else:
        empty.pop("vendor_from", None)
    if host.parameters and part.parameters:
        empty["parameters"] = {**part.parameters, **host.parameters}
    return replace(host, **empty) if empty else host


def is_of(member: Member, log: str) -> bool:
    """Whether this file says something of the VM whose log that is; a domain's definition only of its own."""
    return member.role != "domain" or domain_of("libvirt/qemu/" + member.path.rsplit("/", 1)[-1]) == domain_of(log)


def _of_host(text: str) -> Host:
    kernel, name = _UNAME.search(text), _CPU_NAME.search(text)
    maker, system = _CPU_VENDOR.search(text), _SYSTEM.search(text)
    outer = _OUTER.search(text)
    dmi = " ".join(part.strip() for part in system.groups()) if system else None
    hypervisor = outer[1].strip() if outer else _machine(dmi) if dmi else None
    if hypervisor is None and _FLAG.search(text):
        hypervisor = "an unnamed hypervisor"
    vendor: Literal["vmx", "svm"] | None = None
    if maker:
        vendor = "vmx" if maker[1] == "GenuineIntel" else "svm"
    return Host(
        kernel=kernel[1] if kernel else None,
        cpu_name=name[1].strip() if name else None,
        dmi=dmi,
        hypervisor=hypervisor,
        vendor=vendor,
        vendor_from="the host's CPU, as the files beside this log name it" if vendor else None,
        rivals=tuple(rival for rival in _RIVALS if re.search(rf"^{rival}\s", text, re.MULTILINE)),
    )


def _machine(dmi: str) -> str | None:
    return next((name for mark, name in _MACHINES if mark in dmi), None)


def _domain(text: str) -> Host:
    """Of libvirt's definition of a VM. By patterns: an XML parser would carry out what a hostile file defines."""
    memory, machine, mode = _MEMORY.search(text), _MACHINE.search(text), _CPU_MODE.search(text)
    model, launch = _CPU_MODEL.search(text), _LAUNCH.search(text)
    size = None
    if memory and (shift := _UNITS.get((memory[1] or "KiB").lower())) is not None:
        size = int(memory[2]) << shift
    cpu = model[1] if model and mode and mode[1] == "custom" else mode[1] if mode else None
    return Host(
        ram_bytes=size,
        machine=machine[1] if machine else None,
        cpu_model={"host-passthrough": "host", "host-model": "host-model"}.get(cpu or "", cpu),
        confidential=_CONFIDENTIAL[launch[1]] if launch else None,
        devices=tuple({"pci": "vfio-pci", "mdev": "vfio-pci"}[kind] for kind in _HOSTDEV.findall(text)[:16]),
    )
