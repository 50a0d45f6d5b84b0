"""Assigned devices: vfio-pci-core.ko, vfio_iommu_type1.ko, irqbypass.ko, PCI, and the IOMMUs of Intel, AMD and Arm."""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

MESSAGES: Final[tuple[HostMessage, ...]] = (
    message(
        "vfio-bar-fault",
        "fault",
        form("%s(,order = %d) BAR %ld page offset 0x%lx: 0x%x", "function order bar offset result"),  # 6.12 on
    ),
    message(
        "device-reset-failed",
        "fault",
        form("not ready %dms after %s; giving up", "milliseconds reset"),  # drivers/pci/pci.c: pci_dev_wait
        form("not ready %dms after %s; waiting", "milliseconds reset"),
        form("%s: reset recovery - restoring BARs"),
        form("reset recovery - restoring BARs"),
        form("%s: Couldn't store saved state"),
        form("%s: Couldn't reload saved state"),
        form("Unable to change power state from %s to %s, device inaccessible", "old new"),
        form("can't change power state from %s to %s (config space inaccessible)", "old new"),
        form("Refused to change power state, currently in %s", "state"),
        form("runtime resume failed %d", "error"),
    ),
    message(
        "device-config-odd",
        "note",
        form("%s: hiding cap %#x@%#x", "_ capability offset"),
        form("%s: hiding ecap %#x@%#x", "_ capability offset"),
        form("%s: unknown length for PCI cap %#x@%#x", "_ capability offset"),
        form("%s: unknown length for PCI ecap %#x@%#x", "_ capability offset"),
        form("%s: PCI config conflict @%#x, was cap %#x now cap %#x"),
        form("%s: PCI config conflict @%#x, was ecap %#x now ecap %#x"),
        form("Masking broken INTx support"),
        form("Hardware bug: VF reports bogus INTx pin %d", "pin"),
        form("Failed to setup Intel IGD regions"),
        form("Failed to setup AtomicOps info capability"),
        form("enabling device (%s)", "how"),
    ),
    message(
        "device-refused",
        "refusal",
        form("%04x:%04x exists in vfio-pci device denylist, driver probing disallowed.", "vendor device"),
        form("Cannot bind to PF with SR-IOV enabled"),
        form("VF token required to access device"),
        form("VF token incorrectly provided, PF not bound to vfio-pci"),
        form("VF token incorrectly provided, not a PF or VF"),
        form("Incorrect VF token provided for device"),
        form("VF %s bound to driver %s while PF bound to driver %s", "device driver pf_driver"),
        form("VF %s bound to driver %s while PF bound to vfio-pci", "device driver"),
        form("Failed to iomap region %d", "region"),
        form("Failed to reserve region %d", "region"),
        form("BAR %d: can't reserve %s", "bar resource"),  # drivers/pci/pci.c
        form("Device is ineligible for IOMMU domain attach due to platform RMRR requirement."),
        form("Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device"),
    ),
    message(
        "device-taken-back",
        "note",
        form("Relaying device request to user (#%u)", "count"),
        form("No device request channel registered, blocked until released by user"),
        form('Device is currently in use, task "%s" (%d) blocked until device is released', "task pid"),
    ),
    message(
        "vfio-memory-lock",
        "refusal",
        form("%s: RLIMIT_MEMLOCK (%ld) exceeded", "_ limit"),
        form("%s: Task %s (%d) RLIMIT_MEMLOCK (%ld) exceeded", "_ task pid limit"),
    ),
    message(
        "vfio-no-interrupt-remapping",
        "refusal",
        form("%s: No interrupt remapping support."),
        form("%s: No interrupt remapping for irq"),
        form("%s failed to attach %s to group %d due to lack of interrupt remapping"),
    ),
    message("irq-bypass", "note", form("irq bypass %s (%s %p) %s fails: %d", "side _ _ what error")),
    # drivers/gpu/drm/i915/gvt: gvt_err and gvt_vgpu_err, 4.12 on
    message(
        "gvt-page-tables",
        "fault",
        form("gvt: guest page write error, gpa %llx", "gpa"),
        form("gvt: vgpu %d: fail: shadow page %p guest entry 0x%llx type %d", "vgpu _ entry type"),
        form("gvt: vgpu %d: fail: spt %p guest entry 0x%llx type %d", "vgpu _ entry type"),
    ),
    message(
        "iommu-fault",
        "fault",
        form(
            "[DMA %s] Request device [%s] PASID %s fault addr 0x%llx [fault reason 0x%02x] %s",
            "access device _ address reason text",
        ),  # 5.12 on
        form(
            "[DMA %s] Request device [%s] PASID %x fault addr %llx [fault reason %02d] %s",
            "access device _ address reason text",
        ),
        form(
            "[DMA %s] Request device [%s] fault addr 0x%llx [fault reason 0x%02x] %s",
            "access device address reason text",
        ),
        form(
            "[DMA %s] Request device [%s] fault addr %llx [fault reason %02d] %s", "access device address reason text"
        ),  # 3.16 to 5.11
        form(
            "[DMA %s NO_PASID] Request device [%s] fault addr 0x%llx [fault reason 0x%02x] %s",
            "access device address reason text",
        ),
        form(
            "[INTR-REMAP] Request device [%s] fault index 0x%llx [fault reason 0x%02x] %s",
            "device index reason text",
            access="interrupt",
        ),
        form(
            "[INTR-REMAP] Request device [%s] fault index %llx [fault reason %02d] %s",
            "device index reason text",
            access="interrupt",
        ),
        form("Event logged [IO_PAGE_FAULT domain=0x%04x address=0x%llx flags=0x%04x]", "domain address flags"),
        form(
            "Event logged [IO_PAGE_FAULT device=%s domain=0x%04x address=0x%llx flags=0x%04x]",
            "device domain address flags",
        ),
        form(
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=%s domain=0x%04x address=0x%llx flags=0x%04x]",
            "device domain address flags",
        ),
        form(
            "Event logged [RMP_PAGE_FAULT device=%s, vmg_tag=0x%04x, gpa=0x%llx, flags_rmp=0x%04x, flags=0x%04x]",
            "device _ address _ flags",
        ),
        form(
            "Event logged [RMP_PAGE_FAULT vmg_tag=0x%04x, gpa=0x%llx, flags_rmp=0x%04x, flags=0x%04x]",
            "_ address _ flags",
        ),
        form("Event logged [RMP_HW_ERROR %s]", "text"),
        form("Event logged [ILLEGAL_DEV_TABLE_ENTRY device=%s", "device"),
        form("Event logged [DEV_TAB_HARDWARE_ERROR device=%s", "device"),
        form("Event logged [PAGE_TAB_HARDWARE_ERROR device=%s", "device"),
        form("Event logged [IOTLB_INV_TIMEOUT device=%s", "device"),
        form("Event logged [INVALID_DEVICE_REQUEST device=%s", "device"),
        form("Event logged [Device not attached to domain properly]"),
        form("Completion-Wait loop timed out"),
        form("VT-d detected Invalidation %s Error: %s", "what text"),
        form("event 0x%02x received:", "event"),  # arm-smmu-v3
        form("Unhandled context fault: fsr=0x%x, iova=0x%08llx, fsynr=0x%x", "fsr address fsynr"),  # arm-smmu
    ),
)
