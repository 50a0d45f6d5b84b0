"""What manages VMs on this host and gives them devices: libvirt's logs, the IOMMU and VFIO."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import Final

from kvmwhy.abi.uname import arch_of
from kvmwhy.live.doctor.finding import Finding

_TO_HAVE_AN_IOMMU: Final = (
    "switch VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on where the CPU is Intel's"
    if arch_of(platform.machine()) == "x86"
    else "the firmware (ACPI IORT or RIMT, or the device tree) must describe the IOMMU to the kernel"
)


def of_libvirt(logs: str = "/var/log/libvirt/qemu", run: str = "/run/libvirt") -> Iterator[Finding]:
    """Nothing where there is no libvirt."""
    if not os.path.isdir(logs):
        if os.path.isdir(run):
            yield Finding("libvirt", "note", f"libvirt runs here, but keeps no logs of guests in {logs}")
        return
    try:
        count = sum(name.endswith(".log") for name in os.listdir(logs))
    except OSError:
        fix = f"sudo kvmwhy explain {logs}/NAME.log, or setfacl -m u:USER:rx {logs}"
        yield Finding("libvirt", "note", f"libvirt's logs in {logs} may not be read", fix)
        return
    yield Finding("libvirt", "good", f"libvirt's logs may be read ({count} in {logs})")


def of_iommu(groups: str = "/sys/kernel/iommu_groups", modules: str = "/sys/module") -> Iterator[Finding]:
    """Devices are given to guests through VFIO, and that takes an IOMMU."""
    try:
        count = len(os.listdir(groups))
    except OSError:
        count = 0
    uses_vfio = os.path.isdir(f"{modules}/vfio_pci")
    if count:
        yield Finding("iommu", "good", f"an IOMMU is on ({count} groups){', VFIO is loaded' if uses_vfio else ''}")
    elif uses_vfio:
        yield Finding(
            "iommu",
            "bad",
            "vfio-pci is loaded, but no IOMMU is on: no device can be given to a guest",
            _TO_HAVE_AN_IOMMU,
        )
