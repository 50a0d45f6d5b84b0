"""What this host offers to KVM and to kvmwhy, and what would stop a diagnosis: findings, each with its remedy."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import NamedTuple

from kvmwhy.abi.uname import Arch, arch_of
from kvmwhy.live.doctor import arm64, riscv64
from kvmwhy.live.doctor.cpu import of_cpu, of_module, of_modules, of_rivals
from kvmwhy.live.doctor.device import Device, ask_device, of_capabilities, of_device
from kvmwhy.live.doctor.finding import Finding
from kvmwhy.live.doctor.management import of_iommu, of_libvirt
from kvmwhy.live.doctor.rights import of_extras, of_kernel_log, of_memory, of_tracefs
from kvmwhy.live.host import CpuInfo, Module, cpu_info, modules, vendor_of

__all__ = ["Checkup", "Device", "Finding", "ask_device", "check_up", "of_module"]


class Checkup(NamedTuple):
    kernel: str
    cpu: CpuInfo
    vendor: str | None
    modules: tuple[Module, ...]
    device: Device
    findings: tuple[Finding, ...]


def _of_architecture(arch: Arch | None, device: Device, cpu: CpuInfo, loaded: tuple[Module, ...]) -> Iterator[Finding]:
    """What only hosts of one architecture have."""
    if arch == "arm64":
        yield from arm64.findings(device, cpu)
    elif arch == "riscv64":
        yield from riscv64.findings(cpu)
    else:
        yield from of_modules(loaded)
        yield from of_cpu(cpu, loaded)
        yield from of_rivals()
        yield from of_capabilities(device)
        for module in loaded:
            yield from of_module(module)


def check_up(tracefs: str | None = None) -> Checkup:
    """Look at everything; never raises. What matters more comes first among findings of one grade."""
    arch = arch_of(platform.machine())
    cpu, loaded, device = cpu_info(), modules(), ask_device(arch=arch)
    findings = [
        *of_device(device),
        *_of_architecture(arch, device, cpu, loaded),
        *of_memory(),
        *of_tracefs(tracefs),
        *of_kernel_log(),
        *of_libvirt(),
        *of_iommu(),
        *of_extras(),
    ]
    return Checkup(platform.release(), cpu, vendor_of(loaded)[0], loaded, device, tuple(findings))
