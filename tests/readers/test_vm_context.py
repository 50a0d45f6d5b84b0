"""What a log says of its VM: drivers, backing memory, kinds of protection, and remarks of the VMM and the guest."""

from __future__ import annotations

import pytest

from kvmwhy.readers import read
from kvmwhy.readers.vm_context import vm_of

FAULT = "error: kvm run failed Bad address\n"


@pytest.mark.parametrize(
    ("line", "device"),
    [
        ("qemu-system-x86_64 -device vfio-pci,host=01:00.0,id=hostdev0", "vfio-pci"),
        ('-device \'{"driver":"vfio-pci","host":"0000:01:00.0"}\'', "vfio-pci"),
        ("<hostdev mode='subsystem' type='pci' managed='yes'>", "vfio-pci"),
        ("-object memory-backend-file,id=mem,size=16G,mem-path=/dev/shm,share=on", "/dev/shm"),  # noqa: S108
        ("-object memory-backend-file,id=mem,size=16G,mem-path=/dev/hugepages", "hugetlb"),
        ("-device virtio-vga-gl,blob=on", "gpu-blob"),
        ("-device vhost-user-fs-pci,chardev=char0,tag=share", "virtiofs"),
        ("-device cxl-type3,bus=root_port13,volatile-memdev=vmem0", "cxl-type3"),
        ("-overcommit cpu-pm=on", "cpu-pm"),
    ],
)
def test_a_command_line_names_its_devices(line: str, device: str) -> None:
    """QEMU's options as people and libvirt write them, and libvirt's XML."""
    assert device in vm_of(line).devices


@pytest.mark.parametrize(
    ("line", "machine"),
    [
        ("-machine pc-q35-8.2,usb=off,smm=on", "pc-q35-8.2"),
        ("-machine type=q35,accel=kvm", "q35"),
        ("-M virt,gic-version=3", "virt"),
        ("<type arch='x86_64' machine='pc-i440fx-2.3'>hvm</type>", "pc-i440fx-2.3"),
        ("-machine accel=kvm", None),
        ("-machine memory-backend=mem0", None),
    ],
)
def test_the_machine_is_a_type_and_no_option(line: str, machine: str | None) -> None:
    """What stands before the first comma is a type only without an equals sign."""
    assert vm_of(line).machine == machine


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        ("[   22.810582] reboot: Restarting system", "guest-restarts"),
        ("reboot: machine restart", "guest-restarts"),
        ("reboot: Power down", "guest-powers-off"),
        ("WARN: Invalid MMIO read @ 0xfffffffc:0x4: Failed to find address range.", "mmio-below-4-gib"),
        ("Guest MMIO write to unregistered address 0xfffffff8", "mmio-below-4-gib"),
        ("qemu-system-x86_64 -incoming tcp:0:4444", "state-from-elsewhere"),
    ],
)
def test_remarks_are_typed(line: str, remark: str) -> None:
    """A guest that restarts, a stack at address 0, a state that comes from elsewhere."""
    assert vm_of(line).remarks == (remark,)


@pytest.mark.parametrize(
    "line",
    [
        "[    0.000000] Linux version 6.1.0",
        "reboot: into 5.15 did not help",
        "MMIO at 0xfe000000 failed",
        "0xfffffffc",
        "the device was there",
        "-cpuset 3",
    ],
)
def test_ordinary_lines_say_nothing(line: str) -> None:
    """What only resembles such a line is left alone."""
    assert not any(vm_of(line))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("-object tdx-guest,id=tdx0", "tdx"),
        ("-object sev-snp-guest,id=sev0,cbitpos=51", "snp"),
        ("kvm_amd: SEV-ES guest requested termination: 0x0:0x2", "sev-es"),
        ("-object sev-guest,id=sev0", "sev"),
    ],
)
def test_the_kind_of_protection_is_named(line: str, kind: str) -> None:
    """The object of the command line, or the kernel's own word for the guest."""
    assert vm_of(line).confidential == kind


def test_a_failure_carries_its_vm() -> None:
    """The context goes into the host of each failure of the same text."""
    text = f"qemu-system-x86_64 -m 16G -cpu host -device vfio-pci,host=01:00.0\n{FAULT}"
    host = read(text.encode()).failures[0].host
    assert "vfio-pci" in host.devices
    assert host.cpu_model == "host"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("[    0.000000] Hypervisor detected: VMware", "VMware"),
        ("Hypervisor vendor:     KVM", "KVM"),
        ("INFO: Running under nested virtualisation. Hypervisor string: KVMKVMKVM", "KVM"),
    ],
)
def test_a_hypervisor_that_was_found_around_the_host_is_named(line: str, name: str) -> None:
    """The kernel's, lscpu's and Cloud Hypervisor's words."""
    assert read(f"{line}\n{FAULT}".encode()).failures[0].host.hypervisor == name
