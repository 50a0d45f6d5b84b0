"""What a log says about how the VM is set up, and what the VMM and the guest's console remark on the way.

Command lines (QEMU's, also as libvirt writes them, with JSON), domain XML, and lines of VMMs and kernels that name a
kind of memory or device. Only names are taken, never a value that is a person's own.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from kvmwhy.deferred_re import deferred

Confidential = Literal["sev", "sev-es", "snp", "tdx", "pkvm"]

_OPTION: Final = deferred(
    r"(?<![\w-])-(?:device|object)[ =](?:'?\{[^{}\n]{0,40}?\"(?:driver|qom-type)\":\")?'?\"?([A-Za-z][\w.-]{1,40})"
)
_MACHINE: Final = deferred(
    r"(?<![\w-])-(?:machine|M)[ =](?:type=)?([a-z][\w.-]{1,40})(?![\w.-]*=)|\bmachine='([a-z][\w.-]{1,40})'"
)
_CPU: Final = deferred(r"(?<![\w-])-cpu[ =]([A-Za-z][\w.,+=-]{1,120})")
# A slug of Host.devices, and what names it wherever it stands. One word of QEMU, libvirt, a VMM's log or the kernel's.
_NAMED: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("vfio-pci", ("vfio-pci", "vfio_pci", "vfio: ", "vfio_container", "vfio_dma", "<hostdev ", "vfio-user", "VFIO")),
    ("cxl", ("cxl-type3", "cxl-fmw", "cxl=on", "cxl_", "CXL ", " cxl ", "pxb-cxl", "cxl/")),
    ("virtio-gpu", ("virtio-gpu", "virtio_gpu", "virtio-vga", "virtio::gpu")),
    ("gpu-blob", ("blob=on", "blob=true", "venus=", "rutabaga", "Venus")),
    ("virtiofs", ("vhost-user-fs", "virtiofs", "virtio-fs", "virtio_fs", "fs_slave_map", "vhost_user/fs")),
    ("/dev/shm", ("/dev/shm",)),  # noqa: S108  a name in a log
    ("hugetlb", ("/dev/hugepages", "hugetlb", "hugepages", "<hugepages")),
    ("balloon-report", ("free-page-reporting=on", "free-page-hint=on", "page_reporting")),
    ("cpu-pm", ("cpu-pm=on",)),
    ("numa-bound", ("policy=bind", "host-nodes=", "mode='strict'")),
)
_CONFIDENTIAL: Final[tuple[tuple[Confidential, tuple[str, ...]], ...]] = (
    ("tdx", ("tdx-guest", "tdx: ", "TD vp_enter_ret", "trust domain", "TDH_VP", "tdx_smp")),
    ("snp", ("sev-snp-guest", "SNP_LAUNCH", "sev_snp_", "SEV-SNP guest", "snp_launch")),
    ("sev-es", ("SEV-ES guest", "vmgexit: ", "GHCB")),
    ("sev", ("sev-guest", "SEV_LAUNCH", "sev_guest_init", "LAUNCH_MEASURE", "TEE/microVM")),
    ("pkvm", ("kvm-arm.mode=protected", "pkvm", "--protected-vm")),
)
# Remarks: a slug, what must be in the text for it to be looked for, and the line's form.
_REMARKS: Final[tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]] = (
    (
        "guest-restarts",  # kernel/reboot.c: machine_restart; systemd's Reboot target
        ("reboot: ", "Starting Reboot", "Restarting system"),
        deferred(r"reboot: (?:machine restart|Restarting system)|Starting Reboot\b|^Restarting system\.", re.MULTILINE),
    ),
    (
        "guest-powers-off",  # kernel/reboot.c: kernel_power_off, kernel_halt
        ("reboot: ",),
        deferred(r"reboot: (?:Power down|System halted)"),
    ),
    (
        "mmio-below-4-gib",  # Firecracker, Cloud Hypervisor, crosvm: an address that no device has
        ("MMIO", "mmio"),
        deferred(r"(?:[Mm][Mm][Ii][Oo])[^\n]{0,60}?\b0x(?:ffff)?ffff[f][0-9a-f]{3}\b"),
    ),
    (
        "qemu-assertion",  # assert() of glibc; QEMU's own are "file:line: function: Assertion `…' failed."
        ("ssertion",),
        deferred(r": Assertion `[^\n]{1,200}' failed|\bassertion failed:"),
    ),
    (
        "state-from-elsewhere",  # QEMU -incoming, TSC warning of its migration; VMMs' snapshots
        ("-incoming", "TSC frequency mismatch", "snapshot", "restor", "migrat"),
        deferred(
            r"(?<![\w-])-incoming\b|TSC frequency mismatch between VM"
            r"|\b(?:snapshot|migration|restore)\b[^\n]{0,60}?(?:fail|error|load)"
            r"|error while loading state|[Rr]estor(?:e|ing) (?:from|VM|the|snapshot|state)"
        ),
    ),
)


class VmContext(NamedTuple):
    """``devices``: drivers and objects of a command line, and slugs of what else is named."""

    devices: tuple[str, ...] = ()
    machine: str | None = None
    cpu_model: str | None = None
    confidential: Confidential | None = None
    remarks: tuple[str, ...] = ()


def vm_of(text: str) -> VmContext:
    """What one text says of its VM."""
    named = [slug for slug, marks in _NAMED if any(mark in text for mark in marks)]
    options = _OPTION.findall(text) if "-device" in text or "-object" in text else []
    machine = _MACHINE.search(text) if "-machine" in text or "-M " in text or "machine='" in text else None
    cpu = _CPU.search(text) if "-cpu" in text else None
    return VmContext(
        tuple(dict.fromkeys((*options, *named)))[:_MOST],
        machine and (machine[1] or machine[2]),
        cpu and cpu[1],
        next((kind for kind, marks in _CONFIDENTIAL if any(mark in text for mark in marks)), None),
        tuple(slug for slug, marks, form in _REMARKS if any(mark in text for mark in marks) and form.search(text)),
    )


_MOST: Final = 64
