"""A symptom in words: what it means, where the record of the failure is, and the next command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvmwhy.record import Symptom

_MEANING: Final = {
    "internal-error-status": "QEMU stopped the VM because KVM_RUN failed or KVM reported an internal error",
    "cont-refused": (
        "QEMU will not continue this VM: it stopped for an internal error or a shutdown, and only a reset ends that"
    ),
    "paused-unknown": "libvirt does not know why QEMU paused the VM: mostly because KVM gave up",
    "paused-unexpectedly": "the manager saw the VM paused without having asked for it: an I/O error, or KVM gave up",
    "reset-logged": "QEMU logged the registers of a CPU that was reset while it ran",
    "gvisor-stuck": "gVisor waits for a vCPU that does not come back from the guest",
    "gvisor-trace": "gVisor's sandbox died in its KVM platform; a Go trace shows where, not how KVM_RUN ended",
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
    if shown.kind == "reset-logged":
        return (
            _MEANING[shown.kind],
            "a triple fault ends so, but so does a reset that the guest or somebody else asked for",
        )
    if (own := _OWN_WORDS.get(shown.kind)) is not None:
        return own(shown.fields)
    meaning = _MEANING.get(shown.kind)
    return (*((meaning,) if meaning else ()), *_WHERE)


def _gvisor(kind: str) -> tuple[str, ...]:
    return (
        _MEANING[kind],
        "runsc --debug --debug-log=DIR writes what the sandbox said before; the host's kernel log may have the rest",
        "runsc --platform=systrap runs the same without KVM",
    )


def _healthy(fields: dict[str, int | str]) -> tuple[str, ...]:
    first, last = fields.get("first_ns"), fields.get("last_ns")
    span = f" in {(last - first) / 1e6:,.3f} ms" if isinstance(first, int) and isinstance(last, int) else ""
    events = f"{fields['events']:,} events" if isinstance(fields.get("events"), int) else "the events that were read"
    return (
        f"{events}{span}, and none of them is a failure; the last one is {fields.get('ends_in', 'not known')}",
        "record on until it happens: trace-cmd record -e kvm, or kvmwhy watch, which keeps only what came before",
    )


def _repeats(fields: dict[str, int | str]) -> tuple[str, ...]:
    address = fields.get("address")
    where = f", for the guest's address {address:#x}" if isinstance(address, int) else ""
    return (
        (
            f"the last {fields.get('repeats')} exits are the same{where}, without a return to the VMM between them:"
            " the guest makes no progress"
        ),
    )


def _crashed(fields: dict[str, int | str]) -> tuple[str, ...]:
    reason = fields.get("reason")
    return (_CRASHES.get(str(reason), "the guest's CPU stopped for good"), f"QEMU and libvirt call this {reason}")


_CRASHES: Final = {  # qapi/run-state.json: S390CrashReason
    "disabled-wait": "the guest loaded a PSW that waits with interrupts disabled: it stopped itself, and the address"
    " in that PSW is its code for why",
    "pgmint-loop": "the guest's new PSW for program interruptions causes one itself, for ever",
    "extint-loop": "the guest's new PSW for external interruptions admits the next one at once, for ever",
    "opint-loop": "the guest's new PSW for operation exceptions causes one itself, for ever",
}
_OWN_WORDS: Final[dict[str, Callable[[dict[str, int | str]], tuple[str, ...]]]] = {
    "healthy-trace": _healthy,
    "exit-repeats": _repeats,
    "guest-crashed": _crashed,
    "gvisor-stuck": lambda _: _gvisor("gvisor-stuck"),
    "gvisor-trace": lambda _: _gvisor("gvisor-trace"),
}
