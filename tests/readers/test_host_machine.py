"""What machine the host is from what people paste; and what is only the guest's."""

from __future__ import annotations

import pytest

from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.host_machine import machine_of

FAILED = "KVM: entry failed, hardware error 0x7\n"


@pytest.mark.parametrize(
    ("text", "hypervisor"),
    [
        ("[    0.000000] Hypervisor detected: Microsoft Hyper-V", "Hyper-V"),
        ("[    0.000000] Hypervisor detected: VMware", "VMware"),
        ("[    0.000000] Hypervisor detected: KVM", "KVM"),
        ("[    0.000000] Hypervisor detected: KVM\n" + FAILED, None),  # the guest's own console
        ("[    0.000000] Hypervisor detected: VMware\n" + FAILED, "VMware"),  # no guest of KVM prints that
        ("Virtualization:   VT-x\nHypervisor vendor:   Microsoft\nVirtualization type:  full", "Hyper-V"),
        ("[0.0] Hyper-V: privilege flags low 0xae7f, high 0x3b8030, hints 0x9e4e24, misc 0xe0bed7b2", "Hyper-V"),
        ("DMI: Microsoft Corporation Virtual Machine/Virtual Machine, BIOS Hyper-V UEFI Release v4.1", "Hyper-V"),
        ("Hardware name: VMware, Inc. VMware Virtual Platform/440BX Desktop Reference Platform, BIOS 6.00", "VMware"),
        ("DMI: Amazon EC2 m5.large/, BIOS 1.0 10/16/2017", "Amazon EC2"),
        ("DMI: Amazon EC2 m5.metal/, BIOS 1.0 10/16/2017", None),
        ("DMI: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.3\n" + FAILED, None),
        ("Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1\nRIP: 0010:f+0x1/0x2 [kvm_amd]", "QEMU"),
        ("Hardware name: ASUS Q87M-E/Q87M-E, BIOS 1102 01/01/2014", None),
        ("Linux runner 6.11.0-1015-azure #15~24.04.1-Ubuntu SMP x86_64 GNU/Linux", "Hyper-V"),
        ("Linux box 6.1.0-13-amd64 #1 SMP PREEMPT_DYNAMIC Debian x86_64 GNU/Linux", None),
        ("flags\t\t: fpu vme de pse tsc msr pae vmx hypervisor lahf_lm", "unnamed"),
        ("flags\t\t: fpu vme de pse tsc msr pae vmx lahf_lm", None),
        ("Hypervisor detected: VMware\nHypervisor vendor:  Microsoft", None),
        ("This is Ubuntu 22.04 (installed on VirtualBox) with all updates", "VirtualBox"),
        ("OS: Debian 12, in a VMware virtual machine", "VMware"),
        ("- **Host OS**: Fedora 40 (VirtualBox)", "VirtualBox"),
        ("Guest OS: Debian 12, in VirtualBox", None),
        ("The image of Ubuntu was made on VirtualBox", None),
        ("I am running QEMU inside another virtualization", "unnamed"),
        ("I try to run Firecracker inside another VM", "unnamed"),
        ("I rented a small VPS for this", None),
        ("This is on a Contabo VPS", "unnamed"),
        ("Running QEMU in a VM works fine", None),
        ("I am running Windows in a VM", None),
        ("My Debian 12 running in a VMware machine lacks vmx", "VMware"),
        ("Debian 12 running in VMware works", None),
        ("I start QEMU in a GitHub Codespace", "Hyper-V"),
        ("CPU: a CPU | RAM: 7/8 GB | DISK: 50 GB (ext4) | HOST: 6.6.12-linuxkit...", "Docker Desktop's VM"),
        ("[0.0] Linux version 4.14.29-linuxkit (gcc 6.4.0)", None),  # a guest may be built with it
        (
            "CPU mode 'host-model' for aarch64 qemu domain on aarch64 host is not supported by hypervisor on a Mac",
            "Apple's Hypervisor framework",
        ),
        ("CPU mode 'host-model' for aarch64 qemu domain on aarch64 host is not supported by hypervisor", None),
        ("The host is running on Oracle Cloud", "unnamed"),
        ("We are running on an AWS EC2 instance", "unnamed"),
        ("We are running on an AWS EC2 instance, i3.metal", None),
        ("The image works fine when running on AWS", None),
        ("gitpod /workspace/demo (main) $ qemu-system-x86_64 -accel kvm", "unnamed"),
        ("me@cloudshell:~$ qemu-system-x86_64 -accel kvm", "unnamed"),
    ],
)
def test_the_hypervisor_around_the_host(text: str, hypervisor: str | None) -> None:
    """Named by the kernel, lscpu, DMI or a cloud's own kernel; two names say nothing, nor does what a guest prints."""
    assert machine_of(text + "\n").hypervisor == hypervisor


def test_cpu_board_and_kernel() -> None:
    """/proc/cpuinfo repeats the name for each CPU; dmidecode has two lines; uname -a has the release."""
    text = (
        "model name\t: Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz\n" * 4
        + "System Information\n\tManufacturer: Dell Inc.\n\tProduct Name: PowerEdge R650\n"
        + "Linux pve1 6.8.12-4-pve #1 SMP PREEMPT_DYNAMIC PMX 6.8.12-4 x86_64 GNU/Linux\n"
    )
    machine = machine_of(text)
    assert machine.cpu_name == "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"
    assert machine.dmi == "Dell Inc. PowerEdge R650"
    assert machine.kernel == "6.8.12-4-pve"
    assert machine_of("model name : QEMU Virtual CPU version 2.5+\n").cpu_name is None
    booted = "[ 0.0] Command line: BOOT_IMAGE=/boot/vmlinuz-6.8.0-31-generic root=UUID=0 ro\n"
    assert machine_of(booted).kernel == "6.8.0-31-generic"
    assert machine_of(booted + FAILED).kernel is None  # may be the guest's own console


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("options kvm_intel nested=1 ept=0", {"kvm_intel.nested": "1", "kvm_intel.ept": "0"}),
        ("options kvm ignore_msrs=1", {"kvm.ignore_msrs": "1"}),
        ("# modprobe kvm-intel nested=Y", {"kvm_intel.nested": "Y"}),
        ("insmod ./kvm-amd.ko npt=0", {"kvm_amd.npt": "0"}),
        (
            "BOOT_IMAGE=/vmlinuz quiet kvm_amd.sev=1 kvm.nx_huge_pages=off",
            {"kvm_amd.sev": "1", "kvm.nx_huge_pages": "off"},
        ),
        ("/sys/module/kvm_intel/parameters/nested:Y", {"kvm_intel.nested": "Y"}),
        ("$ cat /sys/module/kvm_amd/parameters/sev_snp\nN", {"kvm_amd.sev_snp": "N"}),
        ("set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.", {}),
        ("kvm_intel.nested=1\nkvm_intel.nested=0", {}),
        ("the parameter kvm_intel nested", {}),
    ],
)
def test_parameters_of_modules(text: str, parameters: dict[str, str]) -> None:
    """modprobe.d, the kernel's command line, sysfs; the kernel's advice to set one is none."""
    assert machine_of(text + "\n").parameters == parameters


def test_all_of_it_is_in_the_record() -> None:
    """One text gives one Host."""
    text = "options kvm_amd nested=1\nqemu-system-x86_64 -machine q35 -cpu EPYC -m 2G -device vfio-pci\n" + FAILED
    host = host_of(text)
    assert (host.machine, host.cpu_model, host.devices, host.ram_bytes) == ("q35", "EPYC", ("vfio-pci",), 2 << 30)
    assert host.parameters == {"kvm_amd.nested": "1"}


@pytest.mark.parametrize(
    "piece",
    ["-cpu ", "Hardware name: ", "DMI: x",
     "Ubuntu (a ", "OS: in a ", "running QEMU in a ", "on a X VPS ",
     "Debian running in a ", "running on an AWS ", "gitpod /workspace ",
     "flags : ", "options kvm a=1 ", "/sys/module/kvm/parameters/a:", "Model name: ", "Linux a 6.1 #"],
)  # fmt: skip
def test_much_of_one_thing_ends(piece: str) -> None:
    """No pattern takes more than linear time."""
    for text in (piece * (200_000 // len(piece)), (piece + "\n") * (200_000 // len(piece))):
        machine_of(text)
