"""Hosts that are not Linux, and drivers beside KVM that only guests use."""

from __future__ import annotations

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read

TROUBLE = {
    # illumos usr/src/uts/i86pc/os/trap.c: die
    "illumos-module": (
        b'BAD TRAP: type=e (#pf Page fault) rp=ffffff007d4ed3a0 addr=0 occurred in module "kvm" due to a NULL pointer'
        b" dereference\n\nqemu-system-x86_:\n#pf Page fault\nBad kernel fault at addr=0x0\n"
    ),
    "illumos-process": (
        b'BAD TRAP: type=d (#gp General protection) rp=fffffb040f3cde70 addr=0 occurred in module "unix" due to an'
        b" illegal access to a user address\n\nqemu-system-x86_:\n#gp General protection\n"
    ),
    # Linux lib/bug.c: __warn, of drivers/gpu/drm/i915/gvt and drivers/vhost
    "gvt": b"[161869.136743] WARNING: CPU: 2 PID: 1460 at drivers/gpu/drm/i915/gvt/mmio.c:123"
    b" intel_vgpu_emulate_mmio_read+0x1f2/0x280\n",
    "vhost": b"[   57.2] WARNING: CPU: 1 PID: 99 at drivers/vhost/vhost.c:715 vhost_dev_cleanup+0x8b8/0xbc0\n",
}


@pytest.mark.parametrize("text", TROUBLE.values(), ids=TROUBLE)
def test_the_host_was_in_trouble(text: bytes) -> None:
    answer = diagnose(read(text).failures[0])
    assert answer.mechanism is not None
    assert answer.mechanism.id == "host-trouble"
    assert answer.origins[0].id == "host-kernel"


@pytest.mark.parametrize(
    "text",
    [
        b'BAD TRAP: type=e (#pf Page fault) rp=ffff00 addr=0 occurred in module "zfs" due to x\n\nzpool-rpool:\n',
        b"[   57.2] WARNING: CPU: 1 PID: 99 at drivers/gpu/drm/i915/display/intel_display.c:715 f+0x8b8/0xbc0\n",
        # drivers/iommu/intel/dmar.c: dmar_fault_do_one; drivers/pci/pci.c: pci_power_up
        b"[   12.3] DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0x7f000 [fault reason 0x06] PTE\n",
        b"[   12.3] nvme 0000:01:00.0: Unable to change power state from D3cold to D0, device inaccessible\n",
    ],
    ids=["zfs", "display", "dmar", "nvme"],
)
def test_other_trouble_is_none_of_kvms(text: bytes) -> None:
    assert not read(text).failures


def test_a_device_of_a_guest_is() -> None:
    """The same lines, where VFIO or the reporter says that a guest has the device."""
    line = b"DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0x7f000 [fault reason 0x06] PTE Read\n"
    assert read(b"[   12.1] vfio-pci 0000:03:00.0: enabling device (0000 -> 0003)\n[   12.3] " + line).failures
    assert read(b"When the VM starts, the host logs:\n[   12.3] " + line).failures


@pytest.mark.parametrize(
    ("line", "number", "meaning"),
    [
        (b"VMRESUME failed: error 7\n", 7, "invalid control fields"),
        (b"[hv] VMLAUNCH failed with error code: 8\n", 8, "invalid host-state fields"),
        (b"[*] VMLAUNCH Error : 0x5\n", 5, "not launched"),
        (b"hv: __vmx_vmlaunch failed, error=7\n", 7, "invalid control fields"),
    ],
)
def test_a_failed_entry_of_an_unknown_hypervisor(line: bytes, number: int, meaning: str) -> None:
    """KVM prints no such line, but a person may: the error is told (SDM vol. 3C, 31.4), and nothing is certain."""
    answer = diagnose(read(line).failures[0])
    assert answer.mechanism is not None
    assert (answer.mechanism.id, answer.mechanism.certainty) == ("not-this", "likely")
    assert f"error {number} (" in answer.mechanism.text
    assert meaning in answer.mechanism.text
    assert not any("no KVM is in this" in each.text for each in answer.advice)
