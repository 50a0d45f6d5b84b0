"""What stands beside a failure: versions, RAM and vendor, and what only looks like them."""

from __future__ import annotations

import pytest

from kvmwhy.readers import read
from kvmwhy.record import Host

FAILURE = "KVM: unknown exit reason 41\n"
MIB, GIB = 1 << 20, 1 << 30


def host_beside(text: str) -> Host:
    """Of the VMM's record: a kernel's line is a record of its own."""
    (host,) = (f.host for f in read(f"{text}\n{FAILURE}".encode()).failures if f.source.vmm == "qemu")
    return host


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("2026-01-02: starting up libvirt version: 9.0.0, qemu version: 7.2.0, kernel: 6.1.0-13-amd64, hostname: a",
         "6.1.0-13-amd64"),
        ("Host kernel: 6.12.8", "6.12.8"),
        ("kernel:5.10.0", "5.10.0"),
        ("CPU: 3 PID: 1234 Comm: CPU 0/KVM Not tainted 5.10.0-46-cloud-amd64 #1", None),  # the name has a space
        ("CPU: 3 PID: 1234 Comm: qemu-kvm Not tainted 5.10.0-46-cloud-amd64 #1", "5.10.0-46-cloud-amd64"),
        ("CPU: 3 UID: 0 PID: 1234 Comm: qemu Tainted: G        W  O  6.12.8+deb13 #1", "6.12.8+deb13"),
        ("guest kernel: 6.5.0", None),
        ("Guest kernel: 6.5.0", None),
        ("Jan 02 03:04:05 host kernel: [  123.456789] kvm: something", None),
        ("Jan 02 03:04:05 host kernel: 12.5] kvm: something", None),
        ("kernel: 6.1.0\nkernel: 6.12.8", None),
        ("kernel: 6.1.0\nkernel: 6.1.0", "6.1.0"),
    ],
)  # fmt: skip
def test_kernel(text: str, kernel: str | None) -> None:
    """The host's kernel, where the text says whose it is; two different ones say nothing."""
    assert host_beside(text).kernel == kernel


@pytest.mark.parametrize(
    ("text", "qemu"),
    [
        ("starting up libvirt version: 9.0.0, qemu version: 7.2.0Debian 1:7.2+dfsg-7, kernel: 6.1", "7.2.0"),
        ("qemu version: 10.0.13", "10.0.13"),
        ("QEMU 7.2.22 monitor - type 'help' for more information", "7.2.22"),
        ("QEMU 7.2.22 is old", None),
        ("qemu version: 7.2.0\nqemu version: 8.0.0", None),
    ],
)
def test_qemu(text: str, qemu: str | None) -> None:
    """libvirt's line, or the monitor's greeting."""
    assert host_beside(text).qemu == qemu


@pytest.mark.parametrize(
    ("text", "ram"),
    [
        ("qemu-system-x86_64 -m 512", 512 * MIB),
        ("qemu-system-x86_64 -m 4G -smp 2", 4 * GIB),
        ("/usr/bin/kvm -id 100 -m 2048 -cpu host", 2 * GIB),
        ("qemu-system-x86_64 -m 8388608k", 8 * GIB),
        ("qemu-system-x86_64 -m size=1G,slots=4,maxmem=8G", GIB),
        ("qemu-system-x86_64 -m=16M", 16 * MIB),
        ('qemu-system-x86_64 "-m" "1G"', None),
        ("/usr/bin/qemu-system-x86_64 \\\n-name guest=a \\\n-m size=8388608k \\\n-smp 1 \\", 8 * GIB),
        ("-machine pc -m 16M", 16 * MIB),
        ("-enable-kvm -m 16M", 16 * MIB),
        ("-accel whpx -m 16M", 16 * MIB),
        ("chmod -m 5 file", None),
        ("mkdir -m 755 /srv", None),
        ("run -m 5", None),
        ("the option -m 5 \\", None),
        ("qemu-system-x86_64 -m 0", None),
        ("qemu-system-x86_64 -m 512\nqemu-system-x86_64 -m 1024", None),
        ("qemu-system-x86_64 -m 512\nqemu-system-x86_64 -m 512", 512 * MIB),
        ("qemu-system-x86_64 -m 99999999999T", None),
        ("qemu-system-x86_64 -m 512Q", None),
        ("qemu-system-x86_64 -mem-path 512", None),
    ],
)
def test_ram(text: str, ram: int | None) -> None:
    """-m is in MiB unless it has a unit, and is RAM only on a command line of QEMU."""
    assert host_beside(text).ram_bytes == ram


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("modprobe kvm_intel nested=1", "vmx"),
        ("kvm_amd: Nested Virtualization enabled", "svm"),
        ("kvm_pvm loaded", "pvm"),
        ("kvm [123]: vcpu0, guest rIP: 0x0 vmx: unexpected exit reason 0x33", "vmx"),
        ("kvm [123]: vcpu0, guest rIP: 0x0 svm: unexpected exit reason 0x33", "svm"),
        ("qemu: warning: host doesn't support requested feature: MSR(48BH).vmx-shadow-vmcs [bit 14]", "vmx"),
        ("*** Guest State ***", "vmx"),
        ("kvm_intel: VMCS 00000000, last attempted VM-entry on CPU 3", "vmx"),
        ("kvm: vmptrld           (null)/778000000000 failed", "vmx"),
        ("VMCB Control Area:", "svm"),
        ("SEAMCALL (0x0000000000000002) failed\nkvm_intel: TDX", "tdx"),
        ("kvm [123]: TD vp_enter_ret 0x8000ff0000000000", "tdx"),
        ("load kvm_intel or kvm_amd", None),
        ("kvm_intel here\nVMCB Control Area:", None),
        ("VMX: the guest's own message", None),
        ("a guest says VMCB", None),
        ("nothing", None),
    ],
)
def test_vendor(text: str, vendor: str | None) -> None:
    """Only what one vendor's host prints names it, and two vendors name none."""
    host = host_beside(text)
    assert host.vendor == vendor
    assert (host.vendor_from is None) == (vendor is None)


def test_remarks_between_two_dumps_count() -> None:
    """Intact dumps are left out of the search, not what stands around them."""
    dump = "EAX=00000000\n"
    assert host_beside(f"{dump}kvm_intel\n{dump}").vendor == "vmx"
