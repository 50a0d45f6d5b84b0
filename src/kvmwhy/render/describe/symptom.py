"""A symptom in words: what it means, where the record of the failure is, and the next command."""

from __future__ import annotations

from typing import Final

from kvmwhy.record import Symptom

_MEANING: Final = {
    "internal-error-status": "QEMU stopped the VM because KVM_RUN failed or KVM reported an internal error",
    "cont-refused": (
        "QEMU will not continue this VM: it stopped for an internal error or a shutdown, and only a reset ends that"
    ),
    "paused-unknown": "libvirt does not know why QEMU paused the VM: mostly because KVM gave up",
    "paused-unexpectedly": "the manager saw the VM paused without having asked for it: an I/O error, or KVM gave up",
    "stop-event": "QEMU told its manager that it stopped the VM for an internal error",
}
_WHERE: Final = (
    "the record was printed to QEMU's stderr when it happened: with libvirt in /var/log/libvirt/qemu/NAME.log",
    "Proxmox has it in the journal (journalctl -t QEMU), KubeVirt in the virt-launcher pod's log",
    "while that QEMU still runs: kvmwhy attach --domain NAME, or kvmwhy attach PID, reads it from the vCPU",
    "beside it, the host's kernel log of that minute: journalctl -k",
)


def symptom(shown: Symptom) -> tuple[str, ...]:
    """Meaning first."""
    meaning = _MEANING.get(shown.kind)
    return (*((meaning,) if meaning else ()), *_WHERE)
