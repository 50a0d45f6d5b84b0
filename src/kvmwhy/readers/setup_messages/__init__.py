"""A refused set-up: KVM, or an ioctl other than KVM_RUN, said no, so that no guest ran or its state was not taken.

Exact forms come from tables, one for each program or layer; what has other words is read by its meaning (``tolerant``).
Lines that one refusal prints after each other (``ioctl(KVM_CREATE_VM) failed``, ``failed to initialize kvm``) are one
record. ``Setup.detail`` is the slug of the form; ``Setup.fields`` may have ``start`` and ``size`` of a memory slot,
``slot``, ``module``, ``followed_by`` (slugs of the messages that follow).
"""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec.structs import replace

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.setup_messages.group import Group, grouped
from kvmwhy.readers.setup_messages.message import messages
from kvmwhy.readers.setup_messages.registers import registers_behind
from kvmwhy.record import Arch, Failure, Host, Setup, Source

FORMAT: Final = "set-up message"
_MOST: Final = 10_000
_VMMS: Final = (
    ("cloud-hypervisor", re.compile(r"cloud-hypervisor|vmm/src/cpu\.rs|VmBoot\(")),
    ("firecracker", re.compile(r"firecracker|fc_vcpu|anonymous-instance|src/vmm/src/vstate", re.IGNORECASE)),
    ("crosvm", re.compile(r"crosvm")),
    ("libkrun", re.compile(r"krun|muvm")),
    ("dragonball", re.compile(r"dragonball", re.IGNORECASE)),
    ("hyperlight", re.compile(r"hyperlight", re.IGNORECASE)),
    ("uhyve", re.compile(r"uhyve|hermit", re.IGNORECASE)),
    ("solo5", re.compile(r"solo5")),
    ("kvmtool", re.compile(r"\blkvm\b|kvmtool|\bFatal: KVM_")),
    ("gvisor", re.compile(r"\brunsc\b|gvisor", re.IGNORECASE)),
    ("stratovirt", re.compile(r"stratovirt", re.IGNORECASE)),
    ("android-emulator", re.compile(r"\bemulator: |\bavd\b|ProbeKVM")),
    ("qemu", re.compile(r"qemu|\bkvm: |-accel kvm", re.IGNORECASE)),
    ("libvirt", re.compile(r"libvirt|virsh|virError|\bdomain\b", re.IGNORECASE)),
)  # fmt: skip
_MACHINES: Final[dict[str, Arch]] = {
    "x86_64": "x86", "i386": "x86", "aarch64": "arm64", "arm": "arm64", "riscv64": "riscv64", "s390x": "s390x",
    "ppc64": "ppc64", "ppc64le": "ppc64", "ppc": "ppc", "loongarch64": "loongarch", "mips64el": "mips",
    "mips64": "mips",
}  # fmt: skip
_BINARY: Final = re.compile(r"qemu-system-([a-z0-9_]{3,12})\b")
# arch/x86/kvm/x86.c, kvm_set_msr_common: until 6.4 the first spelling, then the second.
_UNHANDLED_WRMSR: Final = re.compile(
    r"[Uu]nhandled (?:wrmsr: |WRMSR\()(0x[0-9a-f]{1,8})\)?(?: data | = )?(0x[0-9a-f]{1,16})?"
)
_CONFIDENTIAL: Final[dict[Literal["snp", "sev-es", "sev", "tdx"], tuple[str, ...]]] = {
    "snp": ("SNP_",), "sev-es": ("SEV_ES",), "sev": ("SEV", "KVM_MEMORY_ENCRYPT"), "tdx": ("KVM_TDX", "TDH_"),
}  # fmt: skip
_REMARKS: Final = frozenset({"vmxon-failed", "tdx-disabled", "snp-unavailable", "sev-firmware-init", "vgic"})
_OF_OPEN: Final = frozenset({"ENOENT", "EACCES", "ENODEV", "ENXIO"})
_OWN: Final = frozenset({"msr", "value", "register", "capability", "missing", "fw", "fwx", "status", "ret", "vcpu"})


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Every refusal, in order."""
    body = text.text
    groups = [group for group in grouped(body, messages(body), first_line) if not _is_remark(group)][:_MOST]
    if not groups:
        return Evidence()
    host = host_of(body)
    failures = tuple(_failure(group, body, path, host, text.repairs) for group in groups)
    return Evidence(failures, format=FORMAT)


def _is_remark(group: Group) -> bool:
    """A line of the host's kernel that explains a refusal, and is none: the kernel log's reader has it."""
    return group.message.follows and group.message.detail in _REMARKS


def _failure(group: Group, text: str, path: str | None, host: Host, repairs: tuple[str, ...]) -> Failure:
    message = group.message
    begin = text.rfind("\n", 0, message.at) + 1
    stop = text.find("\n", message.end)
    stop = len(text) if stop < 0 else stop
    begin, stop = max(begin, message.at - 2000), min(stop, message.end + 2000)
    arch, arch_from = _arch(group, text, begin, stop)
    cpu = registers_behind(text, message.end) if message.detail == "registers" else None
    vcpu = message.fields.get("vcpu")
    setup = _setup(group, arch, text)
    return Failure(
        kind="setup-refused",
        arch="x86" if cpu else arch,
        arch_from="the registers are those of an x86 CPU" if cpu else arch_from,
        source=Source(
            path=path,
            line=group.line,
            vmm=message.vmm or _vmm(text, begin, stop),
            vcpu=vcpu if isinstance(vcpu, int) else None,
            count=group.times,
            last_line=group.last_line if group.times > 1 else None,
        ),
        errno=message.errno,
        setup=setup,
        cpu=cpu,
        seen_at={"setup": group.line},
        host=_confidential(host, setup),
        repairs=repairs,
    )


def _setup(group: Group, arch: Arch | None, text: str) -> Setup:
    message = group.message
    fields = message.fields
    more: dict[str, int | str] = {name: value for name, value in fields.items() if name not in _OWN}
    followers = [slug for slug in group.details if slug != message.detail]
    if followers:
        more["followed_by"] = " ".join(followers)
    call = message.call
    if call == "KVM_CREATE_VM" and message.errno in _OF_OPEN:
        call = "open"  # the ioctl returns none of them
    elif call == "vcpu-init":
        call = "KVM_ARM_VCPU_INIT" if arch == "arm64" else "KVM_SET_CPUID2" if message.errno == "E2BIG" else call
    msr, value = fields.get("msr"), fields.get("value")
    if call == "KVM_SET_MSRS" and msr is None and (refused := _of_kernel(text)):
        msr, value, more["msr_from"] = *refused, "kernel log"
    firmware = fields.get("fw", fields.get("fwx"))
    register = fields.get("register", fields.get("capability", fields.get("missing")))
    return Setup(
        call=call,
        msr=_number(msr, 32),
        value=_number(value, 64),
        register=f"{register:#x}" if isinstance(register, int) else register,
        firmware_error=_number(firmware, 32),
        status=_number(fields.get("status"), 64),
        detail=message.detail,
        fields=more,
    )


def _confidential(host: Host, setup: Setup) -> Host:
    """The kind of protection that a launch is about, where nothing else in the text says it."""
    if host.confidential is not None:
        return host
    for kind, marks in _CONFIDENTIAL.items():
        if setup.call.startswith(marks) or (setup.detail == "vm-type" and kind in (setup.register or "").lower()):
            about: Host = replace(host, confidential=kind)
            return about
    return host


def _of_kernel(text: str) -> tuple[int, int | None] | None:
    """The MSR of an assertion that names none, if KVM's own line beside it names one."""
    if "nhandled" not in text:
        return None
    refused = {(int(m[1], 16), int(m[2], 16) if m[2] else None) for m in _UNHANDLED_WRMSR.finditer(text)}
    return refused.pop() if len(refused) == 1 else None


def _number(value: int | str | None, bits: int) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << bits else None


def _arch(group: Group, text: str, begin: int, stop: int) -> tuple[Arch | None, str | None]:
    binary = _BINARY.search(text, begin, stop) or _BINARY.search(text, max(0, begin - 2000), stop + 500)
    if binary and (arch := _MACHINES.get(binary[1])):
        return arch, f"the program is qemu-system-{binary[1]}"
    if group.message.arch:
        return group.message.arch, "only this architecture has such a call or register"
    return None, None


def _vmm(text: str, begin: int, stop: int) -> str | None:
    """Named by the line itself, else by what stands around it."""
    for start, end in ((begin, stop), (max(0, begin - 2000), stop + 500)):
        for name, mark in _VMMS:
            if mark.search(text, start, end):
                return name
    return None
